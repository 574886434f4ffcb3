"""Redis and Valkey as a durable transport: a stream and consumer groups for each channel.

What is published is an entry of the stream `wintry:{CHANNEL}`; the braces keep a channel's keys in one slot. A group is
made at the stream's beginning, so it is given what was published before it came. Each listener is a consumer of its own
and reads in a loop on a connection of its own: after every connection first what it is owed already (the reply may
have been lost), then what others left, then what is new. An entry in somebody's hands stays pending and is renewed; one
that nobody has renewed for `lease` seconds is claimed by another listener. What is given back is handed to the
consumer `released`, as an entry that was last touched long ago, and so is claimed by the next who looks.

A dead letter moves to `wintry:{CHANNEL}:dead` in the transaction that acknowledges it. Entries are removed once every
group has acknowledged them and they are `retention` seconds old, never before. A listener without a group follows the
stream from its end on and settles nothing. Nothing ends a listener: it connects again, and makes a lost group again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from wintry.bus.transports import Caps, TransportMessage

from .redis_bridge import Bridge
from .redis_client import LOST, REPLY, Client, connect, reached, wait_before
from .redis_wire import DEAD, decoded, encoded, stream_of

logger = logging.getLogger("wintry.web")

RELEASED: Final = "released"
BLOCK: Final = 1.0
"""How many seconds a read waits for the next entry, which is how late a listener sees what others gave back."""

FORGET: Final = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local found = {}
  for n = 1, #consumer, 2 do found[consumer[n]] = consumer[n + 1] end
  if found['pending'] == 0 and found['idle'] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], found['name'])
  end
end"""
"""Remove the consumers that have nothing pending and have not asked for so many milliseconds."""
FORGOTTEN_AFTER: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that a listener of `group` could not deal with."""

    channel: str
    group: str
    message: TransportMessage
    reason: str


class RedisStreams:
    """A transport on Redis; `owner` names this process, `lease` and `retention` are seconds.

    With `bridge`, what is sent to a channel by a plain PUBLISH is heard as well, as long as somebody listens to it.
    """

    caps = Caps(durable=True, groups=True, broadcast=True, attempts=True, dead_letters=True)

    def __init__(
        self, url: str, *, owner: str, lease: float = 40.0, retention: float = 86_400.0, bridge: bool = True
    ) -> None:
        self.url = url
        self.owner = owner
        self.lease = lease
        self.client: Client = connect(url)
        self._retention = round(retention * 1000)
        self._bridge = Bridge(url, owner) if bridge else None
        self._hands: set[Hands] = set()
        self._channels: set[str] = set()
        self._listeners = 0
        self._keeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # sending

    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        """Add messages to the stream; returns when the broker has them all.

        Raises:
            ConnectionError: it cannot be reached; a part of the messages may be there.
        """
        if messages:
            self._channels.add(channel)
            async with reached(), self.client.pipeline(transaction=True) as pipe:
                for message in messages:
                    pipe.xadd(stream_of(channel), encoded(message))
                await pipe.execute()

    # receiving

    async def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncGenerator[RedisDelivery]:
        """Messages of a channel; see `Transport.receive`. A broker that is away is waited for."""
        self._listeners += 1
        hands = Hands(self, channel, group, f"{self.owner}:{self._listeners}", prefetch)
        reader = connect(self.url, again=False)
        self._channels.add(channel)
        self._hands.add(hands)
        if self._bridge is not None:
            self._bridge.add(channel)
        follow = Following(reader, hands) if group is None else Competing(reader, hands)
        try:
            failures = 0
            while True:
                await hands.free()
                try:
                    async with asyncio.timeout(BLOCK + REPLY):
                        taken = await follow.read()
                except LOST as error:
                    failures += 1
                    await wait_before(failures, f"listening to {channel!r}", error)
                    follow.reconnected()
                    continue
                failures = 0
                for delivery in taken:
                    yield delivery
        finally:
            self._hands.discard(hands)
            if self._bridge is not None:
                self._bridge.remove(channel)
            hands.lose_all()
            self.spawn(reader.aclose())

    def lost(self, channel: str, group: str) -> None:
        """Something of a group was given back: its listeners in this process look at once."""
        for hands in self._hands:
            if (hands.channel, hands.group) == (channel, group):
                hands.look = True

    async def parked(self, channel: str, *, limit: int = 100) -> list[Parked]:
        """The dead letters of a channel, oldest first."""
        async with reached():
            entries = await self.client.xrange(stream_of(channel) + DEAD, count=limit)
        return [_parked(channel, id, fields) for id, fields in entries]

    # life

    async def start(self) -> None:
        """Begin to renew what listeners hold. A broker that is down is connected to once it is there."""
        if self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def check(self) -> None:
        """Raises ConnectionError if the broker does not answer."""
        async with reached():
            await self.client.execute_command("PING")

    async def stop(self) -> None:
        """Disconnect; what is held is free for others at once."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        if self._bridge is not None:
            await self._bridge.stop()
        for hands in self._hands:
            hands.lose_all()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.aclose()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something to its end that nobody waits for; `stop` does."""

        async def done() -> None:
            try:
                await work
            except LOST as error:
                logger.warning("redis: %r; what is still held is given to others when its lease ends", error)

        task = asyncio.get_running_loop().create_task(done())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self) -> None:
        """Three times in a lease: renew, and see to what is over."""
        while True:
            await asyncio.sleep(self.lease / 3)
            try:
                for hands in [*self._hands]:
                    hands.look = True
                    async with reached():
                        await hands.renew()
                for channel in [*self._channels]:
                    async with reached():
                        await self._tidy(channel)
            except LOST as error:
                logger.warning("redis: renewing failed with %r; it is tried again", error)
            except Exception:
                logger.exception("redis: renewing failed; it is tried again")

    async def _tidy(self, channel: str) -> None:
        """Remove old entries that every group has acknowledged, and consumers that have gone."""
        stream = stream_of(channel)
        seconds = (await self.client.time())[0]
        oldest = (seconds * 1000 - self._retention, 0)
        try:
            groups = await self.client.xinfo_groups(stream)
        except ResponseError:  # there is no stream
            return
        for group in groups:
            if group["pending"]:
                least = (await self.client.xpending(stream, group["name"]))["min"]
                oldest = min(oldest, _number(least))
            oldest = min(oldest, _number(group["last-delivered-id"]))
            await self.client.execute_command("EVAL", FORGET, 1, stream, group["name"], FORGOTTEN_AFTER)
        if oldest > (0, 0):
            await self.client.execute_command("XTRIM", stream, "MINID", "{}-{}".format(*oldest))


class Hands:
    """What one listener holds, by the ids of the entries."""

    def __init__(self, transport: RedisStreams, channel: str, group: str | None, consumer: str, limit: int) -> None:
        self.transport = transport
        self.client = transport.client
        self.channel = channel
        self.stream = stream_of(channel)
        self.group = group
        self.consumer = consumer
        self.held: set[bytes] = set()
        self.look = True  # there may be something that others left
        self._limit = limit
        self._changed = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more may be given out."""
        return self._limit - len(self.held)

    async def free(self) -> None:
        """Wait until there is room."""
        while self.room <= 0:
            self._changed.clear()
            await self._changed.wait()

    def take(self, id: bytes, fields: dict[bytes, bytes], attempt: int) -> RedisDelivery:
        self.held.add(id)
        return RedisDelivery(self, id, decoded(self.channel, id, fields), fields, attempt)

    def give_up(self, id: bytes) -> bool:
        """Whether it was held; settling twice does nothing."""
        if id not in self.held:
            return False
        self.held.remove(id)
        self._changed.set()
        return True

    async def give_back(self, counts: dict[bytes, int | None]) -> None:
        """Let others have these entries, counted as given out so often; None leaves the count."""
        assert self.group is not None
        async with reached(), self.client.pipeline(transaction=True) as pipe:
            for id, count in counts.items():
                counted = () if count is None else ("RETRYCOUNT", count)
                words = (RELEASED, 0, id, "TIME", 1, *counted, "JUSTID")
                pipe.execute_command("XCLAIM", self.stream, self.group, *words, parse_justid=True)
            await pipe.execute()
        self.transport.lost(self.channel, self.group)

    async def renew(self) -> None:
        """Begin the lease of what is held anew, unless it has come into other hands."""
        if self.group is None or not self.held:
            return
        pending = await self.client.xpending_range(
            self.stream, self.group, "-", "+", 2 * self._limit, consumername=self.consumer
        )
        mine = [entry["message_id"] for entry in pending if entry["message_id"] in self.held]
        if mine:
            words = (self.consumer, 0, *mine, "JUSTID")
            await self.client.execute_command("XCLAIM", self.stream, self.group, *words, parse_justid=True)

    def lose_all(self) -> None:
        """The listener is gone."""
        if self.held and self.group is not None:
            self.transport.spawn(self.give_back(dict.fromkeys(self.held)))
        self.held.clear()


class RedisDelivery:
    """One message in the hands of one listener."""

    def __init__(
        self, hands: Hands, id: bytes, message: TransportMessage, fields: dict[bytes, bytes], attempt: int
    ) -> None:
        self.message = message
        self.attempt = attempt
        self._hands = hands
        self._id = id
        self._fields = fields

    async def ack(self) -> None:
        await self._settle(self._acknowledge)

    async def park(self, reason: str) -> None:
        if self._hands.group is None:
            logger.error("%r: message %s is dropped: %s", self._hands.channel, self.message.id, reason)
        await self._settle(partial(self._bury, reason))

    async def release(self) -> None:
        await self._settle(lambda: self._hands.give_back({self._id: self.attempt - 1}))

    async def _settle(self, work: Callable[[], Awaitable[None]]) -> None:
        """Settle once; a message that everybody hears belongs to nobody, and there is nothing to settle."""
        if self._hands.give_up(self._id) and self._hands.group is not None:
            await work()

    async def _acknowledge(self) -> None:
        async with reached():
            await self._hands.client.execute_command("XACK", self._hands.stream, self._hands.group, self._id)

    async def _bury(self, reason: str) -> None:
        hands = self._hands
        async with reached(), hands.client.pipeline(transaction=True) as pipe:
            fields: dict[Any, Any] = {**self._fields, b"group": hands.group, b"reason": reason}
            fields.setdefault(b"id", self.message.id)
            pipe.xadd(hands.stream + DEAD, fields)
            pipe.execute_command("XACK", hands.stream, hands.group, self._id)
            await pipe.execute()


class Following:
    """The reading of a listener that hears every message from its start on."""

    def __init__(self, reader: Client, hands: Hands) -> None:
        self._reader = reader
        self._hands = hands
        self._last: bytes | None = None

    def reconnected(self) -> None:
        """It goes on behind the last entry that it saw."""

    async def read(self) -> list[RedisDelivery]:
        """The next entries, none after a while without any."""
        hands = self._hands
        if self._last is None:
            newest = await hands.client.xrevrange(hands.stream, count=1)
            self._last = newest[0][0] if newest else b"0-0"
        found = await self._reader.xread({hands.stream: self._last}, count=hands.room, block=round(BLOCK * 1000))
        taken = [hands.take(id, fields, 1) for _, entries in found for id, fields in entries]
        if found:
            self._last = found[0][1][-1][0]
        return taken


class Competing:
    """The reading of a listener that shares the messages with its group."""

    def __init__(self, reader: Client, hands: Hands) -> None:
        self._reader = reader
        self._hands = hands
        self._joined = False
        self._owed = True

    def reconnected(self) -> None:
        """What was on its way is owed."""
        self._owed = self._hands.look = True

    async def read(self) -> list[RedisDelivery]:
        """The next entries, none after a while without any; a group that is not there is made, at the beginning."""
        try:
            if not self._joined:
                await self._join()
            if self._owed:
                return await self._own()
            if self._hands.look:
                return await self._left()
            return await self._new()
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            logger.warning("%r has lost its group %r, which is made again", self._hands.channel, self._hands.group)
            self._joined = False
            return []

    async def _join(self) -> None:
        hands = self._hands
        try:
            await self._reader.execute_command("XGROUP", "CREATE", hands.stream, hands.group, "0", "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # it is there
                raise
        self._joined = True

    async def _own(self) -> list[RedisDelivery]:
        """What this consumer was given and has never seen."""
        hands = self._hands
        found = await self._group_read("0", [], hands.room + len(hands.held))
        self._owed = False
        return await self._given([(id, fields) for id, fields in found if id not in hands.held])

    async def _left(self) -> list[RedisDelivery]:
        """What others gave back, or have not renewed."""
        hands = self._hands
        hands.look, wanted = False, hands.room
        idle = round(hands.transport.lease * 1000)
        reply = await self._reader.execute_command(
            "XAUTOCLAIM", hands.stream, hands.group, hands.consumer, idle, "0", "COUNT", wanted
        )
        entries = [(id, fields) for id, fields in reply[1] if id is not None and id not in hands.held]
        hands.look = hands.look or len(entries) == wanted or reply[0] != b"0-0"
        return await self._given(entries)

    async def _new(self) -> list[RedisDelivery]:
        found = await self._group_read(">", ["BLOCK", round(BLOCK * 1000)], self._hands.room)
        return [self._hands.take(id, fields, 1) for id, fields in found]

    async def _group_read(self, after: str, block: list[Any], count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        hands = self._hands
        reply = await self._reader.execute_command(
            "XREADGROUP", "GROUP", hands.group, hands.consumer, "COUNT", count, *block, "STREAMS", hands.stream, after
        )
        return [(id, fields) for _, entries in reply or () for id, fields in entries]

    async def _given(self, entries: list[tuple[bytes, dict[bytes, bytes] | None]]) -> list[RedisDelivery]:
        """Deliveries of entries that were given out before, and how often; those that were deleted are done."""
        hands = self._hands
        taken = []
        for id, fields in entries:
            if not fields:
                await self._reader.execute_command("XACK", hands.stream, hands.group, id)
                continue
            pending = await self._reader.xpending_range(hands.stream, hands.group, id, id, 1)
            taken.append(hands.take(id, fields, pending[0]["times_delivered"] if pending else 1))
        return taken


def _parked(channel: str, id: bytes, fields: dict[bytes, bytes]) -> Parked:
    group, reason = fields.pop(b"group"), fields.pop(b"reason")
    return Parked(channel, group.decode(), decoded(channel, id, fields), reason.decode(errors="replace"))


def _number(id: bytes | str) -> tuple[int, int]:
    milliseconds, _, sequence = (id.decode() if isinstance(id, bytes) else id).partition("-")
    return int(milliseconds), int(sequence)

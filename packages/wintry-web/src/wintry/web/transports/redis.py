"""Redis and Valkey as a durable transport: a stream and consumer groups for each channel.

What is published is an entry of the stream `wintry:{CHANNEL}`; the braces keep a channel's keys in one slot. A group is
made at the stream's beginning, so it is given what was published before it came. Each listener is a consumer of its own
and reads in a loop on a connection of its own: after every connection first what it is owed already (the reply may
have been lost), then what others left, then what is new (`redis_reading`). An entry in somebody's hands stays pending
and is renewed (`redis_hands`); one that nobody has renewed for `lease` seconds is claimed by another listener. What is
given back is handed to the consumer `released`, as an entry that was last touched long ago, and so is claimed by the
next who looks.

A dead letter moves to `wintry:{CHANNEL}:dead` in the transaction that acknowledges it. Entries are removed once every
group has acknowledged them and they are `retention` seconds old, never before; those of a channel without groups at
that age. A listener without a group follows the stream from its end on and settles nothing. Nothing ends a listener:
it connects again, and makes a lost group again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import ResponseError

from wintry.bus.transports import Caps, TransportMessage

from .redis_bridge import Bridge
from .redis_client import LOST, REPLY, Client, connect, reached, wait_before
from .redis_hands import Hands, RedisDelivery
from .redis_reading import BLOCK, Competing, Following
from .redis_wire import DEAD, decoded, encoded, stream_of

logger = logging.getLogger("wintry.web")

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

    caps = Caps(durable=True, groups=True, broadcast=True, attempts=True, dead_letters=True, envelope=True)

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

        Where a reply is lost the messages are sent once more, so that an entry may be there twice, under one id.

        Raises:
            ConnectionError: it cannot be reached; the messages may be there all the same.
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
            self._leave(hands)
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
            self._leave(hands)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.client.aclose()

    def _leave(self, hands: Hands) -> None:
        if held := hands.close():
            self.spawn(hands.give_back(held))

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
                    await _seen_to(hands.stream, hands.renew())
                for channel in [*self._channels]:
                    await _seen_to(channel, self._tidy(channel))
            except (ConnectionError, TimeoutError) as error:
                logger.warning("redis: renewing failed with %r; it is tried again", error)

    async def _tidy(self, channel: str) -> None:
        """Remove old entries that every group has acknowledged, and consumers that have gone."""
        stream = stream_of(channel)
        seconds, microseconds = await self.client.time()
        oldest = (seconds * 1000 + microseconds // 1000 - self._retention, 0)
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


async def _seen_to(place: str, work: Coroutine[Any, Any, None]) -> None:
    """Do a part of what is due: what is wrong with it keeps nothing else from being done, but a broker that is away."""
    try:
        async with reached():
            await work
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        logger.exception("redis: renewing %s failed; it is tried again", place)


def _parked(channel: str, id: bytes, fields: dict[bytes, bytes]) -> Parked:
    group, reason = fields.pop(b"group"), fields.pop(b"reason")
    return Parked(channel, group.decode(), decoded(channel, id, fields), reason.decode(errors="replace"))


def _number(id: bytes | str) -> tuple[int, int]:
    milliseconds, _, sequence = (id.decode() if isinstance(id, bytes) else id).partition("-")
    return int(milliseconds), int(sequence)

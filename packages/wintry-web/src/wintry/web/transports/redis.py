"""Redis and Valkey as a durable transport: a stream and consumer groups for each channel.

What is published is an entry of the stream `wintry:{CHANNEL}`; the braces keep a channel's keys in one slot. A group is
made at the stream's beginning, so it is given what was published before it came. Each listener is a consumer of its own
and reads in a loop on a connection of its own: after every connection first what it is owed already (the reply may
have been lost), then what others left, then what is new (`redis_reading`). An entry in somebody's hands stays pending
and is renewed (`lending`, `redis_hands`); one that nobody has renewed for `lease` seconds is claimed by another.

A dead letter moves to `wintry:{CHANNEL}:dead` in the transaction that acknowledges it. Entries are removed once every
group has acknowledged them and they are `retention` seconds old, never before; those of a channel without groups at
that age. A listener without a group follows the stream from its end on and settles nothing. Nothing ends a listener:
it connects again, and makes a lost group again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from redis.exceptions import ResponseError

from wintry.bus.transports import Caps, Delivery, Parked, TransportMessage

from .lending import Lender
from .redis_bridge import Bridge
from .redis_client import LOST, Client, connect, reached
from .redis_hands import RedisHands
from .redis_reading import Competing, Following, Reading
from .redis_wire import DEAD, decoded, encoded, stream_of

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


class RedisStreams(Lender[Reading]):
    """A transport on Redis; `owner` names this process, `lease` and `retention` are seconds.

    With `bridge`, what is sent to a channel by a plain PUBLISH is heard as well, as long as somebody listens to it.
    """

    broker = "redis"
    lost = LOST
    caps = Caps(durable=True, groups=True, broadcast=True, attempts=True, dead_letters=True, envelope=True)

    def __init__(
        self, url: str, *, owner: str, lease: float = 40.0, retention: float = 86_400.0, bridge: bool = True
    ) -> None:
        super().__init__(lease=lease)
        self.url = url
        self.owner = owner
        self.client: Client = connect(url)
        self._retention = round(retention * 1000)
        self._bridge = Bridge(url, owner) if bridge else None
        self._listeners = 0

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

    async def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncGenerator[Delivery]:
        """Messages of a channel; see `Transport.receive`. A broker that is away is waited for."""
        self._listeners += 1
        hands = RedisHands(self, channel, group, f"{self.owner}:{self._listeners}", prefetch)
        reading = (Following if group is None else Competing)(connect(self.url, again=False), hands)
        if self._bridge is not None:
            self._bridge.add(channel)
        try:
            async with aclosing(self._lent(channel, reading)) as given:
                async for delivery in given:
                    yield delivery
        finally:
            if self._bridge is not None:
                self._bridge.remove(channel)
            self._spawn(reading.close())

    def lost_by(self, channel: str, group: str) -> None:
        """Something of a group was given back: its listeners in this process look at once."""
        for reading in self._readings:
            if (reading.hands.channel, reading.hands.group) == (channel, group):
                reading.hands.look = True

    async def parked(self, channel: str, *, limit: int = 100) -> list[Parked]:
        """The dead letters of a channel, oldest first."""
        async with reached():
            entries = await self.client.xrange(stream_of(channel) + DEAD, count=limit)
        return [_parked(channel, id, fields) for id, fields in entries]

    # life

    async def check(self) -> None:
        """Raises ConnectionError if the broker does not answer."""
        async with reached():
            await self.client.execute_command("PING")

    async def _disconnect(self) -> None:
        if self._bridge is not None:
            await self._bridge.stop()
        await self.client.aclose()

    async def _tidy(self, channel: str) -> None:
        """Remove old entries that every group has acknowledged, and consumers that have gone."""
        stream = stream_of(channel)
        async with reached():
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


def _parked(channel: str, id: bytes, fields: dict[bytes, bytes]) -> Parked:
    group, reason = fields.pop(b"group"), fields.pop(b"reason")
    return Parked(channel, group.decode(), decoded(channel, id, fields), reason.decode(errors="replace"))


def _number(id: bytes | str) -> tuple[int, int]:
    milliseconds, _, sequence = (id.decode() if isinstance(id, bytes) else id).partition("-")
    return int(milliseconds), int(sequence)

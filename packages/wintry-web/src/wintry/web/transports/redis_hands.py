"""What a listener holds, and how it is settled.

An entry in somebody's hands stays pending and is renewed. While the broker is away an acknowledgement, and a burial,
waits for it and is sent again until it is taken: it has happened, and the entry must not be handled once more because
of it. Each can be repeated, since acknowledging twice does nothing, and a dead letter is added only by whoever
acknowledges. What is given back, on the contrary, is tried once: if that fails its lease ends by itself. Renewing and
giving back touch only what nobody else has claimed meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from wintry.bus.transports import TransportMessage

from .redis_client import LOST, Client, reached, wait_before
from .redis_wire import DEAD, decoded, stream_of

logger = logging.getLogger("wintry.web")

RELEASED: Final = "released"
"""The consumer that has what was given back."""

RENEW: Final = """
for n = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[n], ARGV[n], 1, ARGV[2]) == 1 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[n], 'JUSTID')
  end
end"""
GIVE_BACK: Final = f"""
for n = 3, #ARGV, 2 do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[n], ARGV[n], 1, ARGV[2]) == 1 then
    local call = {{'XCLAIM', KEYS[1], ARGV[1], '{RELEASED}', 0, ARGV[n], 'TIME', 1, 'JUSTID'}}
    if ARGV[n + 1] ~= '' then
      call[#call + 1] = 'RETRYCOUNT'
      call[#call + 1] = ARGV[n + 1]
    end
    redis.call(unpack(call))
  end
end"""
BURY: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 1 then
  redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
end"""


class Owner(Protocol):
    """Whose listener it is."""

    @property
    def client(self) -> Client: ...
    @property
    def lease(self) -> float: ...
    def lost(self, channel: str, group: str) -> None: ...


class Hands:
    """What one listener holds, by the ids of the entries: `limit` at most."""

    def __init__(self, owner: Owner, channel: str, group: str | None, consumer: str, limit: int) -> None:
        self.client = owner.client
        self.channel = channel
        self.stream = stream_of(channel)
        self.group = group
        self.consumer = consumer
        self.lease = owner.lease
        self.held: set[bytes] = set()
        self.look = True  # there may be something that others left
        self.closed = False
        self._owner = owner
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

    def let_go(self, id: bytes) -> None:
        """There is room for another one."""
        self.held.discard(id)
        self._changed.set()

    async def insist(self, doing: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something that must happen, as soon as the broker is there; not any more when the listener has gone."""
        failures = 0
        while not self.closed:
            try:
                await work()
                return
            except LOST as error:
                failures += 1
                await wait_before(failures, f"{doing} in {self.channel!r}", error)

    async def give_back(self, counts: Mapping[bytes, int | None]) -> None:
        """Let others have these entries, counted as given out so often; None leaves the count."""
        assert self.group is not None
        words = [word for id, count in counts.items() for word in (id, "" if count is None else count)]
        await self.script(GIVE_BACK, [self.stream], self.group, self.consumer, *words)
        self._owner.lost(self.channel, self.group)

    async def renew(self) -> None:
        """Begin the lease of what is held anew, unless it has come into other hands."""
        if self.held and self.group is not None:
            await self.script(RENEW, [self.stream], self.group, self.consumer, *self.held)

    async def script(self, text: str, keys: Sequence[str], *arguments: Any) -> None:
        async with reached():
            await self.client.execute_command("EVAL", text, len(keys), *keys, *arguments)

    def close(self) -> dict[bytes, int | None]:
        """The listener is gone; what it held is to be given back."""
        held = dict.fromkeys(self.held) if self.group is not None else {}
        self.closed = True
        self.held.clear()
        return held


class RedisDelivery:
    """One message in the hands of one listener."""

    def __init__(
        self, hands: Hands, id: bytes, message: TransportMessage, fields: Mapping[bytes, bytes], attempt: int
    ) -> None:
        self.message = message
        self.attempt = attempt
        self._hands = hands
        self._id = id
        self._fields = fields
        self._settling = False

    async def ack(self) -> None:
        """It is dealt with; a broker that is away is waited for."""
        await self._settle(partial(self._hands.insist, "acknowledging", self._acknowledge))

    async def park(self, reason: str) -> None:
        """It goes to the dead letters; a broker that is away is waited for."""
        if self._hands.group is None:
            logger.error("%r: message %s is dropped: %s", self._hands.channel, self.message.id, reason)
        await self._settle(partial(self._hands.insist, "burying", partial(self._bury, reason)))

    async def release(self) -> None:
        """It is given back; if the broker is away, when the lease ends."""
        await self._settle(self._release)

    async def _settle(self, work: Callable[[], Awaitable[None]]) -> None:
        """Settle once; a message that everybody hears belongs to nobody, and there is nothing to settle."""
        hands = self._hands
        if self._settling or self._id not in hands.held:
            return
        self._settling = True
        try:
            if hands.group is not None:
                await work()
        except BaseException:
            self._settling = False  # it was interrupted, and can be settled in another way
            raise
        hands.let_go(self._id)

    async def _acknowledge(self) -> None:
        async with reached():
            await self._hands.client.execute_command("XACK", self._hands.stream, self._hands.group, self._id)

    async def _bury(self, reason: str) -> None:
        hands = self._hands
        fields: dict[Any, Any] = {**self._fields, b"group": hands.group, b"reason": reason}
        fields.setdefault(b"id", self.message.id)
        words = [word for field in fields.items() for word in field]
        await hands.script(BURY, [hands.stream, hands.stream + DEAD], hands.group, self._id, *words)

    async def _release(self) -> None:
        try:
            await self._hands.give_back({self._id: self.attempt - 1})
        except LOST as error:
            logger.warning("redis: giving back failed with %r; others are given it when its lease ends", error)

"""What a listener holds of a stream, and how it is settled (`lending`).

An entry in somebody's hands stays pending. Acknowledging twice does nothing, and a dead letter is added only by whoever
acknowledges, so that both can be repeated. Renewing and giving back touch only what nobody else has claimed meanwhile.
What is given back is handed to the consumer `released`, as an entry that was last touched long ago, and so is claimed
by the next who looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from wintry.bus.transports import TransportMessage

from .lending import Hands, Loan
from .redis_client import LOST, Client, reached
from .redis_wire import DEAD, decoded, stream_of

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
    def lost_by(self, channel: str, group: str) -> None: ...


class RedisHands(Hands[set[bytes]]):
    """What one listener holds, by the ids of the entries."""

    broker = "redis"
    lost = LOST

    def __init__(self, owner: Owner, channel: str, group: str | None, consumer: str, limit: int) -> None:
        super().__init__(channel, group, limit, set())
        self.client = owner.client
        self.stream = stream_of(channel)
        self.consumer = consumer
        self.lease = owner.lease
        self.look = True  # there may be something that others left
        self._owner = owner

    def take(self, id: bytes, fields: dict[bytes, bytes], attempt: int) -> RedisDelivery:
        self.held.add(id)
        return RedisDelivery(self, id, decoded(self.channel, id, fields), fields, attempt)

    def let_go(self, id: bytes) -> None:
        """There is room for another one."""
        self.held.discard(id)
        self.freed()

    async def give_back(self, counts: Mapping[bytes, int | None]) -> None:
        """Let others have these entries, counted as given out so often; None leaves the count."""
        assert self.group is not None
        words = [word for id, count in counts.items() for word in (id, "" if count is None else count)]
        await self.script(GIVE_BACK, [self.stream], self.group, self.consumer, *words)
        self._owner.lost_by(self.channel, self.group)

    async def give_all_back(self) -> None:
        """Let others have everything."""
        held = dict.fromkeys(self.held)
        self.held.clear()
        if held and self.group is not None:
            await self.give_back(held)

    async def renew(self) -> None:
        """Begin the leases of what is held anew, unless it has come into other hands; and look what others left."""
        self.look = True
        if self.held and self.group is not None:
            await self.script(RENEW, [self.stream], self.group, self.consumer, *self.held)

    async def script(self, text: str, keys: Sequence[str], *arguments: Any) -> None:
        async with reached():
            await self.client.execute_command("EVAL", text, len(keys), *keys, *arguments)


class RedisDelivery(Loan[RedisHands]):
    """One entry in the hands of one listener."""

    def __init__(
        self, hands: RedisHands, id: bytes, message: TransportMessage, fields: Mapping[bytes, bytes], attempt: int
    ) -> None:
        super().__init__(hands, message, attempt)
        self._id = id
        self._fields = fields

    def _is_held(self) -> bool:
        return self._id in self._hands.held

    def _let_go(self) -> None:
        self._hands.let_go(self._id)

    async def _acknowledge(self) -> None:
        hands = self._hands
        async with reached():
            await hands.client.execute_command("XACK", hands.stream, hands.group, self._id)

    async def _bury(self, reason: str) -> None:
        hands = self._hands
        fields: dict[Any, Any] = {**self._fields, b"group": hands.group, b"reason": reason}
        fields.setdefault(b"id", self.message.id)
        words = [word for field in fields.items() for word in field]
        await hands.script(BURY, [hands.stream, hands.stream + DEAD], hands.group, self._id, *words)

    async def _give_back(self) -> None:
        await self._hands.give_back({self._id: self.attempt - 1})

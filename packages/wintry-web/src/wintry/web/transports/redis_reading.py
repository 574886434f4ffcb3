"""How a listener reads a stream: what it is owed, what others left, what is new; or all that is new, for a broadcast.

A read asks for no more than there is room for. What it was given is taken into the hands at once and at its end, so
that a connection that is lost half way leaves nothing there that nobody was told of; the broker owes it still.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any, Final

from redis.exceptions import ResponseError

from .redis_client import LOST, REPLY, Client
from .redis_hands import RedisDelivery, RedisHands

logger = logging.getLogger("wintry.web")

BLOCK: Final = 1.0
"""How many seconds a read waits for the next entry, which is how late a listener sees what others gave back."""


class Reading(ABC):
    """The reading of one listener, on a connection of its own."""

    def __init__(self, reader: Client, hands: RedisHands) -> None:
        self.hands = hands
        self._reader = reader

    async def read(self) -> list[RedisDelivery]:
        """The next entries, none after a while without any."""
        async with asyncio.timeout(BLOCK + REPLY):
            return await self._next()

    async def leave(self) -> None:
        """Give back what is held."""
        await self.hands.give_all_back()

    async def close(self) -> None:
        """Disconnect; nothing is being read any more."""
        await self._reader.aclose()

    @abstractmethod
    async def _next(self) -> list[RedisDelivery]: ...


class Following(Reading):
    """The reading of a listener that hears every message from its start on, or from the last one that it saw."""

    _last: bytes | None = None

    async def _next(self) -> list[RedisDelivery]:
        hands = self.hands
        if self._last is None:
            newest = await hands.client.xrevrange(hands.stream, count=1)
            self._last = newest[0][0] if newest else b"0-0"
        found = await self._reader.xread({hands.stream: self._last}, count=hands.room, block=round(BLOCK * 1000))
        taken = [hands.take(id, fields, 1) for _, entries in found for id, fields in entries]
        if found:
            self._last = found[0][1][-1][0]
        return taken


class Competing(Reading):
    """The reading of a listener that shares the messages with its group."""

    def __init__(self, reader: Client, hands: RedisHands) -> None:
        super().__init__(reader, hands)
        self._joined = False
        self._owed = True
        self._rest: bytes | None = None  # where looking for what others left goes on

    async def read(self) -> list[RedisDelivery]:
        """The next entries; a group that is not there is made, at the beginning."""
        try:
            return await super().read()
        except LOST as error:
            if not (isinstance(error, ResponseError) and str(error).startswith(("NOGROUP", "UNBLOCKED"))):
                self._owed = self.hands.look = True  # what was on its way is owed
                raise
            logger.warning("%r has lost its group %r, which is made again", self.hands.channel, self.hands.group)
            self._joined = False
            return []

    async def _next(self) -> list[RedisDelivery]:
        if not self._joined:
            await self._join()
        if self._owed:
            return await self._own()
        if self.hands.look or self._rest is not None:
            return await self._left()
        return await self._new()

    async def _join(self) -> None:
        hands = self.hands
        try:
            await self._reader.execute_command("XGROUP", "CREATE", hands.stream, hands.group, "0", "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # it is there
                raise
        self._joined = True

    async def _own(self) -> list[RedisDelivery]:
        """What this consumer was given and has never seen."""
        hands = self.hands
        found = await self._group_read("0", [], hands.room + len(hands.held))
        self._owed = False
        return await self._given([(id, fields) for id, fields in found if id not in hands.held])

    async def _left(self) -> list[RedisDelivery]:
        """What others gave back, or have not renewed."""
        hands = self.hands
        after = b"0-0" if hands.look or self._rest is None else self._rest
        hands.look = False
        idle = round(hands.lease * 1000)
        reply = await self._reader.execute_command(
            "XAUTOCLAIM", hands.stream, hands.group, hands.consumer, idle, after, "COUNT", hands.room
        )
        self._rest = None if reply[0] == b"0-0" else reply[0]
        return await self._given([(id, fields) for id, fields in reply[1] if id is not None and id not in hands.held])

    async def _new(self) -> list[RedisDelivery]:
        found = await self._group_read(">", ["BLOCK", round(BLOCK * 1000)], self.hands.room)
        return [self.hands.take(id, fields, 1) for id, fields in found]

    async def _group_read(self, after: str, block: list[Any], count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        hands = self.hands
        reply = await self._reader.execute_command(
            "XREADGROUP", "GROUP", hands.group, hands.consumer, "COUNT", count, *block, "STREAMS", hands.stream, after
        )
        return [(id, fields) for _, entries in reply or () for id, fields in entries]

    async def _given(self, entries: list[tuple[bytes, dict[bytes, bytes] | None]]) -> list[RedisDelivery]:
        """Deliveries of entries that were given out before, and how often; those that were deleted are done."""
        if not entries:
            return []
        hands = self.hands
        async with self._reader.pipeline(transaction=False) as pipe:
            for id, fields in entries:
                if fields:
                    pipe.xpending_range(hands.stream, hands.group, id, id, 1)
                else:
                    pipe.execute_command("XACK", hands.stream, hands.group, id)
            replies = await pipe.execute()
        return [
            hands.take(id, fields, reply[0]["times_delivered"] if reply else 1)
            for (id, fields), reply in zip(entries, replies, strict=True)
            if fields
        ]

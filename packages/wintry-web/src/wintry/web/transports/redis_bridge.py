"""From PUBLISH to streams: what others send to a channel without knowing of streams is heard, once.

For each channel one process of all is elected, by a key that it holds for `TENURE` seconds and renews; it alone
subscribes, and adds what it hears to the stream. The addition is a script that adds nothing unless the key is still
its own, and nothing twice: two who think that they are elected do not add a message twice, and an addition whose reply
was lost may be repeated. Who gets the key subscribes after that, so what is published while nobody holds it is not
heard: that is up to `TENURE` plus `LOOK` seconds after a process was killed. One that ends by itself gives the key back
and calls the others to the next election over `CALL`, which takes a few milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime
from os import urandom
from typing import Any, Final

from .redis_client import LOST, Client, connect, published, reached
from .redis_wire import LOCK, stream_of
from .waiting import wait_before

logger = logging.getLogger("wintry.web")

TENURE: Final = 3.0
LOOK: Final = 0.5
CALL: Final = "wintry:bridge"
"""The channel that every bridge hears."""

ELECT: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1"""
RESIGN: Final = f"""
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', '{CALL}', KEYS[1])
end"""
ADD: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[3]) == ARGV[2] then return 0 end
redis.call('SET', KEYS[3], ARGV[2], 'PX', 600000)
redis.call('XADD', KEYS[2], '*', 'id', ARGV[2], 'type', ARGV[3], 'time', ARGV[4], 'body', ARGV[5])
return 1"""


class Bridge:
    """The bridge of one process, for the channels that it listens to."""

    def __init__(self, url: str, owner: str) -> None:
        self._url = url
        self._owner = f"{owner}:{urandom(4).hex()}"
        self._wanted: Counter[str] = Counter()
        self._holding: set[str] = set()
        self._stood: set[str] = set()  # what it may hold: the reply to an election may be lost
        self._heard: list[tuple[str, list[Any]]] = []  # and not known to be in their streams
        self._adding = asyncio.Lock()  # one after another, in the order in which they were heard
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def holding(self) -> frozenset[str]:
        """The channels that this process hears for all."""
        return frozenset(self._holding)

    def add(self, channel: str) -> None:
        """Hear a channel, as often as it is added."""
        self._wanted[channel] += 1
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, channel: str) -> None:
        self._wanted[channel] -= 1
        self._wanted += Counter()  # without what nobody wants any more
        self._changed.set()

    async def stop(self) -> None:
        """Resign, so that another process hears at once."""
        self._wanted.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        """Stand for election for ever."""
        failures = 0
        while True:
            client, hearing = connect(self._url), connect(self._url, again=False)
            listening: asyncio.Task[None] | None = None
            try:
                async with hearing.pubsub(ignore_subscribe_messages=True) as heard:
                    await heard.subscribe(CALL)
                    listening = asyncio.get_running_loop().create_task(self._hear(heard, client))
                    while not listening.done():
                        async with reached():
                            await self._elect(client, heard)
                            await self._add(client)
                        failures = 0
                        await self._pause(listening)
                    await listening
            except LOST as error:
                failures += 1
                await wait_before("redis", failures, "hearing what is PUBLISHed", error)
            finally:
                if listening is not None:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
                await self._resign(client)
                await client.aclose()
                await hearing.aclose()

    async def _pause(self, listening: asyncio.Task[None]) -> None:
        """Until it is time to look again, something changes, or the connection is lost."""
        changed = asyncio.get_running_loop().create_task(self._changed.wait())
        try:
            await asyncio.wait([changed, listening], timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        self._changed.clear()

    async def _elect(self, client: Client, heard: Client) -> None:
        """Take the channels that are free, renew one's own, let go what nobody here wants."""
        for channel in [*self._wanted]:
            self._stood.add(channel)
            won = await client.execute_command(
                "EVAL", ELECT, 1, stream_of(channel) + LOCK, self._owner, round(TENURE * 1000)
            )
            if not won:
                self._stood.discard(channel)
                await self._unsubscribe(heard, channel)
            elif channel not in self._holding:
                self._holding.add(channel)
                await heard.subscribe(channel)
        for channel in self._stood.difference(self._wanted):
            await self._unsubscribe(heard, channel)
            await self._give_up(client, channel)

    async def _unsubscribe(self, heard: Client, channel: str) -> None:
        if channel in self._holding:
            self._holding.discard(channel)
            await heard.unsubscribe(channel)

    async def _give_up(self, client: Client, channel: str) -> None:
        await client.execute_command("EVAL", RESIGN, 1, stream_of(channel) + LOCK, self._owner)
        self._stood.discard(channel)

    async def _hear(self, heard: Client, client: Client) -> None:
        """Add to the streams what comes, in its order."""
        async for channel, body in published(heard):
            if channel == CALL:
                self._changed.set()
                continue
            self._heard.append((channel, [urandom(16).hex(), channel, datetime.now(UTC).isoformat(), body]))
            async with reached():
                await self._add(client)

    async def _add(self, client: Client) -> None:
        """Add what was heard; what cannot be added now is with the next attempt, under the same id."""
        async with self._adding:
            while self._heard:
                channel, values = self._heard[0]
                stream = stream_of(channel)
                keys: list[Any] = [stream + LOCK, stream, f"{stream}:bridged"]
                await client.execute_command("EVAL", ADD, len(keys), *keys, self._owner, *values)
                del self._heard[0]

    async def _resign(self, client: Client) -> None:
        """Give back what is held; if the broker is away, the tenure ends by itself."""
        self._holding.clear()
        try:
            async with reached():
                await self._add(client)
                for channel in [*self._stood]:
                    await self._give_up(client, channel)
        except LOST as error:
            logger.debug("redis: the election could not be given up: %r", error)

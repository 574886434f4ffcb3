"""Who is killed, and when: one process of the service every so often, and the servers in turn.

A server is away for a moment before it is started again at the same address, with what it has stored.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter

from .world import World

EVERY = 20.0  # seconds between two ends of a process, and between two of a server


class Chaos:
    """Kills until `until`, a time of `time.monotonic`; `kills` counts them."""

    def __init__(self, world: World, chance: random.Random, *, minutes: float, until: float) -> None:
        self.kills: Counter[str] = Counter()
        self._world = world
        self._chance = chance
        self._until = until
        # Each server at least once, and a process as often, however short the storm is.
        self._every = min(EVERY, minutes * 60 / (len(world.servers) + 1))

    async def run(self) -> None:
        await asyncio.gather(self._processes(), self._servers())

    async def _processes(self) -> None:
        await asyncio.sleep(self._every / 2)
        while time.monotonic() < self._until:
            self.kills["service"] += 1
            await self._world.crash(self._chance)
            await asyncio.sleep(self._every)

    async def _servers(self) -> None:
        for kind, server in itertools.cycle(self._world.servers.items()):
            await asyncio.sleep(self._every)
            if time.monotonic() > self._until:
                return
            self.kills[kind] += 1
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(self._chance.uniform(0.5, 3))
            await asyncio.to_thread(server.start)

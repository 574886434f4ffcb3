"""Memory of the service's processes and connections of the servers, looked at from time to time.

A process is killed before it is old, so that its memory is compared at one age: a storm early and a storm late must
find it the same.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pymongo
import redis.asyncio

from .world import World

EVERY = 2.0
AGE = (8.0, 14.0)  # seconds: what is young, but has served
LEEWAY = 1.25  # a reading that is larger by more than this factor has grown,
STEP = 8.0  # if it is by so much too: MiB or connections
SHORTEST = 300.0  # seconds; in a shorter storm the first third is that of the start
UNREACHABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, pymongo.errors.PyMongoError)
UNREACHABLE_REDIS = (redis.RedisError, OSError)


class Gauges:
    """Readings by name, each with the time since the beginning."""

    def __init__(self, world: World) -> None:
        self.readings: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._world = world
        self._begun = time.monotonic()
        self._seen: dict[int, float] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            self._memory()
            await asyncio.gather(
                self._read("connections of postgres", self._postgres),
                self._read("connections of mongodb", self._mongodb),
                self._read("connections of redis", self._redis),
            )

    def flat(self) -> dict[str, tuple[float, float]]:
        """The median of each reading in the first third of the storm, and in the last."""
        end = self._end
        found = {}
        for name, readings in sorted(self.readings.items()):
            first = [value for at, value in readings if at < end / 3]
            last = [value for at, value in readings if at > end * 2 / 3]
            if first and last:
                found[name] = statistics.median(first), statistics.median(last)
        return found

    def grown(self) -> list[str]:
        """What is not flat, if the storm was long enough to tell."""
        if self._end < SHORTEST:
            return []
        return [
            f"{name}: {first:g}, and {last:g} in the end"
            for name, (first, last) in self.flat().items()
            if last > max(first * LEEWAY, first + STEP)
        ]

    @property
    def _end(self) -> float:
        """When the last reading was taken: the judging that follows the storm is none of it."""
        return max((at for readings in self.readings.values() for at, _ in readings), default=0.0)

    def _note(self, name: str, value: float) -> None:
        self.readings[name].append((time.monotonic() - self._begun, value))

    def _memory(self) -> None:
        now = time.monotonic()
        for process in self._world.service.processes:
            if process is None or process.returncode is not None:
                continue
            born = self._seen.setdefault(process.pid, now)
            if AGE[0] <= now - born <= AGE[1]:
                with suppress(OSError, StopIteration):
                    self._note("memory of a process, MiB", resident(process.pid))

    async def _read(self, name: str, ask: Callable[[], Awaitable[float]]) -> None:
        with suppress(*UNREACHABLE, *UNREACHABLE_REDIS):  # that one is away, which is no reading
            async with asyncio.timeout(EVERY):
                self._note(name, await ask())

    async def _postgres(self) -> float:
        connection = await asyncpg.connect(self._world.postgres, timeout=EVERY)
        try:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
        finally:
            await connection.close()
        return count

    async def _mongodb(self) -> float:
        async with pymongo.AsyncMongoClient[dict[str, Any]](self._world.mongodb, timeoutMS=1000) as client:
            status = await client.admin.command("serverStatus")
        return float(status["connections"]["current"])

    async def _redis(self) -> float:
        client = redis.asyncio.Redis.from_url(self._world.redis, socket_timeout=None)
        try:
            info = await client.info("clients")
        finally:
            await client.aclose()
        return float(info["connected_clients"])


def resident(pid: int) -> float:
    """The memory of a process that is its own and in RAM, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

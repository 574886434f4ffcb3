"""What the storm is about: three servers of its own and the service on them, two processes at once.

`journal=False` is the control: the same settings without the journal's line, so that what is in the memory of a killed
process is gone.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "servers"))

from wintry_test_servers.databases import mongodb_database, postgres_database
from wintry_test_servers.run import Run, Server
from wintry_test_servers.service import SETTINGS, Service

JOURNAL = 'journal = "default"\n'
STARTS = 20  # attempts to start a process, while a server that it needs is away


@dataclass(frozen=True)
class World:
    """The servers by their kinds, where their databases are, and the service."""

    servers: dict[str, Server]
    postgres: str
    mongodb: str
    redis: str
    service: Service

    async def revive(self) -> int:
        """Start each process that does not run; how many starts that took. One whose server is away tries again."""
        for attempt in range(1, STARTS + 1):
            try:
                await self.service.start()
            except AssertionError:
                if attempt == STARTS:
                    raise
                await asyncio.sleep(1)
            else:
                return attempt
        raise AssertionError("unreachable")

    async def crash(self, chance: random.Random) -> None:
        """Kill one process and start it again."""
        await self.service.crash(chance)
        await self.revive()


@asynccontextmanager
async def world(*, journal: bool) -> AsyncIterator[World]:
    """Servers that are there for this storm alone, and the service on them, started."""
    with ExitStack() as stack:
        run = Run()
        stack.callback(run.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storm-")))
        servers = {kind: stack.enter_context(run.own(kind)) for kind in ("postgres", "mongodb", "redis")}
        postgres = stack.enter_context(postgres_database(servers["postgres"].url))
        mongodb = stack.enter_context(mongodb_database(servers["mongodb"].url))
        environment = {
            "ALLOCATION_SETTINGS": str(settings(folder, journal=journal)),
            "WINTRY_BACKENDS__DEFAULT__URL": postgres,
            "WINTRY_BACKENDS__VIEWS__URL": mongodb,
            "WINTRY_TRANSPORTERS__REDIS__URL": servers["redis"].url,
        }
        service = Service(folder, environment, processes=2)
        made = World(servers, postgres, mongodb, servers["redis"].url, service)
        try:
            await made.revive()
            yield made
        finally:
            await service.close()


def settings(folder: Path, *, journal: bool) -> Path:
    """The settings of the servers' profile, with the journal or without."""
    text = (SETTINGS / "servers.toml").read_text()
    assert JOURNAL in text, "the control takes this line out"
    path = folder / "storm.toml"
    path.write_text(text if journal else text.replace(JOURNAL, ""))
    return path

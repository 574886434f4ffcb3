"""Services as a test sees them: forked by a nursery, killed or ended at will, and what they have stored.

`PATIENCE` is how many seconds something may take on a busy machine that takes one elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wintry_test_servers.nursery import Forked, Nursery

PATIENCE = 60.0
IMPORTED = ("kinds", "wintry.bus.durable", "wintry.bus.testing", "wintry.repository.sql.dialects.sqlite")
"""What `child.py` imports."""


class Service:
    """One process."""

    def __init__(self, process: Forked, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def runs(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        self._process.kill()

    async def wait(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    async def end(self) -> int:
        """Ask it to end, and wait for that; its exit code."""
        self._process.terminate()
        return await self.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, which it is this process to bring about."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                assert self.runs, f"it has ended with {await self.wait()}:\n{self._log.read_text()}"
                await asyncio.sleep(0.02)


@asynccontextmanager
async def forked(nursery: Nursery, log: Path, *arguments: str) -> AsyncIterator[Service]:
    """A process of `child.py`, which ends with the block at the latest."""
    with log.open("ab") as file:
        process = await nursery.run(
            "child", *arguments, cwd=log.parent, environment=os.environ, stdout=file.fileno(), stderr=file.fileno()
        )
    service = Service(process, log)
    try:
        yield service
    finally:
        service.kill()
        await service.wait()


class Store:
    """What services of one folder have stored."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "default.db"

    @property
    def counts(self) -> dict[str, int]:
        """How often each order had its effect."""
        return dict(self._rows("SELECT id, count FROM effects"))

    @property
    def dead(self) -> dict[str, str]:
        """The ids of dead letters, and why they are."""
        return dict(self._rows("SELECT id, error FROM _wintry_journal WHERE status = 'parked'"))

    def _rows(self, text: str) -> list[Any]:
        """Nothing while the database is being made."""
        connection = sqlite3.connect(self._path)
        try:
            return connection.execute(text).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            connection.close()

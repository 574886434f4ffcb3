"""Services as a test sees them: forked by the nursery, killed or ended at will, and what they have stored.

`PATIENCE` is how many seconds something may take on a busy machine that takes one elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 60.0
SCRIPT = Path(__file__).with_name("nursery.py")


@contextmanager
def nursery(folder: Path) -> Iterator[Path]:
    """The socket of a nursery that runs while the block does."""
    socket = folder / "socket"
    process = subprocess.Popen([sys.executable, SCRIPT, socket])
    try:
        yield socket
    finally:
        process.kill()
        process.wait()


class Service:
    """One process."""

    def __init__(self, number: int, code: asyncio.Future[bytes], log: Path) -> None:
        self._number = number
        self._code = code
        self._log = log

    @property
    def runs(self) -> bool:
        return not self._code.done()

    def kill(self) -> None:
        os.kill(self._number, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        async with asyncio.timeout(PATIENCE):
            return int(await asyncio.shield(self._code))

    async def end(self) -> int:
        """Ask it to end, and wait for that; its exit code."""
        os.kill(self._number, signal.SIGTERM)
        return await self.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, which it is this process to bring about."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                assert self.runs, f"it has ended with {await self.wait()}:\n{self._log.read_text()}"
                await asyncio.sleep(0.02)


@asynccontextmanager
async def forked(nursery: Path, log: Path, *arguments: str) -> AsyncIterator[Service]:
    """A process of the nursery, which ends with the block at the latest."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(nursery)
                break
            except OSError:  # it still starts
                await asyncio.sleep(0.02)
        writer.write(json.dumps([str(log), *arguments]).encode() + b"\n")
        number = int(await reader.readline())
    service = Service(number, asyncio.ensure_future(reader.readline()), log)
    try:
        yield service
    finally:
        if service.runs:
            service.kill()
        await service.wait()
        writer.close()
        await writer.wait_closed()


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

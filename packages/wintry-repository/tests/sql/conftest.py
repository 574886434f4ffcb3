"""Databases of SQLite in a temporary folder, and the Models that the tests of the SQL backend share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from wintry.repository.sql import SqlBackend, open_backend


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database file that does not exist yet."""
    return tmp_path / "shop.db"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What a test opens and wants closed."""
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def backend(file: Path, stack: AsyncExitStack) -> SqlBackend:
    """An open backend on `file` to which nothing is bound."""
    made = open_backend("default", f"sqlite:///{file}", {})
    await made.open()
    stack.push_async_callback(made.close)
    return made

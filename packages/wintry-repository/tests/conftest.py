"""Fixtures of the tests: the event loop, and an open memory backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from wintry.repository import Backends


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def backends() -> AsyncIterator[Backends]:
    """One empty store in memory, called "default"."""
    async with Backends(default="memory://") as opened:
        yield opened

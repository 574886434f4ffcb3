"""Backends on a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from wintry.repository.mongo import MongoBackend, open_backend


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Open = Callable[..., Awaitable[MongoBackend]]


@pytest.fixture
async def open_on(mongodb_url: str) -> AsyncIterator[Open]:
    """Opens a backend with the schema of some Models on the test's database."""
    async with AsyncExitStack() as stack:

        async def open_it(*models: type, **options: Any) -> MongoBackend:
            backend = open_backend("default", mongodb_url, options)
            for model in models:
                backend.bind(model)
            await backend.open()
            stack.push_async_callback(backend.close)
            await backend.create_schema()
            return backend

        yield open_it

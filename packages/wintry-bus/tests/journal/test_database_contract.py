"""The database transport keeps the contract that every transport keeps, on each database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wintry.bus.testing import TransportContract
from wintry.bus.transports.database import Database
from wintry.repository.sql import open_backend

pytestmark = pytest.mark.anyio


async def opened(url: str) -> AsyncIterator[Database]:
    backend = open_backend("default", url, {})
    await backend.open()
    transport = Database(backend, owner="me")
    await transport.start()
    yield transport
    await transport.stop()
    await backend.close()


@pytest.mark.contract("BUS-340")
class TestOnSQLite(TransportContract):
    @pytest.fixture
    async def transport(self, tmp_path: Path) -> AsyncIterator[Database]:
        async for transport in opened(f"sqlite:///{tmp_path}/queue.db"):
            yield transport


@pytest.mark.contract("BUS-501")
class TestOnPostgreSQL(TransportContract):
    @pytest.fixture
    async def transport(self, postgres_url: str) -> AsyncIterator[Database]:
        async for transport in opened(postgres_url):
            yield transport

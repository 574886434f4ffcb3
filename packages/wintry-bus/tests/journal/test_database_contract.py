"""The database transport keeps the contract that every transport keeps, on each database."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from wintry.bus.testing import TransportContract
from wintry.bus.transports import Transport
from wintry.bus.transports.database import Database
from wintry.repository.sql import open_backend

pytestmark = pytest.mark.anyio


class DatabaseContract(TransportContract):
    """The contract over the queue in the SQL database at the fixture `url`."""

    @pytest.fixture
    async def transport(self, url: str) -> AsyncIterator[Database]:
        backend = open_backend("default", url, {})
        await backend.open()
        transport = Database(backend, owner="me")
        await transport.start()
        yield transport
        await transport.stop()
        await backend.close()

    def another(self, transport: Transport) -> Database:
        assert isinstance(transport, Database)
        return Database(transport.backend, owner="another")

    async def dead(self, transport: Transport, channel: str) -> Sequence[tuple[bytes, str]]:
        assert isinstance(transport, Database)
        return [
            (letter.message.body, letter.reason) for letter in await transport.parked() if letter.channel == channel
        ]


@pytest.mark.contract("BUS-340")
class TestOnSQLite(DatabaseContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/queue.db"


@pytest.mark.contract("BUS-501")
class TestOnPostgreSQL(DatabaseContract):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url

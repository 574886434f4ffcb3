"""The database transport keeps the contract that every transport keeps."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from wintry.bus.testing import TransportContract
from wintry.bus.transports import Transport
from wintry.bus.transports.database import Database
from wintry.repository.sql import open_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
async def transport(tmp_path: Path) -> AsyncIterator[Database]:
    backend = open_backend("default", f"sqlite:///{tmp_path}/queue.db", {})
    await backend.open()
    transport = Database(backend, owner="me")
    await transport.start()
    yield transport
    await transport.stop()
    await backend.close()


@pytest.mark.contract("BUS-340")
class TestOnSQLite(TransportContract):
    def another(self, transport: Transport) -> Database:
        assert isinstance(transport, Database)
        return Database(transport.backend, owner="another")

    async def dead(self, transport: Transport, channel: str) -> Sequence[tuple[bytes, str]]:
        assert isinstance(transport, Database)
        return [
            (letter.message.body, letter.reason) for letter in await transport.parked() if letter.channel == channel
        ]

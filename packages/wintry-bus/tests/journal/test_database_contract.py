"""The database transport keeps the contract that every transport keeps."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wintry.bus.testing import TransportContract
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
    pass

"""The SQL journal keeps the contract that every journal keeps."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wintry.bus.journal.sql import SqlJournal
from wintry.bus.testing import JournalContract
from wintry.repository.sql import open_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqlJournal]:
    backend = open_backend("default", f"sqlite:///{tmp_path}/journal.db", {})
    journal = SqlJournal(backend)
    await backend.open()
    await backend.create_schema()
    yield journal
    await journal.commits.flush()
    await backend.close()


@pytest.mark.contract("BUS-300")
class TestOnSQLite(JournalContract):
    pass

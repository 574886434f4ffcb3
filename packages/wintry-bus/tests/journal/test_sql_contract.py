"""The SQL journal keeps the contract that every journal keeps, on each database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wintry.bus.journal.sql import SqlJournal
from wintry.bus.testing import JournalContract
from wintry.repository.sql import SqlBackend, open_backend

pytestmark = pytest.mark.anyio


async def opened(url: str) -> AsyncIterator[SqlJournal]:
    backend = open_backend("default", url, {})
    journal = SqlJournal(backend)
    await backend.open()
    await backend.create_schema()
    yield journal
    await journal.commits.flush()
    await backend.close()


@pytest.mark.contract("BUS-300")
class TestOnSQLite(JournalContract):
    @pytest.fixture
    async def journal(self, tmp_path: Path) -> AsyncIterator[SqlJournal]:
        async for journal in opened(f"sqlite:///{tmp_path}/journal.db"):
            yield journal


@pytest.mark.contract("BUS-500")
class TestOnPostgreSQL(JournalContract):
    @pytest.fixture
    async def journal(self, shared_postgres_url: str) -> AsyncIterator[SqlJournal]:
        async for journal in opened(shared_postgres_url):
            yield journal
            await emptied(journal.backend)


async def emptied(backend: SqlBackend) -> None:
    execution = backend.execution()
    await execution.change("DELETE FROM _wintry_journal", ())
    await execution.commit()

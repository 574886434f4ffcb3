"""The SQL journal keeps the contract that every journal keeps, on each database."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wintry.bus.journal import Row
from wintry.bus.journal.sql import SqlJournal
from wintry.bus.testing import JournalContract
from wintry.repository.sql import SqlBackend, SqlExecution, open_backend

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


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqlJournal]:
    async for journal in opened(f"sqlite:///{tmp_path}/journal.db"):
        yield journal


def row(number: int) -> Row:
    return Row(id=str(number), target="Bus.went", type="Went", version=1, body=b"{}", correlation_id="c")


@pytest.mark.contract("BUS-709")
async def test_what_is_delivered_at_once_is_closed_together(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await journal.append([row(number) for number in range(50)], owner="me", lease=60.0)
    statements: list[list[int]] = []
    change = journal._leases.change

    async def counted(execution: SqlExecution, text: str, seqs: list[int], values: dict[str, str]) -> set[int]:
        statements.append(seqs)
        return await change(execution, text, seqs, values)

    monkeypatch.setattr(journal._leases, "change", counted)
    closings = [journal.complete([each.seq], owner="me") for each in stored]
    assert await asyncio.gather(*closings, journal.complete([stored[0].seq], owner="another")) == [1] * 50 + [0]
    assert sorted(len(seqs) for seqs in statements) == [1, 50]
    assert (await journal.stats()).done == 50


@pytest.mark.contract("BUS-709")
async def test_a_closing_that_is_cancelled_ends_no_other(journal: SqlJournal) -> None:
    stored = await journal.append([row(number) for number in range(2)], owner="me", lease=60.0)
    cancelled, other = [asyncio.create_task(journal.complete([each.seq], owner="me")) for each in stored]
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await other == 1
    assert (await journal.stats()).done == 2


@pytest.mark.contract("BUS-709")
async def test_more_rows_than_a_statement_takes_are_closed_in_parts(journal: SqlJournal) -> None:
    stored = await journal.append([row(number) for number in range(250)], owner="me", lease=60.0)
    seqs = [each.seq for each in stored]
    assert await journal.complete([*seqs, seqs[0]], owner="me") == 250
    assert await journal.complete(seqs, owner="me") == 0


async def emptied(backend: SqlBackend) -> None:
    execution = backend.execution()
    await execution.change("DELETE FROM _wintry_journal", ())
    await execution.commit()


@pytest.mark.contract("BUS-709")
async def test_a_transaction_that_cannot_be_closed_keeps_nobody_waiting(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, close = list[SqlExecution](), SqlExecution.close

    async def change(execution: SqlExecution, *_: object) -> set[int]:
        lost.append(execution)
        raise ConnectionError("lost")

    async def closed(execution: SqlExecution) -> None:
        await close(execution)
        if execution in lost:
            raise ConnectionError("lost as well")

    monkeypatch.setattr(journal._leases, "change", change)
    monkeypatch.setattr(SqlExecution, "close", closed)
    async with asyncio.timeout(10):
        stored = await journal.append([row(1), row(2)], owner="me", lease=60.0)
        closings = [journal.complete([each.seq], owner="me") for each in stored]
        for ended in await asyncio.gather(*closings, return_exceptions=True):
            assert str(ended) == "lost"
        await journal.append([row(3)], owner="me", lease=60.0)

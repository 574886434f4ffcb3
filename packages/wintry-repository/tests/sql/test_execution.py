"""One transaction: when it begins, who waits, what a cancellation, another process or a crash leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.orm

from wintry.models.tracking import diff, snapshot
from wintry.repository.backend import Insert, Update
from wintry.repository.errors import (
    ConcurrentModification,
    ConfigurationError,
    Conflict,
    StoreError,
    UnitAborted,
    UnitTimeout,
    Unreachable,
    Unsupported,
)
from wintry.repository.sql import SqlBackend, open_backend, table
from wintry.repository.sql.dialects.sqlite import Connection, on_thread

pytestmark = pytest.mark.anyio


async def write_free(backend: SqlBackend) -> None:
    """The writer's line, its connection and the database's lock are free, and soon so."""
    async with asyncio.timeout(5):
        execution = backend.execution()
        await execution.begin()
        await execution.commit()


def locked(file: Path) -> bool:
    connection = sqlite3.connect(file, timeout=0)
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


@pytest.mark.contract("REPO-120")
async def test_nothing_is_opened_before_the_first_statement(backend: SqlBackend, file: Path) -> None:
    execution = backend.execution()
    assert not execution.begun
    with pytest.raises(StoreError, match="begin"):
        _ = execution.connection
    assert not locked(file)
    await execution.begin()
    assert execution.begun
    assert locked(file)
    await execution.rollback()
    assert not locked(file)
    with pytest.raises(StoreError, match="over"):
        await execution.begin()


@pytest.mark.contract("REPO-121")
@pytest.mark.parametrize("how", ["driver", "hot path", "connection", "session"])
async def test_a_rollback_undoes_the_first_statement_whatever_way_it_went(
    backend: SqlBackend, store: Any, models: SimpleNamespace, how: str
) -> None:
    execution = backend.execution()
    insert = table(models.Product, backend).insert().values(sku="A", _version=1)
    if how == "hot path":
        await backend.write(execution, [Insert(models.Product(sku="A"))])
    else:
        await execution.begin()
    if how == "driver":
        await execution.driver.execute("INSERT INTO products VALUES ('A', 1)")
    elif how == "connection":
        await execution.connection.execute(insert)
    elif how == "session":
        await execution.session.execute(insert)
        await execution.session.commit()  # of the session, not of the transaction
    ((count,),) = await execution.fetch("SELECT count(*) FROM products", ())
    assert count == 1
    await execution.rollback()
    assert await store.rows("SELECT count(*) FROM products") == [(0,)]


@pytest.mark.contract("REPO-121")
async def test_a_commit_holds_what_went_over_sqlalchemy_and_over_the_driver(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    execution = backend.execution()
    await backend.write(execution, [Insert(models.Product(sku="A"))])
    products = table(models.Product, backend)
    await execution.session.execute(products.insert().values(sku="B", _version=1))
    assert (await execution.session.scalar(sa.select(sa.func.count()).select_from(products))) == 2
    await execution.commit()
    assert await store.rows("SELECT sku FROM products ORDER BY sku") == [("A",), ("B",)]


@pytest.mark.contract("REPO-121")
async def test_a_commit_holds_what_a_session_was_given_and_has_not_sent(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    class Mapped:
        def __init__(self, sku: str) -> None:
            self.sku, self._version = sku, 1

    sa.orm.registry().map_imperatively(Mapped, table(models.Product, backend))
    execution = backend.execution()
    await execution.begin()
    execution.session.add(Mapped("A"))
    await execution.commit()
    assert await store.rows("SELECT sku FROM products") == [("A",)]


@pytest.mark.contract("REPO-134")
@pytest.mark.parametrize("way", ["session", "connection"])
async def test_a_rollback_through_sqlalchemy_is_no_commit(
    backend: SqlBackend, models: SimpleNamespace, way: str
) -> None:
    execution = backend.execution()
    await backend.write(execution, [Insert(models.Product(sku="A"))])
    used = getattr(execution, way)
    await used.execute(sa.text("SELECT 1"))
    await used.rollback()
    with pytest.raises(UnitAborted, match="SQLAlchemy"):
        await backend.write(execution, [Insert(models.Product(sku="B"))])
    with pytest.raises(UnitAborted, match="SQLAlchemy"):
        await execution.commit()
    reading = backend.execution(read_only=True)
    assert await backend.load(reading, models.Product, ["A", "B"]) == []
    await reading.close()
    await write_free(backend)


@pytest.mark.contract("REPO-122")
async def test_readers_keep_their_snapshot_and_hinder_nobody(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    await store.add(models.Product(sku="A"))
    reader = backend.execution(read_only=True)
    assert len(await backend.load(reader, models.Product, ["A", "B"])) == 1
    await store.add(models.Product(sku="B"))
    assert len(await backend.load(reader, models.Product, ["A", "B"])) == 1
    await reader.commit()
    assert len(await store.load(models.Product, "A", "B")) == 2


@pytest.mark.contract("REPO-122")
async def test_a_read_only_transaction_refuses_to_write(backend: SqlBackend, models: SimpleNamespace) -> None:
    execution = backend.execution(read_only=True)
    with pytest.raises(StoreError, match="only read"):
        await backend.write(execution, [Insert(models.Product(sku="A"))])
    await execution.begin()
    with pytest.raises(sa.exc.OperationalError, match="readonly"):
        await execution.connection.execute(table(models.Product, backend).delete())
    await execution.close()


@pytest.mark.contract("REPO-123")
async def test_writers_wait_in_line(backend: SqlBackend) -> None:
    first = backend.execution()
    await first.begin()
    order: list[int] = []

    async def write(number: int) -> None:
        execution = backend.execution()
        await execution.begin()
        order.append(number)
        await execution.commit()

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(write(number))
            await asyncio.sleep(0)  # so that each stands in line before the next
        assert order == []
        await first.commit()
    assert order == list(range(8))


@pytest.mark.contract("REPO-124")
async def test_a_cancelled_wait_leaves_the_line(backend: SqlBackend) -> None:
    first = backend.execution()
    await first.begin()
    second = backend.execution()
    waiting = asyncio.create_task(second.begin())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await second.close()
    await first.commit()
    await write_free(backend)


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.mark.contract("REPO-124")
@pytest.mark.parametrize("read_only", [True, False])
async def test_a_cancelled_statement_is_stopped_and_rolled_back(
    backend: SqlBackend, store: Any, models: SimpleNamespace, read_only: bool, file: Path
) -> None:
    execution = backend.execution(read_only=read_only)
    if not read_only:
        await backend.write(execution, [Insert(models.Product(sku="A"))])
    running = asyncio.create_task(execution.fetch(ENDLESS, ()))
    done, _ = await asyncio.wait([running], timeout=0.05)
    assert not done
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(UnitAborted):
        await execution.fetch("SELECT 1", ())
    await execution.close()
    await write_free(backend)
    assert not locked(file)
    assert await store.rows("SELECT count(*) FROM products") == [(0,)]


@pytest.mark.contract("REPO-124")
async def test_a_second_cancellation_does_not_stop_the_rollback(
    backend: SqlBackend, models: SimpleNamespace, file: Path
) -> None:
    execution = backend.execution()
    await backend.write(execution, [Insert(models.Product(sku="A"))])
    closing = asyncio.create_task(execution.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await write_free(backend)
    assert not locked(file)


@pytest.mark.contract("REPO-124")
async def test_a_begin_that_is_cancelled_before_it_runs_is_rolled_back(backend: SqlBackend) -> None:
    first = backend.execution()
    await first.begin()
    driver, gate = first.driver, threading.Event()
    await first.rollback()
    blocker = asyncio.create_task(on_thread(driver, lambda connection: gate.wait(5)))
    await asyncio.sleep(0)
    second = backend.execution()
    beginning = asyncio.create_task(second.begin())
    for _ in range(5):
        await asyncio.sleep(0)
    beginning.cancel()
    closing = asyncio.create_task(second.close())
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    await blocker
    await closing
    with pytest.raises(asyncio.CancelledError):
        await beginning
    await write_free(backend)


@pytest.mark.contract("REPO-125")
async def test_a_timeout_stops_a_statement(backend: SqlBackend) -> None:
    execution = backend.execution(timeout=0.05)
    with pytest.raises(UnitTimeout):
        await execution.fetch(ENDLESS, ())
    with pytest.raises(UnitTimeout):
        await execution.commit()
    await write_free(backend)


@pytest.mark.contract("REPO-125")
async def test_a_timeout_ends_the_wait_for_a_turn(backend: SqlBackend) -> None:
    first = backend.execution()
    await first.begin()
    second = backend.execution(timeout=0.02)
    with pytest.raises(UnitTimeout):
        await second.begin()
    await second.close()
    await first.commit()
    await write_free(backend)


@pytest.mark.contract("REPO-126")
async def test_a_database_in_memory_is_one_for_all_transactions(open_on: Any, models: SimpleNamespace) -> None:
    backend = await open_on(None)

    async def write(number: int) -> None:
        execution = backend.execution()
        await backend.write(execution, [Insert(models.Product(sku=str(number)))])
        await execution.commit()

    await asyncio.gather(*map(write, range(20)))
    cancelled = backend.execution()
    running = asyncio.create_task(cancelled.fetch(ENDLESS, ()))
    await asyncio.wait([running], timeout=0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await cancelled.close()
    reader = backend.execution(read_only=True)
    assert await reader.fetch("SELECT count(*) FROM products", ()) == [(20,)]
    await reader.close()


@pytest.mark.contract("REPO-126")
@pytest.mark.parametrize("where", ["in memory", "writer", "reader"])
async def test_a_cancelled_statement_of_sqlalchemy_does_not_cost_the_connection(
    open_on: Any, file: Path, where: str, models: SimpleNamespace
) -> None:
    backend = await open_on(None if where == "in memory" else file)
    slow = ENDLESS.replace("FROM n)", "FROM n LIMIT 1000000)")  # SQLAlchemy closes its cursor behind the statement
    for _ in range(2):
        execution = backend.execution(read_only=where == "reader")
        await execution.begin()
        running = asyncio.create_task(execution.connection.exec_driver_sql(slow))
        done, _ = await asyncio.wait([running], timeout=0.02)
        assert not done
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await execution.close()
    assert await backend.schema_diff() == []
    await backend.create_schema()


@pytest.mark.contract("REPO-124")
async def test_a_cancelled_read_by_itself_is_stopped(open_on: Any, file: Path) -> None:
    backend = await open_on(file, pool_size=1)
    slow = ENDLESS.replace("FROM n)", "FROM n LIMIT 100000000)")  # so that this test ends, whatever becomes of it
    for _ in range(2):
        reading = backend.execution(read_only=True, isolation="autocommit")
        running = asyncio.create_task(reading.fetch(slow, ()))
        await asyncio.wait([running], timeout=0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(5):
            await reading.close()
            await backend.check()


@pytest.mark.contract("REPO-124")
async def test_who_could_not_connect_waits_in_no_line(backend: SqlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = backend.dialect.connect

    async def fail(**_: Any) -> Any:
        raise OSError("no more files")

    execution = backend.execution()
    monkeypatch.setattr(backend.dialect, "connect", fail)
    with pytest.raises(Unreachable, match="no more files"):
        await execution.begin()
    monkeypatch.setattr(backend.dialect, "connect", connect)
    async with asyncio.timeout(5):
        await execution.begin()
        await execution.close()
        await backend.create_schema()


@pytest.mark.contract("REPO-124")
async def test_a_place_whose_connection_could_not_be_made_has_one_later(open_on: Any, file: Path) -> None:
    backend = await open_on(file, pool_size=1)
    await backend.check()
    reading = backend.execution(read_only=True)
    await reading.begin()
    await reading.connection.invalidate()
    await reading.close()

    await backend.check()
    await backend.check()


@pytest.mark.contract("REPO-127")
async def test_two_backends_on_one_file_meet_in_the_versions(
    backend: SqlBackend, open_on: Any, file: Path, store: Any, models: SimpleNamespace
) -> None:
    other = await open_on(file)
    await store.add(models.Product(sku="A"))
    mine, theirs = backend.execution(read_only=True), other.execution(read_only=True)
    ((a, _),) = await backend.load(mine, models.Product, ["A"])
    ((b, _),) = await other.load(theirs, models.Product, ["A"])
    await mine.close()
    await theirs.close()
    before = snapshot(a), snapshot(b)
    a.batches.append(models.Batch(sku="A", purchased_quantity=1, reference="a"))
    b.batches.append(models.Batch(sku="A", purchased_quantity=1, reference="b"))
    await store.write(Update(a, diff(before[0], a), 1))
    execution = other.execution()
    with pytest.raises(ConcurrentModification):
        await other.write(execution, [Update(b, diff(before[1], b), 1)])
    await execution.close()


@pytest.mark.contract("REPO-128")
async def test_a_lock_of_another_process_is_a_conflict(open_on: Any, file: Path) -> None:
    backend = await open_on(file, busy_timeout=0.05)
    other = sqlite3.connect(file)
    other.execute("BEGIN IMMEDIATE")
    execution = backend.execution()
    with pytest.raises(Conflict, match="locked"):
        await execution.begin()
    await execution.close()
    other.close()
    await write_free(backend)


@pytest.mark.contract("REPO-128")
async def test_a_lock_that_is_let_go_in_time_is_waited_for(open_on: Any, file: Path) -> None:
    backend = await open_on(file)
    other = sqlite3.connect(file, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    execution = backend.execution()
    waiting = asyncio.create_task(execution.begin())
    await asyncio.wait([waiting], timeout=0.05)
    other.close()
    await waiting
    await execution.commit()


CHILD = """
    import asyncio, sys
    from wintry.models import Model, RequiredId
    from wintry.repository.backend import Insert, Update
    from wintry.repository.sql import open_backend
    from wintry.models.tracking import diff, snapshot

    class Counter(Model):
        id: str = RequiredId()
        value: int = 0

    async def main(url, mode):
        backend = open_backend("default", url, {})
        backend.bind(Counter)
        await backend.open()
        await backend.create_schema()
        if mode == "die":
            execution = backend.execution()
            await backend.write(execution, [Insert(Counter(id="kept"))])
            await execution.commit()
            execution = backend.execution()
            await backend.write(execution, [Insert(Counter(id="lost"))])
            print("written", flush=True)
            await asyncio.Event().wait()
        for _ in range(50):
            execution = backend.execution()
            try:
                found = await backend.load(execution, Counter, ["c"])
                if found:
                    (counter, version), = found
                    before = snapshot(counter)
                    counter.value += 1
                    await backend.write(execution, [Update(counter, diff(before, counter), version)])
                else:
                    await backend.write(execution, [Insert(Counter(id="c", value=1))])
                await execution.commit()
            finally:
                await execution.close()
        await backend.close()

    asyncio.run(main(*sys.argv[1:]))
"""


def child(file: Path, mode: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(CHILD)
    return subprocess.Popen(
        [sys.executable, "-c", code, f"sqlite:///{file}", mode], stdout=subprocess.PIPE, text=True, env=os.environ
    )


@pytest.mark.contract("REPO-129")
def test_two_processes_lose_no_update(file: Path) -> None:
    children = [child(file, "count") for _ in range(2)]
    for each in children:
        each.communicate(timeout=60)
        assert each.returncode == 0
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT value, _version FROM counters").fetchall() == [(100, 100)]
    connection.close()


@pytest.mark.contract("REPO-129")
def test_a_killed_process_leaves_what_it_committed_and_nothing_else(file: Path) -> None:
    process = child(file, "die")
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not locked(file)
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT id FROM counters").fetchall() == [("kept",)]
    connection.close()


@pytest.mark.contract("REPO-130")
@pytest.mark.parametrize("what", ["no folder", "a folder", "no database"])
async def test_a_database_that_cannot_be_opened_says_where_and_what_to_do(tmp_path: Path, what: str) -> None:
    file = tmp_path / "missing" / "shop.db" if what == "no folder" else tmp_path / "shop.db"
    if what == "a folder":
        file.mkdir()
    elif what == "no database":
        file.write_text("this is no database, but long enough to be looked at as one" * 20)
    async with AsyncExitStack() as stack:
        backend = open_backend("default", f"sqlite:///{file}", {})
        stack.push_async_callback(backend.close)
        with pytest.raises(Unreachable) as caught:
            await backend.open()
        assert str(file) in str(caught.value)
        assert ("create it" if what == "no folder" else "see that") in str(caught.value)


@pytest.mark.contract("REPO-130")
async def test_a_sign_of_life(backend: SqlBackend, stack: AsyncExitStack, tmp_path: Path) -> None:
    await backend.check()
    broken = tmp_path / "broken.db"
    broken.write_text("this is no database, but long enough to be looked at as one" * 20)
    for file in (broken, tmp_path / "missing" / "shop.db"):
        other = open_backend("other", f"sqlite:///{file}", {})
        stack.push_async_callback(other.close)
        with pytest.raises(Unreachable, match=file.name):
            await other.check()


@pytest.mark.contract("REPO-130")
def test_what_cannot_be_opened_is_not_left_open(tmp_path: Path) -> None:
    file = tmp_path / "broken.db"
    file.write_text("this is no database, but long enough to be looked at as one" * 20)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        sqlite3.connect(file, factory=partial(Connection, pragmas=["journal_mode"]))
    assert caught.tb  # as long as that is there the connection is
    assert [entry for entry in Path("/proc/self/fd").iterdir() if entry.exists() and entry.samefile(file)] == []


@pytest.mark.contract("REPO-131")
async def test_the_database_is_durable_and_checks_its_references(backend: SqlBackend, open_on: Any, file: Path) -> None:
    relaxed = await open_on(file, synchronous="normal")
    for opened, level in ((backend, 2), (relaxed, 1)):
        execution = opened.execution()
        assert await execution.fetch("PRAGMA journal_mode", ()) == [("wal",)]
        assert await execution.fetch("PRAGMA synchronous", ()) == [(level,)]
        assert await execution.fetch("PRAGMA foreign_keys", ()) == [(1,)]
        await execution.close()


@pytest.mark.contract("REPO-132")
@pytest.mark.parametrize(
    ("url", "options", "reason"),
    [
        ("sqlite://host/shop.db", {}, "sqlite:///"),
        ("sqlite:///shop.db?mode=ro", {}, "sqlite:///"),
        ("sqlite:///shop.db", {"pool": 3}, "has no option pool"),
        ("sqlite:///shop.db", {"pool_size": 0}, "pool_size"),
        ("sqlite:///shop.db", {"busy_timeout": "5 s"}, "busy_timeout"),
        ("sqlite:///shop.db", {"synchronous": "OFF"}, "FULL or NORMAL"),
    ],
)
def test_a_wrong_url_or_option_is_told(url: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        open_backend("default", url, options)


def test_another_isolation_is_unsupported() -> None:
    backend = open_backend("default", "sqlite://", {})
    with pytest.raises(Unsupported, match="read uncommitted"):
        backend.execution(isolation="read uncommitted")


@pytest.mark.contract("REPO-133")
async def test_reads_in_autocommit_begin_no_transaction(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    await store.add(models.Product(sku="A"))
    execution = backend.execution(read_only=True, isolation="autocommit")
    assert len(await backend.load(execution, models.Product, ["A"])) == 1
    assert not execution.driver.in_transaction
    await store.add(models.Product(sku="B"))
    assert len(await backend.load(execution, models.Product, ["B"])) == 1
    await execution.commit()

"""PostgreSQL: its tables, one statement for an aggregate, and what conflicts, limits and crashes leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from wintry.models import Field, Model, RequiredId, same
from wintry.models.tracking import diff, snapshot
from wintry.repository import Backends, Repository
from wintry.repository.backend import Delete, Insert, Update
from wintry.repository.errors import (
    AlreadyExists,
    ConcurrentModification,
    ConfigurationError,
    Conflict,
    UnitAborted,
    UnitTimeout,
    Unreachable,
    Unsupported,
)
from wintry.repository.sql import SchemaMismatch, SqlBackend, open_backend, table

pytestmark = pytest.mark.anyio

ALLOCATION_DDL = """
CREATE TABLE products ( sku TEXT COLLATE "C" NOT NULL, _version BIGINT NOT NULL, PRIMARY KEY (sku) )
CREATE TABLE product_batches (
 _product_sku TEXT COLLATE "C" NOT NULL,
 sku TEXT COLLATE "C" NOT NULL,
 purchased_quantity BIGINT NOT NULL,
 reference TEXT COLLATE "C" NOT NULL,
 eta DATE,
 _position BIGINT NOT NULL,
 PRIMARY KEY (_product_sku, reference),
 FOREIGN KEY(_product_sku) REFERENCES products (sku) ON DELETE CASCADE
)
CREATE TABLE product_batches_allocations (
 _product_sku TEXT COLLATE "C" NOT NULL,
 _batches_reference TEXT COLLATE "C" NOT NULL,
 sku TEXT COLLATE "C" NOT NULL,
 qty BIGINT NOT NULL,
 orderid TEXT COLLATE "C" NOT NULL,
 _position BIGINT NOT NULL,
 PRIMARY KEY (_product_sku, _batches_reference, sku, orderid),
 FOREIGN KEY(_product_sku, _batches_reference) REFERENCES product_batches (_product_sku, reference) ON DELETE CASCADE
)
"""


@pytest.fixture
def database() -> str:
    return "postgresql"


@pytest.fixture
async def other(shared_postgres_url: str) -> AsyncIterator[Any]:
    """A connection of somebody else to the same database."""
    connection = await asyncpg.connect(shared_postgres_url)
    yield connection
    await connection.close()


def product(models: SimpleNamespace, sku: str = "A", count: int = 3) -> Any:
    def batch(number: int) -> Any:
        lines = [models.OrderLine(sku=sku, qty=n, orderid=f"o{n}") for n in range(5)]
        return models.Batch(sku=sku, purchased_quantity=9, reference=f"{sku}{number}", allocations=lines)

    return models.Product(sku=sku, batches=[batch(number) for number in range(count)])


@contextmanager
def logged(execution: Any) -> Iterator[list[str]]:
    """The statements that go over the driver; each is told in the next round of the event loop."""
    seen: list[str] = []
    with execution.driver.query_logger(lambda record: seen.append(record.query)):
        yield seen


@pytest.mark.contract("REPO-200")
async def test_the_tables_of_the_allocation_service(backend: SqlBackend, models: SimpleNamespace) -> None:
    tables = [table(models.Product, backend, *path) for path in ((), ("batches",), ("batches", "allocations"))]
    made = [str(sa.schema.CreateTable(each).compile(dialect=backend.dialect.compiler)) for each in tables]
    assert " ".join("".join(made).split()) == " ".join(ALLOCATION_DDL.split())


@pytest.mark.contract("REPO-200")
async def test_columns_have_native_types(backend: SqlBackend, other: Any) -> None:
    text = "SELECT column_name, data_type, collation_name FROM information_schema.columns WHERE table_name=$1"
    found = {row[0]: row[1:] for row in await other.fetch(text, "everythings")}
    types = {name: kind for name, (kind, _) in found.items()}
    assert (types["id"], types["day"], types["ratio"]) == ("bigint", "date", "double precision")
    assert (types["at"], types["done"], types["words"]) == ("timestamp with time zone", "boolean", "jsonb")
    assert found["code"] == ("text", "C")


@pytest.mark.contract("REPO-201")
async def test_a_schema_that_is_there_has_no_difference(backend: SqlBackend) -> None:
    assert await backend.schema_diff() == []


@pytest.mark.contract("REPO-201")
async def test_a_table_that_differs_stops_the_start(postgres_url: str, models: SimpleNamespace) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE products (sku integer PRIMARY KEY)")
    await connection.close()
    backend = open_backend("default", postgres_url, {})
    backend.bind(models.Product)
    try:
        with pytest.raises(SchemaMismatch, match=r"products\.sku is INTEGER"):
            await backend.create_schema()
        assert "table product_batches is missing" in await backend.schema_diff()
    finally:
        await backend.close()


@pytest.mark.contract("REPO-201")
async def test_two_who_make_the_schema_at_once_both_have_it(postgres_url: str, models: SimpleNamespace) -> None:
    several = [open_backend("default", postgres_url, {"pool_size": 1}) for _ in range(4)]
    for backend in several:
        backend.bind(models.Everything)
    try:
        await asyncio.gather(*(backend.create_schema() for backend in several))
        assert await several[0].schema_diff() == []
    finally:
        for backend in several:
            await backend.close()


@pytest.mark.contract("REPO-200")
async def test_values_that_are_hard_to_keep(store: Any, models: SimpleNamespace) -> None:
    made = models.Everything(
        id=-(2**63),
        day=date.max,
        ratio=-0.0,
        code="ß\U0001f600\uffff",
        at=datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC),
        home=models.Address(geo=models.Geo(lat=0.1 + 0.2, lon=5e-324, tracks=[1e300, -0.0])),
        days=[date.min, date.max],
        words=["", "\n", '"'],
        streets=[models.Street(name="s", numbers=[models.Note(text="n", at=datetime.max.replace(tzinfo=UTC))])],
    )
    await store.add(made)
    ((found, version),) = await store.load(models.Everything, (-(2**63), date.max))
    assert same(found, made), found
    assert version == 1


@pytest.mark.contract("REPO-202")
@pytest.mark.parametrize("count", [1, 40])
async def test_aggregates_are_loaded_in_one_statement(
    backend: SqlBackend, store: Any, models: SimpleNamespace, count: int
) -> None:
    await store.add(*(product(models, f"P{number:02}") for number in range(count)))
    ids = [f"P{number:02}" for number in range(count)]
    execution = backend.execution(read_only=True)
    await backend.load(execution, models.Product, ids)  # the first time asyncpg asks what a record is
    with logged(execution) as seen:
        found = await backend.load(execution, models.Product, ids)
        await asyncio.sleep(0)
    await execution.close()
    assert len(seen) == 1, seen
    assert all(same(each, product(models, each.sku)) for each, _ in found)
    assert len(found) == count


@pytest.mark.contract("REPO-202")
async def test_many_aggregates_are_written_in_a_fixed_number_of_statements(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    execution = backend.execution()
    await execution.begin()
    with logged(execution) as seen:
        await backend.write(execution, [Insert(product(models, f"P{number}")) for number in range(20)])
        await asyncio.sleep(0)
    assert len(seen) == 3, "one for each table"
    found = [each for each, _ in await backend.load(execution, models.Product, [f"P{number}" for number in range(20)])]
    before = [snapshot(each) for each in found]
    for each in found:
        each.batches[0].allocations.append(models.OrderLine(sku="x", qty=1, orderid="new"))
    changes = [Update(each, diff(old, each), 1) for old, each in zip(before, found, strict=True)]
    with logged(execution) as seen:
        await backend.write(execution, changes)
        await asyncio.sleep(0)
    await execution.commit()
    assert [text.split()[0] for text in seen] == ["UPDATE", "INSERT"]


async def test_a_batch_of_guards_names_the_row_that_is_stale(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    await store.add(*(models.Product(sku=sku) for sku in "ABC"))
    with pytest.raises(ConcurrentModification) as caught:
        await store.write(*(Delete(models.Product, sku, 2 if sku == "B" else 1) for sku in "ABC"))
    assert (caught.value.id, caught.value.expected, caught.value.found) == ("B", 2, 1)
    assert len(await store.load(models.Product, *"ABC")) == 3


@pytest.mark.contract("REPO-203")
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


@pytest.mark.contract("REPO-203")
async def test_a_commit_holds_what_went_over_sqlalchemy_and_over_the_driver(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    execution = backend.execution()
    await backend.write(execution, [Insert(models.Product(sku="A"))])
    await execution.session.execute(table(models.Product, backend).insert().values(sku="B", _version=1))
    await execution.commit()
    assert await store.rows("SELECT sku FROM products ORDER BY sku") == [("A",), ("B",)]


@pytest.mark.contract("REPO-203")
async def test_a_unit_sees_one_snapshot(backend: SqlBackend, store: Any, models: SimpleNamespace) -> None:
    await store.add(models.Product(sku="A"))
    unit = backend.execution()
    assert len(await backend.load(unit, models.Product, ["A", "B"])) == 1
    await store.add(models.Product(sku="B"))
    assert len(await backend.load(unit, models.Product, ["A", "B"])) == 1
    await unit.commit()


@pytest.mark.contract("REPO-204")
async def test_writing_what_another_changed_meanwhile_is_a_conflict(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    await store.add(models.Product(sku="A"))
    unit = backend.execution()
    ((mine, version),) = await backend.load(unit, models.Product, ["A"])
    await store.change(models.Product, "A", lambda each: each.batches.extend(product(models).batches))
    with pytest.raises(Conflict, match="run the unit again"):
        await backend.write(unit, [Update(mine, diff(snapshot(mine), mine), version)])
    with pytest.raises(UnitAborted):
        await unit.commit()


@pytest.mark.contract("REPO-204")
async def test_a_deadlock_is_a_conflict_of_one(backend: SqlBackend, store: Any, models: SimpleNamespace) -> None:
    await store.add(models.Product(sku="A"), models.Product(sku="B"))
    met = asyncio.Barrier(2)

    async def both(first: str, second: str) -> Exception | None:
        unit = backend.execution()
        try:
            await unit.change("UPDATE products SET _version = 2 WHERE sku = $1", (first,))
            await met.wait()
            await unit.change("UPDATE products SET _version = 2 WHERE sku = $1", (second,))
            await unit.commit()
        except Conflict as error:
            return error
        finally:
            await unit.close()
        return None

    ended = await asyncio.gather(both("A", "B"), both("B", "A"))
    assert [error for error in ended if error], "one of the two is told to try again"


@pytest.mark.contract("REPO-205")
async def test_a_unique_value_of_a_batch_is_named(backend: SqlBackend, store: Any, models: SimpleNamespace) -> None:
    moment = date(2026, 1, 1)
    await store.add(models.Everything(id=5, day=moment, code="taken"))
    many = [models.Everything(id=number, day=moment, code=f"c{number}") for number in range(5)]
    many[3].code = "taken"
    with pytest.raises(AlreadyExists) as caught:
        await store.add(*many)
    assert (caught.value.field, caught.value.value) == ("code", "taken")
    many[3].code, many[4].id = None, 5
    with pytest.raises(AlreadyExists) as caught:
        await store.add(*many)
    assert (caught.value.field, caught.value.value) == ("id, day", (5, moment))


@pytest.mark.contract("REPO-205")
@pytest.mark.parametrize("taken", [1.0, -0.25, 1e15, 1e-7, 1.7976931348623157e308])
async def test_a_unique_float_of_a_batch_is_named(taken: float, postgres_url: str) -> None:
    class Measured(Model):
        id: int = RequiredId()
        width: float = Field(unique=True)

    class Measures(Repository[Measured, int], entity=Measured): ...

    async with Backends(default=postgres_url) as backends:
        measures = Measures(backends)
        await measures.create(entity=Measured(id=1, width=taken))
        with pytest.raises(AlreadyExists) as caught:
            await measures.create_many(entities=[Measured(id=2, width=2.5), Measured(id=3, width=taken)])
        assert (caught.value.field, caught.value.value) == ("width", taken)


async def test_after_an_error_over_the_driver_nothing_is_committed(
    backend: SqlBackend, store: Any, models: SimpleNamespace
) -> None:
    unit = backend.execution()
    await backend.write(unit, [Insert(models.Product(sku="A"))])
    with pytest.raises(asyncpg.PostgresError):
        await unit.driver.execute("SELECT 1 / 0")
    with pytest.raises(UnitAborted):
        await unit.commit()
    assert await store.load(models.Product, "A") == []


@pytest.mark.contract("REPO-206")
@pytest.mark.parametrize("way", ["hot path", "session"])
async def test_a_unit_ends_with_its_time(backend: SqlBackend, store: Any, models: SimpleNamespace, way: str) -> None:
    unit = backend.execution(timeout=0.2)
    await backend.write(unit, [Insert(models.Product(sku="A"))])
    if way == "hot path":
        with pytest.raises(UnitTimeout):
            await unit.fetch("SELECT pg_sleep(30)", ())
    else:
        with pytest.raises(sa.exc.DBAPIError):
            await unit.session.execute(sa.text("SELECT pg_sleep(30)"))
    with pytest.raises((UnitTimeout, UnitAborted)):
        await unit.commit()
    assert await store.load(models.Product, "A") == []


@pytest.mark.contract("REPO-206")
async def test_a_cancelled_statement_ends_on_the_server_too(backend: SqlBackend, models: SimpleNamespace) -> None:
    unit = backend.execution()
    await backend.write(unit, [Insert(models.Product(sku="A"))])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await unit.fetch("SELECT pg_sleep(30)", ())
    async with asyncio.timeout(5):
        await unit.close()
        again = backend.execution()
        assert await backend.load(again, models.Product, ["A"]) == []
        await again.close()


@pytest.mark.contract("REPO-207")
async def test_an_exhausted_pool_names_who_holds_it(shared_postgres_url: str) -> None:
    backend = open_backend("default", shared_postgres_url, {"pool_size": 1, "acquire_timeout": 0.1})
    before, held = backend.execution(), backend.execution()
    try:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("modest")
        await before.begin()
        assert before.connection is not None, "which gives it back to the pool"
        await before.commit()
        task.set_name("greedy")
        await held.begin()
        with pytest.raises(Unreachable, match=r"all 1 are held by greedy:"):
            await backend.execution().begin()
    finally:
        await held.close()
        await backend.close()


@pytest.mark.contract("REPO-208")
async def test_a_server_that_ends_the_connection_rolled_back(
    backend: SqlBackend, store: Any, models: SimpleNamespace, other: Any
) -> None:
    unit = backend.execution()
    await backend.write(unit, [Insert(models.Product(sku="A"))])
    await other.fetchval("SELECT pg_terminate_backend($1)", unit.driver.get_server_pid())
    with pytest.raises(Unreachable, match="rolled back"):
        await unit.fetch("SELECT 1", ())
    await unit.close()
    assert await store.load(models.Product, "A") == [], "and the next one has a connection that works"


@pytest.mark.contract("REPO-208")
async def test_a_connection_lost_in_the_commit_has_an_unknown_fate(
    backend: SqlBackend, models: SimpleNamespace, other: Any
) -> None:
    unit = backend.execution()
    await backend.write(unit, [Insert(models.Product(sku="A"))])
    await other.fetchval("SELECT pg_terminate_backend($1)", unit.driver.get_server_pid())
    with pytest.raises(Unreachable, match="not known"):
        await unit.commit()


@pytest.mark.contract("REPO-208")
async def test_connections_that_died_idle_are_not_handed_out(
    backend: SqlBackend, models: SimpleNamespace, store: Any, other: Any
) -> None:
    unit = backend.execution()
    await unit.begin()
    driver = unit.driver
    await unit.close()
    await other.fetchval("SELECT pg_terminate_backend($1)", driver.get_server_pid())
    async with asyncio.timeout(5):
        while not driver.is_closed():
            await asyncio.sleep(0.001)
    assert await store.load(models.Product, "A") == []


PID = "SELECT pg_backend_pid()"


@pytest.mark.contract("REPO-208")
async def test_a_connection_that_died_between_two_executions_is_not_handed_out(backend: SqlBackend, other: Any) -> None:
    unit = backend.execution()
    [(pid,)] = await unit.fetch(PID, ())
    await unit.close()
    [kept] = backend.dialect._kept  # type: ignore[attr-defined]  # nothing else shows when the client has noticed
    await other.fetchval("SELECT pg_terminate_backend($1)", pid)
    async with asyncio.timeout(5):
        while not kept.connection.driver_connection.is_closed():
            await asyncio.sleep(0.001)

    again = backend.execution()

    assert await again.fetch(PID, ()) != [(pid,)]
    await again.close()


@pytest.mark.contract("REPO-208")
@pytest.mark.parametrize("how", ["cancelled", "ended by the server"])
async def test_a_statement_of_sqlalchemy_that_loses_its_connection_costs_no_other(
    shared_postgres_url: str, other: Any, how: str
) -> None:
    backend = open_backend("default", shared_postgres_url, {"pool_size": 2})
    try:
        for _ in range(3):
            unit = backend.execution()
            [(pid,)] = await unit.fetch(PID, ())
            running = asyncio.create_task(unit.session.execute(sa.text("SELECT pg_sleep(30)")))
            await asyncio.wait([running], timeout=0.05)
            if how == "cancelled":
                running.cancel()
            else:
                await other.fetchval("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises(asyncio.CancelledError if how == "cancelled" else sa.exc.DBAPIError):
                await running
            await unit.close()
        units = [backend.execution() for _ in range(2)]
        async with asyncio.timeout(5):
            assert len({(await unit.fetch(PID, ()))[0][0] for unit in units}) == 2
            for unit in units:
                await unit.commit()
    finally:
        await backend.close()


@pytest.mark.contract("REPO-210")
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_an_execution_has_the_connection_of_the_one_before_and_nothing_else_of_it(
    backend: SqlBackend, end: str
) -> None:
    pids = set()
    for _ in range(3):
        unit = backend.execution()
        pids |= {tuple(row) for row in await unit.fetch(PID, ())}
        assert await unit.fetch("SELECT current_setting('statement_timeout')", ()) == [("0",)]
        await unit.fetch("SET LOCAL statement_timeout = 5000", ())
        await getattr(unit, end)()
    assert len(pids) == 1


@pytest.mark.contract("REPO-210")
async def test_a_connection_that_was_handed_out_is_of_no_use_after_its_execution(backend: SqlBackend) -> None:
    unit = backend.execution()
    await unit.begin()
    mine = unit.connection
    await unit.commit()
    later = backend.execution()
    await later.begin()

    with pytest.raises(sa.exc.ResourceClosedError):
        await mine.execute(sa.text("SELECT 1"))

    await later.close()


@pytest.mark.contract("REPO-210")
async def test_who_waits_for_a_connection_gets_the_next_one_that_is_free(shared_postgres_url: str) -> None:
    backend = open_backend("default", shared_postgres_url, {"pool_size": 1, "acquire_timeout": 5})
    ended = []

    async def turn(number: int) -> None:
        for _ in range(5):
            unit = backend.execution()
            await unit.fetch(PID, ())
            await unit.commit()
            ended.append(number)

    try:
        async with asyncio.timeout(5):
            await asyncio.gather(*(turn(number) for number in range(8)))
    finally:
        await backend.close()
    assert len(ended) == 40
    assert set(ended[:20]) == set(range(8)), "nobody is passed over until the others are done"


@pytest.mark.contract("REPO-210")
async def test_closing_the_backend_closes_what_is_kept_and_what_comes_back_later(postgres_url: str, other: Any) -> None:
    backend = open_backend("default", postgres_url, {"pool_size": 2})
    units = [backend.execution() for _ in range(2)]
    pids = [(await unit.fetch(PID, ()))[0][0] for unit in units]
    await units[0].commit()

    await backend.close()
    await units[1].commit()

    async with asyncio.timeout(5):
        while await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1::int[])", pids):
            await asyncio.sleep(0.01)


@pytest.mark.contract("REPO-209")
@pytest.mark.parametrize(
    ("url", "options", "fault"),
    [
        ("postgresql://localhost/x", {"pool": 1}, "no option pool"),
        ("postgresql://localhost/x", {"pool_size": 0}, "pool_size is a number"),
        ("postgresql://localhost:port/x", {}, "URL of PostgreSQL"),
    ],
)
async def test_what_is_configured_wrong_is_told(url: str, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        open_backend("default", url, options)


@pytest.mark.contract("REPO-209")
async def test_a_server_that_is_not_there_is_unreachable() -> None:
    backend = open_backend("default", "postgresql://someone:secret@127.0.0.1:1/shop", {})
    with pytest.raises(Unreachable, match=r"shop at 127\.0\.0\.1:1") as caught:
        await backend.open()
    assert "secret" not in str(caught.value)
    await backend.close()


@pytest.mark.contract("REPO-209")
async def test_a_database_that_is_not_there_is_unreachable(shared_postgres_url: str) -> None:
    url = f"{shared_postgres_url.rpartition('/')[0]}/nowhere"
    backend = open_backend("default", url, {})
    with pytest.raises(Unreachable, match="nowhere"):
        await backend.open()
    await backend.close()


async def test_isolations_are_checked(backend: SqlBackend) -> None:
    with pytest.raises(Unsupported, match="there is: snapshot, serializable, read committed"):
        backend.execution(isolation="dirty")
    for isolation, shown in (
        ("snapshot", "repeatable read"),
        *((each, each) for each in backend.dialect.isolations[1:]),
    ):
        unit = backend.execution(isolation=isolation)
        assert await unit.fetch("SHOW transaction_isolation", ()) == [(shown,)]
        await unit.close()


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg", "postgres"])
async def test_each_scheme_finds_the_backend(shared_postgres_url: str, scheme: str) -> None:
    url = f"{scheme}://{shared_postgres_url.partition('://')[2]}"
    async with Backends(default=url) as backends:
        assert backends["default"].kind == "postgresql"
        assert await backends.check() == {"default": None}

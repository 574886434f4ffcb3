"""Whatever goes wrong between a unit and its server: all of it is stored or nothing, and the next unit works.

The driver fails at each of its calls in turn, before it has sent anything and after the server has done it; a server
ends, hangs, or hands its office on in the middle of a unit.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pymongo import AsyncMongoClient, MongoClient
from wintry_test_servers.databases import mongodb_database
from wintry_test_servers.plugin import server

from wintry.repository.sql.dialects import postgresql, sqlite
from wintry.uow import Conflict, StoreError, UnitAborted, UnitTimeout, Unreachable

pytestmark = pytest.mark.anyio


async def work(world: Any, uow: Any) -> None:
    """Each kind of statement, some before the commit."""
    table = await uow.products.get("TABLE")
    table.name = "changed"
    (chair,) = await uow.products.find_by_name(name="")
    await uow.products.delete(entity=chair)
    await uow.customers.create(entity=world.Customer(id="ann"))
    assert await uow.products.count() == 1
    table.batches[0].lines.append(world.Line(orderid="o1", qty=1))
    table.batches.append(world.Batch(reference="TABLE-2", quantity=5))


async def stored(world: Any) -> list[Any]:
    """All that is stored, with the versions."""
    products, customers = await world.products.find(), await world.customers.find()
    found = [(product.to_dict(), world.products.version_of(product)) for product in products]
    return [*found, *((customer.to_dict(), world.customers.version_of(customer)) for customer in customers)]


async def start(world: Any) -> None:
    await world.products.delete_all()
    await world.customers.delete_all()
    await world.stock("TABLE")
    await world.stock("CHAIR")


class Faults:
    """Counts calls of a driver, and lets one fail."""

    def __init__(self) -> None:
        self.count = 0
        self.fail_at = 0
        self.afterwards = False

    def arm(self, number: int, *, afterwards: bool) -> None:
        self.count, self.fail_at, self.afterwards = 0, number, afterwards

    async def around(self, call: Callable[[], Awaitable[Any]], fail: Callable[[], Exception]) -> Any:
        self.count += 1
        failing = self.count == self.fail_at
        if failing and not self.afterwards:
            raise fail()
        result = await call()
        if failing:
            raise fail()
        return result


@contextmanager
def failing_asyncpg(faults: Faults, patch: pytest.MonkeyPatch) -> Iterator[None]:
    def broken(name: str) -> Any:
        real = getattr(asyncpg.Connection, name)

        async def call(self: Any, *args: Any, **options: Any) -> Any:
            def lost() -> Exception:
                self.terminate()
                return asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

            return await faults.around(lambda: real(self, *args, **options), lost)

        return call

    for name in ("execute", "fetch", "fetchmany", "executemany"):
        patch.setattr(postgresql.Connection, name, broken(name), raising=False)
    yield


@contextmanager
def failing_sqlite(faults: Faults, patch: pytest.MonkeyPatch) -> Iterator[None]:
    real = sqlite.on_thread

    async def on_thread(driver: Any, function: Any, *arguments: Any) -> Any:
        def broken() -> Exception:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            return error

        return await faults.around(lambda: real(driver, function, *arguments), broken)

    patch.setattr(sqlite, "on_thread", on_thread)
    yield


DRIVERS = {"sqlite": failing_sqlite, "postgresql": failing_asyncpg}


@pytest.mark.contract("UOW-027", "UOW-005")
@pytest.mark.parametrize("afterwards", [False, True], ids=["not sent", "not answered"])
@pytest.mark.parametrize("kind", DRIVERS)
async def test_whichever_call_of_the_driver_fails_all_is_stored_or_nothing(
    opened: Any, fresh_url: Any, kind: str, afterwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults()
    async with opened(default=fresh_url(kind)) as world:
        await start(world)
        before = await stored(world)
        with DRIVERS[kind](faults, monkeypatch):
            faults.arm(0, afterwards=afterwards)
            await world.uow.run(lambda uow: work(world, uow))
            calls, after = faults.count, await stored(world)
            assert calls >= 6
            for number in range(1, calls + 1):
                await start(world)
                faults.arm(number, afterwards=afterwards)
                with pytest.raises(StoreError) as caught:
                    await world.uow.run(lambda uow: work(world, uow))
                assert not isinstance(caught.value, Conflict)
                faults.arm(0, afterwards=afterwards)
                found = await stored(world)
                assert found == (after if afterwards and number == calls else before), number
                if kind == "postgresql" and number == calls:
                    assert "whether that was done is not known" in str(caught.value)
                assert nothing_is_out(world)


def nothing_is_out(world: Any) -> bool:
    """Whether no execution has a connection."""
    dialect = world.products.backend.dialect
    kept = len(getattr(dialect, "_kept", ()))  # between two executions they stay out of the pool on PostgreSQL
    return all(dialect.engine(read_only=read_only).pool.checkedout() == kept for read_only in (False, True))


COMMANDS = ["find", "aggregate", "count", "insert", "update", "delete", "bulkWrite", "commitTransaction"]


@asynccontextmanager
async def fail_command(url: str, mode: Any, **data: Any) -> AsyncIterator[None]:
    """Let mongod fail commands that come from a client with the name "unit"."""
    async with AsyncMongoClient[dict[str, Any]](url.replace("appName=unit", "appName=test")) as client:
        point = {"appName": "unit", **data}
        await client.admin.command("configureFailPoint", "failCommand", mode=mode, data=point)
        try:
            yield
        finally:
            await client.admin.command("configureFailPoint", "failCommand", mode="off")


async def end_sessions(url: str) -> None:
    """What a lost connection has left open on the server, as it does by itself after a minute."""
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        await client.admin.command("killAllSessions", [])


@pytest.fixture(scope="module")
def own_mongodb(servers: Any) -> Iterator[str]:
    """A server of the module's own: a fail point is the whole server's."""
    with server(servers, "mongodb") as made:
        yield made.url


@pytest.fixture
def mongodb_of_a_unit(own_mongodb: str) -> Iterator[str]:
    """An empty database on MongoDB, for a client that calls itself "unit"."""
    with mongodb_database(own_mongodb) as url:
        yield f"{url}&appName=unit"


@pytest.mark.contract("UOW-027")
async def test_from_whichever_command_on_the_server_is_away_all_is_stored_or_nothing(
    opened: Any, mongodb_of_a_unit: str
) -> None:
    url = mongodb_of_a_unit
    async with opened(default=url) as world:
        await start(world)
        before, number, ended = await stored(world), 0, False
        while not ended:
            await start(world)
            async with fail_command(url, {"skip": number}, failCommands=COMMANDS, closeConnection=True):
                try:
                    async with world.uow(timeout=1) as uow:
                        await work(world, uow)
                        await uow.commit()
                    ended = True
                except StoreError as error:
                    last = str(error)
            await end_sessions(url)
            assert ((await stored(world)) == before) is not ended
            number += 1
        assert number >= 7
        assert "did not answer the commit" in last


@pytest.mark.contract("UOW-027", "UOW-306")
async def test_a_commit_that_is_not_answered_is_sent_again_and_the_unit_is_not(
    opened: Any, mongodb_of_a_unit: str
) -> None:
    attempts = 0

    async def counted(uow: Any) -> None:
        nonlocal attempts
        attempts += 1
        await work(world, uow)

    async with opened(default=mongodb_of_a_unit) as world:
        await start(world)
        error = {"code": 64, "errmsg": "waiting for replication timed out"}
        async with fail_command(
            mongodb_of_a_unit, {"times": 2}, failCommands=["commitTransaction"], writeConcernError=error
        ):
            await world.uow.run(counted)

        assert attempts == 1
        assert await world.customers.count() == 1


@pytest.mark.contract("UOW-306")
async def test_a_commit_that_is_never_answered_says_that_its_fate_is_not_known(
    opened: Any, mongodb_of_a_unit: str
) -> None:
    async with opened(default=mongodb_of_a_unit) as world:
        await start(world)
        async with fail_command(
            mongodb_of_a_unit, "alwaysOn", failCommands=["commitTransaction"], closeConnection=True
        ):
            with pytest.raises(UnitTimeout, match="whether that was done is not known"):
                await world.uow(timeout=0.5).run(lambda uow: work(world, uow))
        await end_sessions(mongodb_of_a_unit)


@pytest.mark.contract("UOW-307")
@pytest.mark.parametrize("code", [189, 10107, 251])
async def test_a_primary_that_steps_down_in_a_unit_is_a_conflict_and_the_unit_runs_again(
    opened: Any, mongodb_of_a_unit: str, code: int
) -> None:
    """PrimarySteppedDown, NotWritablePrimary, NoSuchTransaction: as the server says them."""
    attempts = 0

    async def counted(uow: Any) -> None:
        nonlocal attempts
        attempts += 1
        await work(world, uow)

    async with opened(default=mongodb_of_a_unit) as world:
        await start(world)
        labels = {"errorLabels": ["TransientTransactionError"]}
        async with fail_command(mongodb_of_a_unit, {"times": 1}, failCommands=["update"], errorCode=code, **labels):
            await world.uow.run(counted, retry_for=10)

        assert attempts == 2
        assert await world.customers.count() == 1


@pytest.mark.contract("UOW-307")
async def test_a_primary_that_really_steps_down(opened: Any, own_mongodb: str, mongodb_of_a_unit: str) -> None:
    def step_down() -> None:
        with MongoClient[dict[str, Any]](own_mongodb) as client:
            client.admin.command({"replSetStepDown": 1, "secondaryCatchUpPeriodSecs": 0, "force": True})

    def is_primary_again() -> None:
        with MongoClient[dict[str, Any]](own_mongodb, directConnection=True, replicaSet=None) as client:
            while not client.admin.command("hello")["isWritablePrimary"]:
                pass

    attempts = 0

    async def interrupted(uow: Any) -> None:
        nonlocal attempts
        attempts += 1
        (await uow.products.get("TABLE")).name += "changed"
        await uow.products.count()
        if attempts == 1:
            await asyncio.to_thread(step_down)

    async with opened(default=mongodb_of_a_unit) as world:
        await start(world)
        try:
            await world.uow.run(interrupted, retry_for=60)
        finally:
            await asyncio.to_thread(is_primary_again)

        assert attempts >= 2
        assert (await world.products.get("TABLE")).name == "changed"


@pytest.mark.contract("UOW-308")
@pytest.mark.parametrize("kind", ["postgres", "mongodb"])
async def test_a_server_that_is_killed_in_a_unit_loses_nothing_that_was_committed(
    opened: Any, servers: Any, kind: str
) -> None:
    with server(servers, kind) as made:
        options = {"connect_timeout": 1.0} if kind == "mongodb" else {}
        async with opened(default={"url": made.url, **options}) as world:
            await start(world)
            async with world.uow as uow:
                (await uow.products.get("TABLE")).name = "committed"
                await uow.commit()

            with pytest.raises((Unreachable, Conflict)) as caught:
                async with world.uow as uow:
                    (await uow.products.get("TABLE")).name = "lost"
                    assert await uow.products.count() == 2
                    await asyncio.to_thread(made.kill)
                    await uow.commit()
            assert not isinstance(caught.value, UnitAborted)
            with pytest.raises(Unreachable):
                await world.uow.run(lambda uow: uow.products.get("TABLE"))

            await asyncio.to_thread(made.start)
            async with asyncio.timeout(30):
                await world.uow.run(lambda uow: add_line(world, uow), retry_for=20)
            product = await world.products.get("TABLE")
            assert (product.name, len(product.batches[0].lines)) == ("committed", 1)


async def add_line(world: Any, uow: Any) -> None:
    product = await uow.products.get("TABLE")
    product.allocate(world.Line(orderid="o1", qty=1))


@pytest.mark.contract("UOW-071", "UOW-308")
@pytest.mark.parametrize("kind", ["postgres", "mongodb"])
async def test_a_server_that_hangs_in_a_unit_ends_it_with_its_time(opened: Any, servers: Any, kind: str) -> None:
    with server(servers, kind) as made:
        async with opened(default=made.url) as world:
            await start(world)
            try:
                with pytest.raises(UnitTimeout):
                    async with world.uow(timeout=0.5) as uow:
                        (await uow.products.get("TABLE")).name = "lost"
                        await asyncio.to_thread(made.pause)
                        await uow.products.count()
            finally:
                await asyncio.to_thread(made.resume)
            assert (await world.products.get("TABLE")).name == ""


@pytest.mark.contract("UOW-309")
async def test_a_pool_that_runs_dry_names_the_units_that_hold_it(opened: Any, fresh_url: Any) -> None:
    url = fresh_url("postgresql")
    async with opened(default={"url": url, "pool_size": 2, "acquire_timeout": 0.1}) as world:
        await start(world)
        inside, leave = asyncio.Barrier(3), asyncio.Event()

        async def greedy() -> None:
            async with world.uow as uow:
                await uow.products.get("TABLE")
                await inside.wait()
                await leave.wait()

        async with asyncio.TaskGroup() as group:
            for name in ("import of orders", "nightly report"):
                group.create_task(greedy(), name=name)
            await inside.wait()
            with pytest.raises(Unreachable, match="all 2 are held by import of orders, nightly report: end units"):
                async with world.uow as uow:
                    await uow.products.get("TABLE")
            leave.set()
        assert nothing_is_out(world)


@pytest.mark.contract("UOW-309")
async def test_a_pool_of_sqlite_that_runs_dry_says_so(opened: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    async with opened(default={"url": url, "pool_size": 1, "acquire_timeout": 0.1}) as world:
        await start(world)
        async with world.uow(read_only=True) as uow:
            await uow.products.get("TABLE")
            with pytest.raises(Unreachable, match="all 1 connections for reading are in use: end units sooner"):
                await asyncio.create_task(world.products.count())


@pytest.mark.contract("UOW-309")
async def test_a_pool_of_mongodb_that_runs_dry_names_those_whose_statements_hold_it(
    opened: Any, mongodb_of_a_unit: str
) -> None:
    url = mongodb_of_a_unit
    async with opened(default={"url": url, "pool_size": 1, "acquire_timeout": 0.1}) as world:
        await start(world)
        async with fail_command(url, {"times": 1}, failCommands=["find"], blockConnection=True, blockTimeMS=500):
            async with asyncio.TaskGroup() as group:
                slow = group.create_task(world.uow.run(lambda uow: uow.products.get("TABLE")), name="nightly report")
                while not world.products.backend.busy:
                    await asyncio.sleep(0)
                with pytest.raises(Unreachable, match="all 1 are held by statements of nightly report"):
                    async with world.uow as uow:
                        await uow.products.get("TABLE")
            assert slow.result() is not None


@pytest.mark.contract("UOW-002", "UOW-005")
@pytest.mark.parametrize("kind", ["postgresql", "mongodb"])
async def test_500_units_at_once_leave_nothing_open_on_the_server(
    opened: Any, fresh_url: Any, mongodb_of_a_unit: str, kind: str
) -> None:
    """Of four units one commits, one is left, one fails and one is cancelled."""
    url = fresh_url(kind) if kind == "postgresql" else mongodb_of_a_unit
    async with opened(default=url) as world:
        await world.products.count()

        async def unit(number: int) -> None:
            async with world.uow as uow:
                product = await uow.products.create(entity=world.Product(sku=f"P{number:03}", name=str(number)))
                assert await uow.products.find_by_name(name=str(number)) == [product]
                if number % 4 == 0:
                    await uow.commit()
                elif number % 4 == 1:
                    await uow.rollback()
                elif number % 4 == 2:
                    raise ZeroDivisionError
                else:
                    asyncio.current_task().cancel()  # type: ignore[union-attr]  # there is one
                    await uow.products.count()

        found = await asyncio.gather(*(unit(number) for number in range(500)), return_exceptions=True)

        kinds = [type(each) for each in found]
        assert kinds == [type(None), type(None), ZeroDivisionError, asyncio.CancelledError] * 125
        assert [product.sku for product in await world.products.find()] == [f"P{n:03}" for n in range(0, 500, 4)]
        assert await open_transactions(url) == 0
        if kind == "postgresql":
            assert nothing_is_out(world)


async def open_transactions(url: str) -> int:
    """How many transactions are open on the server, or in the database of PostgreSQL."""
    if url.startswith("mongodb"):
        async with AsyncMongoClient[dict[str, Any]](url) as client:
            status = await client.admin.command("serverStatus")
            return int(status["transactions"]["currentOpen"])
    connection = await asyncpg.connect(url)
    text = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    count = int(await connection.fetchval(text))
    await connection.close()
    return count

"""Transactions: what they see, how they fail, and that nothing of them stays open."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from wintry_test_servers.databases import mongodb_database
from wintry_test_servers.plugin import server

from wintry.models import Field, Model, RequiredId
from wintry.models.tracking import diff, snapshot
from wintry.repository.backend import Insert, Update
from wintry.repository.errors import (
    ConfigurationError,
    Conflict,
    StoreError,
    UnitAborted,
    UnitTimeout,
    Unreachable,
    Unsupported,
)
from wintry.repository.mongo import MongoBackend, MongoExecution, collection, open_backend

pytestmark = pytest.mark.anyio

Open = Callable[..., Awaitable[MongoBackend]]


class Item(Model):
    id: str = RequiredId()
    n: int = 0
    code: str | None = Field(default=None, unique=True)


@pytest.fixture(scope="module")
def own_mongodb(servers: Any) -> Iterator[str]:
    """A server of the module's own: a fail point is the whole server's."""
    with server(servers, "mongodb") as made:
        yield made.url


@pytest.fixture
def mongodb_url(own_mongodb: str) -> Iterator[str]:
    with mongodb_database(own_mongodb) as url:
        yield url


@pytest.fixture(params=["pymongo", "motor"])
async def backend(request: pytest.FixtureRequest, open_on: Open) -> MongoBackend:
    backend = await open_on(Item, client=request.param)
    execution = backend.execution()
    await backend.write(execution, [Insert(Item(id="x")), Insert(Item(id="y"))])
    await execution.commit()
    return backend


@asynccontextmanager
async def executions(backend: MongoBackend, number: int) -> AsyncIterator[list[MongoExecution]]:
    made = [backend.execution() for _ in range(number)]
    try:
        yield made
    finally:
        for execution in made:
            await execution.close()


async def add(backend: MongoBackend, execution: MongoExecution, n: int = 1) -> None:
    ((item, version),) = await backend.load(execution, Item, ["x"])
    assert isinstance(item, Item)
    before = snapshot(item)
    item.n += n
    await backend.write(execution, [Update(item, diff(before, item), version)])


async def stored(backend: MongoBackend, id: str = "x") -> Any:
    return await collection(Item, backend).find_one({"_id": id})


@pytest.mark.contract("REPO-320")
async def test_a_transaction_sees_one_moment(backend: MongoBackend) -> None:
    async with executions(backend, 2) as (first, second):
        ((before, _),) = await backend.load(first, Item, ["x"])
        await add(backend, second)
        await second.commit()
        ((after, version),) = await backend.load(first, Item, ["x"])

        assert (before, after, version) == (Item(id="x"), Item(id="x"), 1)


@pytest.mark.contract("REPO-320")
async def test_the_second_of_two_writers_is_told_so(backend: MongoBackend) -> None:
    async with executions(backend, 2) as (first, second):
        await backend.load(second, Item, ["x"])
        await add(backend, first)
        with pytest.raises(Conflict):
            await add(backend, second)
        with pytest.raises(UnitAborted, match="a statement failed earlier"):
            await backend.load(second, Item, ["x"])
        with pytest.raises(UnitAborted):
            await second.commit()
        await first.commit()

    assert (await stored(backend))["n"] == 1


@pytest.mark.contract("REPO-321")
async def test_a_transaction_that_the_server_has_ended_is_a_conflict(backend: MongoBackend) -> None:
    async with executions(backend, 1) as (execution,):
        await add(backend, execution)
        server = backend.client.client.get_database("admin")
        await server.command("killSessions", [execution.client_session.session_id])
        with pytest.raises(Conflict, match="the server has ended this transaction"):
            await backend.load(execution, Item, ["x"])

    assert (await stored(backend))["n"] == 0


@pytest.mark.contract("REPO-322")
async def test_a_commit_whose_outcome_is_not_known_is_sent_again(backend: MongoBackend) -> None:
    admin = backend.client.client.get_database("admin")
    async with executions(backend, 1) as (execution,):
        await add(backend, execution)
        # The driver itself sends nothing again after an error of the write concern.
        await admin.command(
            "configureFailPoint",
            "failCommand",
            mode={"times": 2},
            data={
                "failCommands": ["commitTransaction"],
                "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"},
            },
        )
        try:
            await execution.commit()
        finally:
            await admin.command("configureFailPoint", "failCommand", mode="off")

    assert (await stored(backend))["n"] == 1


@pytest.mark.contract("REPO-323")
async def test_who_may_only_read_cannot_write(backend: MongoBackend) -> None:
    execution = backend.execution(read_only=True)
    with pytest.raises(StoreError, match="may only read"):
        await backend.write(execution, [Insert(Item(id="z"))])
    await execution.close()
    with pytest.raises(Unsupported, match="no isolation 'serializable'"):
        backend.execution(isolation="serializable")


@pytest.mark.contract("REPO-323")
async def test_a_read_outside_a_unit_opens_no_transaction(backend: MongoBackend) -> None:
    execution = backend.execution(read_only=True, isolation="autocommit")
    assert await backend.load(execution, Item, ["x"])
    assert not execution.begun
    with pytest.raises(StoreError, match="no transaction is open"):
        _ = execution.client_session
    await execution.commit()


@pytest.mark.contract("REPO-324")
async def test_statements_of_one_s_own_join_the_transaction(backend: MongoBackend) -> None:
    async with executions(backend, 1) as (execution,):
        await execution.begin()
        raw = collection(Item, backend)
        await raw.update_one({"_id": "x"}, {"$set": {"n": 5}}, session=execution.client_session)
        assert (await backend.load(execution, Item, ["x"]))[0][0] == Item(id="x", n=5)

    assert (await stored(backend))["n"] == 0


async def keep_a_cancellation_to_oneself() -> None:
    """As the driver may, by `asyncio.wait_for` of Python 3.11."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


@pytest.mark.contract("REPO-325")
async def test_a_cancellation_that_the_driver_keeps_to_itself_is_heeded(backend: MongoBackend) -> None:
    async def statement(session: Any) -> int:
        await keep_a_cancellation_to_oneself()
        return 1

    execution = backend.execution()
    task = asyncio.ensure_future(execution.run(statement))
    await asyncio.wait([task])
    assert task.cancelled()
    with pytest.raises(UnitAborted):
        await execution.commit()


@pytest.mark.contract("REPO-325")
async def test_a_cancellation_that_the_driver_keeps_to_itself_at_a_commit_is_raised_behind_it(
    backend: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = MongoExecution._commit

    async def committing(self: MongoExecution, session: Any) -> None:
        await commit(self, session)
        await keep_a_cancellation_to_oneself()

    monkeypatch.setattr(MongoExecution, "_commit", committing)
    steps: list[str] = []

    async def work() -> None:
        execution = backend.execution()
        await backend.write(execution, [Insert(Item(id="new"))])
        await execution.commit()
        steps.append("committed")
        await asyncio.sleep(0)
        steps.append("went on")

    task = asyncio.ensure_future(work())
    await asyncio.wait([task])
    assert (task.cancelled(), steps) == (True, ["committed"])


@pytest.mark.contract("REPO-325")
async def test_a_cancelled_statement_leaves_no_transaction_open(open_on: Open) -> None:
    backend = await open_on(Item)
    admin = backend.client.client.get_database("admin")
    execution = backend.execution()
    await backend.write(execution, [Insert(Item(id="x"))])
    session = execution.client_session
    blocked = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 400}
    await admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=blocked)
    try:
        task = asyncio.ensure_future(backend.load(execution, Item, ["x"]))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.1)
    finally:
        await admin.command("configureFailPoint", "failCommand", mode="off")
    with pytest.raises(UnitAborted):
        await execution.commit()

    assert not session.in_transaction
    assert await stored(backend) is None


@pytest.mark.contract("REPO-326")
async def test_the_time_of_a_transaction_ends(open_on: Open) -> None:
    backend = await open_on(Item)
    admin = backend.client.client.get_database("admin")
    await admin.command(
        "configureFailPoint",
        "failCommand",
        mode={"times": 1},
        data={"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 2_000},
    )
    execution = backend.execution(timeout=0.3)
    try:
        with pytest.raises(UnitTimeout):
            await backend.load(execution, Item, ["x"])
        with pytest.raises(UnitTimeout):
            await execution.commit()
    finally:
        await admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.mark.contract("REPO-327")
async def test_a_pool_that_runs_dry_says_so(open_on: Open) -> None:
    backend = await open_on(Item, pool_size=1, acquire_timeout=0.1)
    admin_of = open_backend("admin", backend.client.url, {})
    await admin_of.open()
    admin = admin_of.client.client.get_database("admin")
    await admin.command(
        "configureFailPoint",
        "failCommand",
        mode={"times": 1},
        data={"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 600},
    )
    try:
        async with executions(backend, 2) as (first, second):
            slow = asyncio.create_task(backend.load(first, Item, ["x"]), name="the slow one")
            while not backend.busy:
                await asyncio.sleep(0)
            with pytest.raises(Unreachable, match="all 1 are held by statements of the slow one"):
                await backend.load(second, Item, ["x"])
            await slow
    finally:
        await admin.command("configureFailPoint", "failCommand", mode="off")
        await admin_of.close()


@pytest.mark.contract("REPO-328")
async def test_a_server_that_stands_alone_is_refused_with_what_to_do(mongodb_standalone_url: str) -> None:
    backend = open_backend("default", f"{mongodb_standalone_url}shop", {})

    with pytest.raises(ConfigurationError, match=r"--replSet NAME and run rs\.initiate\(\)"):
        await backend.open()


UNREACHABLE = """
import asyncio, socket, sys
from wintry.repository.errors import Unreachable
from wintry.repository.mongo import open_backend


async def main():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"mongodb://ann:secret@127.0.0.1:{taken.getsockname()[1]}/shop"
        backend = open_backend("default", url, {"client": sys.argv[1], "connect_timeout": 0.2})
        for attempt in (backend.open, backend.check):
            try:
                await attempt()
            except Unreachable as error:
                print(error)


asyncio.run(main())
"""


@pytest.mark.contract("REPO-328")
@pytest.mark.parametrize("client", ["pymongo", "motor"])
def test_a_server_that_is_not_there_is_unreachable(client: str) -> None:
    """In a process of its own: the driver's monitor leaves a socket behind, which a later test would be blamed for."""
    command = [sys.executable, "-c", UNREACHABLE, client]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    opened, checked = done.stdout.splitlines()
    assert "does not answer" in opened
    assert checked
    assert "secret" not in done.stdout

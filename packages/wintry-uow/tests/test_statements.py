"""What a unit sends to a server: one statement to load an aggregate, and one for each kind of change."""

from typing import Any

import asyncpg
import pytest
from pymongo import monitoring

from wintry.repository import Backends
from wintry.repository.sql.dialects import postgresql

pytestmark = pytest.mark.anyio


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What the driver of PostgreSQL is given, each statement on one line, with its rows."""
    sent: list[tuple[str, Any]] = []

    def recording(name: str) -> Any:
        real = getattr(asyncpg.Connection, name)

        async def call(self: Any, text: str, *args: Any, **options: Any) -> Any:
            sent.append((" ".join(text.partition(" /*")[0].split()), args))
            return await real(self, text, *args, **options)

        return call

    for name in ("execute", "fetch", "fetchmany", "executemany"):
        monkeypatch.setattr(postgresql.Connection, name, recording(name), raising=False)
    return sent


async def allocate(uow: Any, world: Any) -> Any:
    product = await uow.products.get("TABLE")
    product.batches[0].lines.append(world.Line(orderid="o1", qty=1))
    return product


@pytest.mark.contract("UOW-310")
async def test_a_unit_on_postgresql(opened: Any, fresh_url: Any, statements: list[tuple[str, Any]]) -> None:
    async with opened(default=fresh_url("postgresql")) as world:
        await world.stock()
        statements.clear()

        async with world.uow as uow:
            await allocate(uow, world)
            await uow.commit()

        begin, load, guard, insert, commit = statements
        assert (begin, commit) == (("BEGIN ISOLATION LEVEL REPEATABLE READ", ()), ("COMMIT", ()))
        assert load[0].startswith("SELECT products._version, products.sku")
        assert "array((SELECT row(" in load[0]
        assert load[1] == ("TABLE",)
        assert guard[0].startswith("UPDATE products SET _version=")
        assert guard[1] == (2, "TABLE", 1)
        assert insert[0].startswith("INSERT INTO product_batches_lines")
        assert insert[1][:2] == ("TABLE", "TABLE-1")


@pytest.mark.contract("UOW-310", "UOW-070")
async def test_a_unit_that_reads_on_postgresql(opened: Any, fresh_url: Any, statements: list[tuple[str, Any]]) -> None:
    async with opened(default=fresh_url("postgresql")) as world:
        await world.stock()
        statements.clear()

        async with world.uow(read_only=True) as uow:
            await uow.products.get("TABLE")
            await uow.commit()
        async with world.uow(read_only=True) as uow:
            await uow.products.get("TABLE")

    texts = [text for text, _ in statements]
    assert texts[0] == "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    assert [texts[2], texts[5]] == ["COMMIT", "ROLLBACK"]
    assert len(texts) == 6


@pytest.mark.contract("UOW-300", "UOW-310")
async def test_a_unit_that_locks_on_postgresql(opened: Any, fresh_url: Any, statements: list[tuple[str, Any]]) -> None:
    async with opened(default=fresh_url("postgresql")) as world:
        await world.stock()
        statements.clear()

        async with world.uow as uow:
            await uow.products.get("TABLE", lock=True)

    begin, lock, load, end = [text for text, _ in statements]
    assert begin == "BEGIN ISOLATION LEVEL READ COMMITTED"
    assert lock.startswith("SELECT 1 FROM products WHERE")
    assert lock.endswith("ORDER BY products.sku FOR UPDATE")
    assert load.startswith("SELECT products._version")
    assert end == "ROLLBACK"


@pytest.mark.contract("UOW-310")
@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
async def test_isolation_and_time_on_postgresql(
    opened: Any, fresh_url: Any, statements: list[tuple[str, Any]], isolation: str
) -> None:
    async with opened(default=fresh_url("postgresql")) as world:
        await world.products.count()
        statements.clear()

        async with world.uow(isolation=isolation, timeout=1.5) as uow:
            await uow.products.count()

    level = {"snapshot": "REPEATABLE READ", "serializable": "SERIALIZABLE"}[isolation]
    assert statements[0][0] == f"BEGIN ISOLATION LEVEL {level}; SET LOCAL statement_timeout = 1500"


class Commands(monitoring.CommandListener):
    """What the driver of MongoDB sends."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@pytest.mark.contract("UOW-311")
async def test_a_unit_on_mongodb(fresh_url: Any, world_of: Any) -> None:
    backends, commands = Backends(default=fresh_url("mongodb")), Commands()
    backend: Any = backends["default"]
    backend.client._settings["event_listeners"] = [commands]
    async with backends:
        world = world_of(backends)
        await world.stock()
        await world.stock("CHAIR")
        commands.sent.clear()

        async with world.uow as uow:
            await allocate(uow, world)
            (await uow.products.get("CHAIR")).name = "changed"
            await uow.commit()

    find, other, update, commit = [command for command in commands.sent if "endSessions" not in command]
    assert (find["find"], find["filter"]) == ("products", {"_id": {"$eq": "TABLE"}})
    assert find["startTransaction"] is True
    assert find["readConcern"]["level"] == "snapshot"
    assert other["filter"] == {"_id": {"$eq": "CHAIR"}}
    table, chair = update["updates"]
    assert table["q"] == {"_id": {"$eq": "TABLE"}, "_version": {"$eq": 1}}
    assert table["u"] == {
        "$push": {"batches.0.lines": {"$each": [{"qty": 1, "orderid": "o1"}]}},
        "$set": {"_version": 2},
    }
    assert chair["q"] == {"_id": {"$eq": "CHAIR"}, "_version": {"$eq": 1}}
    assert chair["u"] == {"$set": {"name": "changed", "_version": 2}}
    assert commit["commitTransaction"] == 1
    assert commit["writeConcern"] == {"w": "majority"}

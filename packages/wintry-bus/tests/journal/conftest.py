"""A bus on two databases, as an application has it.

A module that wants more pairs than two SQLite files overrides the fixture `pair`: the kinds of `default`, which the
journal is in, and of `views`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wintry.bus import MessageQueue
from wintry.bus.durable import Durable
from wintry.bus.journal.home import UnitJournal
from wintry.bus.settings import BusSettings
from wintry.models import Model, RequiredId
from wintry.repository import Backends, Repository
from wintry.uow import UnitOfWork


class Stock(Model):
    sku: str = RequiredId()
    left: int = 0


class Shelf(Model):
    sku: str = RequiredId()
    left: int = 0


class Stocks(Repository[Stock, str], entity=Stock):
    pass


class Shelves(Repository[Shelf, str], entity=Shelf, for_backend="views"):
    pass


class Shop(MessageQueue):
    """What the queues of the tests derive from: stocks in one database, shelves in another."""

    def __init__(self, house: House) -> None:
        super().__init__(runtime=house.durable.runtime)
        self.stocks = Stocks(house.backends)
        self.shelves = Shelves(house.backends)
        self.uow = UnitOfWork(stocks=self.stocks)


@dataclass
class House:
    """One process: its backends, its bus, and what a test wants to know of them."""

    backends: Backends
    durable: Durable

    @property
    def journal(self) -> UnitJournal:
        assert self.durable.journal is not None
        return self.durable.journal

    async def start(self, shop: Shop) -> None:
        self.durable.runtime.attach(shop)
        await self.backends.create_schema()
        await self.durable.prepare()
        await self.durable.start()

    async def settled(self) -> None:
        """Wait until nothing is pending in the journal."""
        import asyncio

        async with asyncio.timeout(60):
            while (await self.journal.stats()).pending:
                await asyncio.sleep(0.01)

    async def take_over(self) -> None:
        """Have the journal's rows, whoever holds them, delivered by this process now, as when their leases end."""
        on: Any = self.backends["default"]
        if on.kind == "mongodb":
            held = {"status": "pending", "lease_owner": {"$exists": True}}
            await on.collection("_wintry_journal").update_many(held, [{"$set": {"lease_until": "$$NOW"}}])
            return
        execution = on.execution(isolation=None if on.kind == "sqlite" else "read committed")
        await execution.change("UPDATE _wintry_journal SET lease_until = 0 WHERE status = 'pending'", ())
        await execution.commit()

    async def found(self, table: str, *fields: str, backend: str = "default") -> list[tuple[Any, ...]]:
        """What a table or collection of the bus holds, in the order of its numbers, beside whoever uses it."""
        on: Any = self.backends[backend]
        if on.kind == "mongodb":
            documents = await on.collection(table).find({}, sort=[("_id", 1)]).to_list(None)
            return [tuple(document.get(field) for field in fields) for document in documents]
        order = " ORDER BY seq" if table != "_wintry_inbox" else ""
        return await self.rows(f"SELECT {', '.join(fields)} FROM {table}{order}", backend)

    async def seen(self, target: str, backend: str) -> bool:
        """Whether the inbox of a backend says that a handler has handled something."""
        if self.backends[backend].kind == "mongodb":
            return target in [key["target"] for (key,) in await self.found("_wintry_inbox", "_id", backend=backend)]
        return (target,) in await self.found("_wintry_inbox", "target", backend=backend)

    async def rows(self, text: str, backend: str = "default") -> list[tuple[Any, ...]]:
        """What a SQL database says."""
        execution: Any = self.backends[backend].execution(read_only=True)
        try:
            return [tuple(row) for row in await execution.fetch(text, ())]
        finally:
            await execution.close()


@pytest.fixture
def pair() -> tuple[str, str]:
    return "sqlite", "sqlite"


@pytest.fixture
async def urls(request: pytest.FixtureRequest, pair: tuple[str, str], tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Two empty databases of the kinds of `pair`."""
    given = {}
    for name, kind in zip(("default", "views"), pair, strict=True):
        match kind:
            case "sqlite":
                given[name] = f"sqlite:///{tmp_path}/{name}.db"
            case "postgresql":
                given[name] = request.getfixturevalue("shared_postgres_url")
            case _:
                given[name] = request.getfixturevalue("shared_mongodb_url")
    yield given
    async with Backends(**given) as backends:
        for backend in backends:
            await emptied(backend)


async def emptied(backend: Any) -> None:
    """Leave nothing behind in a database that the tests of a module share."""
    if backend.kind == "mongodb":
        for name in await backend.client.database.list_collection_names():
            await backend.collection(name).delete_many({})
    elif backend.kind == "postgresql":
        execution = backend.execution()
        tables = await execution.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", ())
        if tables:
            await execution.change(f"TRUNCATE {', '.join(name for (name,) in tables)}", ())
        await execution.commit()


@pytest.fixture
def shop_class() -> type[Shop]:
    return Shop


@pytest.fixture
def models() -> tuple[type[Stock], type[Shelf]]:
    return Stock, Shelf


@pytest.fixture
async def make_house(urls: dict[str, str]) -> AsyncIterator[Callable[..., Awaitable[House]]]:
    """Processes on the same two databases, ended behind the test."""
    made: list[House] = []

    async def make(*, journal: str | None = "default", **options: Any) -> House:
        backends = Backends(**urls)
        await backends.open()
        durable = Durable(
            backends,
            BusSettings(**{"poll_min": 0.01, "poll_max": 0.05, **options}),
            journal=journal,
            queues={"near": "default", "far": "views"},
            transports={},
            default_transport="near",
        )
        made.append(House(backends, durable))
        return made[-1]

    yield make
    for house in made:
        await house.durable.drain(5.0)
        await house.durable.stop()
        await house.backends.close()


@pytest.fixture
async def house(make_house: Callable[..., Awaitable[House]]) -> House:
    return await make_house()

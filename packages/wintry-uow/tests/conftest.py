"""A shop in every store, and a store that can be watched and broken.

`backends` gives a test each kind of store in turn, `racing_url` those in which two units can write at the same time: on
SQLite the second waits for the first. `probe` stands between the repositories and a store: it counts what units ask of
it, keeps what they send, and fails at the call that a test names.

The databases on servers are the module's, and emptied after each test; their tables stay.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pymongo import MongoClient

from wintry.models import Array, Field, Model, RequiredId
from wintry.repository import Backends, Repository, query
from wintry.repository.backend import Operation
from wintry.uow import UnitOfWork


class Line(Model):
    qty: int
    orderid: str = RequiredId()


class Batch(Model):
    quantity: int
    reference: str = RequiredId(unique=True)
    lines: list[Line] = Array()
    eta: date | None = None

    @property
    def available(self) -> int:
        return self.quantity - sum(line.qty for line in self.lines)


class Product(Model):
    sku: str = RequiredId()
    name: str = ""
    batches: list[Batch] = Array()

    def allocate(self, line: Line) -> str | None:
        for batch in self.batches:
            if batch.available >= line.qty:
                batch.lines.append(line)
                return batch.reference
        return None


class Customer(Model):
    id: str = RequiredId()
    email: str = Field(unique=True, default="")
    sku: str = ""


class Products(Repository[Product, str], entity=Product):
    @query
    async def get_by_sku(self, *, sku: str) -> Product | None: ...

    @query
    async def get_by_batches__reference(self, *, batches__reference: str) -> Product | None: ...

    @query
    async def find_by_name(self, *, name: str) -> list[Product]: ...

    @query
    async def find_by_name_order_by_sku_desc(self, *, name: str) -> list[Product]: ...

    @query
    async def get_by_sku_for_update(self, *, sku: str) -> Product | None: ...

    @query
    async def get_by_batches__reference_for_update(self, *, batches__reference: str) -> Product | None: ...

    @query
    async def find_by_sku_in_for_update(self, *, sku: list[str]) -> list[Product]: ...

    @query
    async def find_by_name_for_update(self, *, name: str) -> list[Product]: ...

    @query
    async def count_by_name(self, *, name: str) -> int: ...

    @query
    async def delete_by_name(self, *, name: str) -> int: ...


class Customers(Repository[Customer, str], entity=Customer):
    @query
    async def get_by_email(self, *, email: str) -> Customer | None: ...

    @query
    async def find_by_sku(self, *, sku: str) -> list[Customer]: ...


class Elsewhere(Repository[Customer, str], entity=Customer, for_backend="other"):
    """Customers in another store."""


class Shop(UnitOfWork):
    products: Products
    customers: Customers


class Broken(Exception):
    """What a probe fails with."""


@dataclass
class World:
    """What a test needs by name: classes, and repositories over one `Backends`."""

    backends: Any
    Line = Line
    Batch = Batch
    Product = Product
    Customer = Customer
    Products = Products
    Customers = Customers
    Elsewhere = Elsewhere
    Shop = Shop
    Broken = Broken

    def __post_init__(self) -> None:
        self.products = Products(self.backends)
        self.customers = Customers(self.backends)
        self.uow = Shop(products=self.products, customers=self.customers)

    async def stock(self, sku: str = "TABLE", quantity: int = 10) -> Product:
        """Store a product with one batch."""
        product = Product(sku=sku, batches=[Batch(reference=f"{sku}-1", quantity=quantity)])
        return await self.products.create(entity=product)


class Watched:
    """An execution that passes its commit by the probe."""

    def __init__(self, probe: "Probe", execution: Any) -> None:
        self.probe = probe
        self.real = execution

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def commit(self) -> None:
        self.probe.step("commit")
        await self.real.commit()
        self.probe.open.discard(self)

    async def rollback(self) -> None:
        await self.close()

    async def close(self) -> None:
        await self.real.close()
        self.probe.open.discard(self)


class WatchedQuery:
    def __init__(self, probe: "Probe", compiled: Any) -> None:
        self.probe = probe
        self.compiled = compiled

    async def run(self, execution: Watched, values: tuple[Any, ...]) -> Any:
        self.probe.step("query")
        return await self.compiled.run(execution.real, values)


class Probe:
    """A backend that keeps what is asked of the one behind it; `fail_at` is the number of the call that fails."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.steps: list[str] = []
        self.sent: list[Sequence[Operation]] = []
        self.open: set[Watched] = set()
        self.fail_at: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def step(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) == self.fail_at:
            raise Broken(f"call {self.fail_at}, {name}")

    def compile(self, plan: Any) -> WatchedQuery:
        return WatchedQuery(self, self.backend.compile(plan))

    def execution(self, **options: Any) -> Watched:
        execution = Watched(self, self.backend.execution(**options))
        self.open.add(execution)
        return execution

    async def load(self, execution: Watched, model: Any, ids: Any) -> Any:
        self.step("load")
        return await self.backend.load(execution.real, model, ids)

    async def lock(self, execution: Watched, model: Any, ids: Any) -> None:
        self.step("lock")
        await self.backend.lock(execution.real, model, ids)

    async def write(self, execution: Watched, operations: Sequence[Operation]) -> None:
        self.step("write")
        self.sent.append(tuple(operations))
        await self.backend.write(execution.real, operations)


class Probed:
    """`Backends` whose default backend is a probe."""

    def __init__(self, backends: Any) -> None:
        self.backends = backends
        self.probe = Probe(backends["default"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backends, name)

    def bind(self, model: Any, backend_name: str, asker: str) -> Any:
        self.backends.bind(model, backend_name, asker)
        return self.probe

    async def ready(self, probe: Probe) -> None:
        await self.backends.ready(probe.backend)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


DEEP = os.environ.get("TEST_WINTRY_PROFILE") == "deep"
ALSO = ("postgresql-system", "mongodb-motor") if DEEP else ()
RACING = ("memory", "postgresql", "mongodb", *ALSO)
STORES = ("sqlite", *RACING)
SERVERS = {
    "postgresql": "shared_postgres_url",
    "postgresql-system": "shared_postgres_system_url",
    "mongodb": "shared_mongodb_url",
    "mongodb-motor": "shared_mongodb_url",
}


@pytest.fixture
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """The URL of an empty store of a kind, or its settings; each call gives one of its own, or the same one emptied."""
    number = itertools.count()

    def fresh(kind: str) -> Any:
        if kind == "memory":
            return "memory://"
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / f'shop{next(number)}.db'}"
        url: str = request.getfixturevalue(SERVERS[kind])
        used.add(url)
        empty(url)
        return {"url": url, "client": "motor"} if kind == "mongodb-motor" else url

    used: set[str] = set()
    yield fresh
    for url in used:
        empty(url)


def empty(url: str) -> None:
    """Delete all rows or documents; tables, collections and indexes stay."""
    if url.startswith("mongodb"):
        with MongoClient[dict[str, Any]](url) as client:
            database = client.get_default_database()
            for name in database.list_collection_names():
                database[name].delete_many({})
        return

    async def truncate() -> None:
        connection = await asyncpg.connect(url)
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        if rows:
            await connection.execute(f"TRUNCATE {', '.join(row[0] for row in rows)}")
        await connection.close()

    with ThreadPoolExecutor(1) as pool:  # the test's own thread may have an event loop
        pool.submit(asyncio.run, truncate()).result()


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, fresh_url: Callable[[str], Any]) -> Any:
    """A store of each kind."""
    return fresh_url(request.param)


@pytest.fixture(params=RACING)
def racing_url(request: pytest.FixtureRequest, fresh_url: Callable[[str], Any]) -> Any:
    """A store of each kind in which two units can write at the same time."""
    return fresh_url(request.param)


@pytest.fixture(params=["in memory", "on servers"])
def two_urls(request: pytest.FixtureRequest, fresh_url: Callable[[str], Any]) -> dict[str, str]:
    """Two stores, by the names of their backends."""
    if request.param == "in memory":
        return {"default": "memory://a", "other": "memory://b"}
    return {"default": fresh_url("postgresql"), "other": fresh_url("mongodb")}


@pytest.fixture
async def backends(url: str) -> AsyncIterator[Any]:
    async with Backends(default=url) as backends:
        yield backends


@pytest.fixture
def world(backends: Any) -> World:
    return World(backends)


@pytest.fixture
def opened() -> Any:
    """A world over a URL, or over several by name."""

    @asynccontextmanager
    async def open_world(**urls: str) -> AsyncIterator[World]:
        async with Backends(**urls) as backends:
            yield World(backends)

    return open_world


@pytest.fixture
def probed(backends: Any) -> Iterator[World]:
    """A world whose repositories talk to the store through `world.backends.probe`; no transaction may stay open."""
    world = World(Probed(backends))
    yield world
    assert world.backends.probe.open == set()


@pytest.fixture
def world_of() -> Callable[[Any], World]:
    """A world over `Backends` of the test's own."""
    return World

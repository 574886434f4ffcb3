"""Databases, most of them of SQLite in a temporary folder, and the Models that the tests of the SQL backend share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wintry.models import Array, Field, Model, RequiredId
from wintry.models.tracking import diff, snapshot
from wintry.repository.backend import Insert, Operation, Update
from wintry.repository.sql import SqlBackend, open_backend


class OrderLine(Model):
    sku: str = RequiredId()
    qty: int
    orderid: str = RequiredId()


class Batch(Model):
    sku: str
    purchased_quantity: int
    reference: str = RequiredId(unique=True)
    allocations: list[OrderLine] = Array()
    eta: date | None = None


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()


class Geo(Model):
    lat: float
    lon: float = Field(default=0.0, index=True)
    tracks: list[float] = Array()


class Note(Model, frozen=True):
    text: str
    at: datetime | None = None


class Street(Model):
    name: str
    numbers: list[Note] = Array()


class Address(Model):
    city: str | None = None
    geo: Geo | None = None
    notes: list[Note] = Array()


class Everything(Model):
    """An aggregate with a field of every kind, nested two levels deep."""

    id: int = RequiredId()
    day: date = RequiredId()
    ratio: float = 0.0
    done: bool | None = None
    code: str | None = Field(default=None, unique=True)
    at: datetime | None = None
    address: Address | None = None
    home: Address = Field(default_factory=Address)
    words: list[str] = Array()
    days: list[date] | None = None
    notes: list[Note] = Array()
    streets: list[Street] = Array()


@pytest.fixture
def models() -> SimpleNamespace:
    """The Models."""
    return SimpleNamespace(
        OrderLine=OrderLine,
        Batch=Batch,
        Product=Product,
        Geo=Geo,
        Note=Note,
        Street=Street,
        Address=Address,
        Everything=Everything,
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database file that does not exist yet."""
    return tmp_path / "shop.db"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What a test opens and wants closed."""
    async with AsyncExitStack() as opened:
        yield opened


Open = Callable[..., Awaitable[SqlBackend]]


@pytest.fixture
def open_on(stack: AsyncExitStack) -> Open:
    """Opens a backend with the schema of the shared Models on a file, or in memory."""

    async def open_it(file: Path | None, **options: Any) -> SqlBackend:
        backend = open_backend("default", f"sqlite:///{file}" if file else "sqlite://", options)
        backend.bind(Product)
        backend.bind(Everything)
        await backend.open()
        stack.push_async_callback(backend.close)
        await backend.create_schema()
        return backend

    return open_it


@pytest.fixture
def database() -> str:
    """The kind of `backend`; a module whose tests hold for all of them has a fixture with parameters in its place."""
    return "sqlite"


@pytest.fixture
async def backend(
    request: pytest.FixtureRequest, database: str, file: Path, open_on: Open, stack: AsyncExitStack
) -> SqlBackend:
    """An open, empty backend with the schema of the shared Models: on `file`, or on PostgreSQL."""
    if database == "sqlite":
        return await open_on(file)
    backend = open_backend("default", request.getfixturevalue("shared_postgres_url"), {"pool_size": 4})
    backend.bind(Product)
    backend.bind(Everything)
    await backend.open()
    stack.push_async_callback(backend.close)
    await backend.create_schema()
    execution = backend.execution()
    await execution.change("DELETE FROM products", ())
    await execution.change("DELETE FROM everythings", ())
    await execution.commit()
    return backend


class Store:
    """Short ways to write and read on a backend."""

    def __init__(self, backend: SqlBackend) -> None:
        self.backend = backend

    async def write(self, *operations: Operation) -> None:
        execution = self.backend.execution()
        try:
            await self.backend.write(execution, operations)
            await execution.commit()
        finally:
            await execution.close()

    async def add(self, *objects: Model) -> None:
        await self.write(*(Insert(each) for each in objects))

    async def load(self, model: type[Model], *ids: Any) -> Sequence[tuple[Any, int]]:
        execution = self.backend.execution(read_only=True)
        try:
            return await self.backend.load(execution, model, ids)
        finally:
            await execution.close()

    async def change(self, model: type[Model], id: Any, mutate: Callable[[Any], object]) -> tuple[Any, int]:
        """Load, mutate, store; the mutated object and the version that it should have now."""
        ((loaded, version),) = await self.load(model, id)
        before = snapshot(loaded)
        mutate(loaded)
        await self.write(Update(loaded, diff(before, loaded), version))
        return loaded, version + 1

    async def rows(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        execution = self.backend.execution(read_only=True)
        try:
            return [tuple(row) for row in await execution.fetch(text, values)]
        finally:
            await execution.close()


@pytest.fixture
def store(backend: SqlBackend) -> Store:
    """`Store` of `backend`."""
    return Store(backend)

"""A bus on two SQLite files, as an application has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wintry.bus import MessageQueue
from wintry.bus.durable import Durable
from wintry.bus.journal.sql import SqlJournal
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

    folder: Path
    backends: Backends
    durable: Durable

    @property
    def journal(self) -> SqlJournal:
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

        async with asyncio.timeout(10):
            while (await self.journal.stats()).pending:
                await asyncio.sleep(0.01)

    async def rows(self, text: str, backend: str = "default") -> list[Any]:
        """What the database says, beside whoever uses it."""
        execution = self.backends[backend].execution(read_only=True)
        try:
            found: list[Any] = await execution.fetch(text, ())  # type: ignore[attr-defined]
            return found
        finally:
            await execution.close()


@pytest.fixture
def shop_class() -> type[Shop]:
    return Shop


@pytest.fixture
def models() -> tuple[type[Stock], type[Shelf]]:
    return Stock, Shelf


@pytest.fixture
async def make_house(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[House]]]:
    """Processes on the same two files, ended behind the test."""
    made: list[House] = []

    async def make(*, journal: str | None = "default", **options: Any) -> House:
        backends = Backends(default=f"sqlite:///{tmp_path}/default.db", views=f"sqlite:///{tmp_path}/views.db")
        await backends.open()
        durable = Durable(
            backends,
            BusSettings(**{"poll_min": 0.01, "poll_max": 0.05, **options}),
            journal=journal,
            queues={"near": "default", "far": "views"},
            transports={},
            default_transport="near",
        )
        made.append(House(tmp_path, backends, durable))
        return made[-1]

    yield make
    for house in made:
        await house.durable.drain(5.0)
        await house.durable.stop()
        await house.backends.close()


@pytest.fixture
async def house(make_house: Callable[..., Awaitable[House]]) -> House:
    return await make_house()

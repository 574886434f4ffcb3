"""The unit of work on SQLite, against its statements by hand and against SQLAlchemy's ORM.

Each contender has a file of its own with the same 400 products of 3 batches of 5 lines, in WAL mode, synced at each
commit, and goes through them in turn. SQLAlchemy maps the same rows as its documentation shows: a version column,
`selectinload` for the lists, and positions by `ordering_list`.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.ext.orderinglist import ordering_list
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from benchmarks.harness import Case, Goal, Operation
from benchmarks.limits.uow import Store
from wintry.models import Array, Model, RequiredId
from wintry.repository import Backends, Repository
from wintry.uow import UnitOfWork

PRODUCTS = 400
SKUS = [f"SKU-{number:04}" for number in range(PRODUCTS)]

allocate = Case(
    name="allocate",
    goals=[Goal("limit", at_most=1.3), Goal("SQLAlchemy ORM", at_most=0.5)],
    loops=100,
)
read = Case(
    name="read only",
    goals=[Goal("limit", at_most=1.15)],
    note=(
        "the limit is three trips to SQLite's thread on a bare connection and builds no unit; ours is two. Of our 150 "
        "µs the statement takes 33, the trip of the ROLLBACK 16, the pool's checkout with SQLAlchemy's begin and end "
        "27, the aggregate 12 to 24, the unit 18, the rest cold caches. Measured: a ROLLBACK sent with the next BEGIN "
        "takes 2.2 to 1.9, at the price of a snapshot that stays open; one left to a task breaks the order of the "
        "statements. Without SQLAlchemy's part as well it would be about 1.5. It would take a pool of our own below "
        "SQLAlchemy and half a unit."
    ),
)


class Line(Model):
    qty: int
    orderid: str = RequiredId()


class Batch(Model):
    sku: str
    quantity: int
    reference: str = RequiredId(unique=True)
    lines: list[Line] = Array()


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()


class Products(Repository[Product, str], entity=Product): ...


class Shop(UnitOfWork):
    products: Products


def products() -> list[Product]:
    """What each contender begins with."""
    return [
        Product(
            sku=sku,
            batches=[
                Batch(
                    reference=f"{sku}-{place}",
                    sku=sku,
                    quantity=100_000,
                    lines=[Line(orderid=f"order-{line}", qty=1) for line in range(5)],
                )
                for place in range(3)
            ],
        )
        for sku in SKUS
    ]


@contextmanager
def file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-uow-") as folder:
        yield Path(folder, "shop.db")


@asynccontextmanager
async def shop(path: Path) -> AsyncIterator[Shop]:
    """A shop over a file with the products."""
    async with Backends(default=f"sqlite:///{path}") as backends:
        uow = Shop(products=Products(backends))
        await uow.products.create_many(entities=products())
        yield uow


def turns() -> Callable[[], tuple[str, str]]:
    """The sku and the order of each call."""
    numbers = itertools.count()

    def turn() -> tuple[str, str]:
        number = next(numbers)
        return SKUS[number % PRODUCTS], f"new-{number}"

    return turn


def allocating(uow: Shop) -> Operation:
    """One order of one line for the next product."""
    turn = turns()

    async def operation() -> int:
        sku, orderid = turn()
        async with uow as unit:
            product = await unit.products.one(sku)
            lines = product.batches[0].lines
            lines.append(Line(orderid=orderid, qty=1))
            await unit.commit()
        return len(lines)

    return operation


@allocate.ours
@asynccontextmanager
async def _() -> AsyncIterator[Operation]:
    with file() as path:
        async with shop(path) as uow:
            yield allocating(uow)


@asynccontextmanager
async def by_hand() -> AsyncIterator[Store]:
    with file() as path:
        async with shop(path):
            pass
        store = await Store.open(path)
        try:
            yield store
        finally:
            await store.close()


@allocate.limit
@asynccontextmanager
async def _() -> AsyncIterator[Operation]:
    turn = turns()
    async with by_hand() as store:
        yield lambda: store.allocate(*turn())


@read.ours
@asynccontextmanager
async def _() -> AsyncIterator[Operation]:
    turn = turns()
    with file() as path:
        async with shop(path) as uow:

            async def operation() -> int:
                async with uow(read_only=True) as unit:
                    product = await unit.products.one(turn()[0])
                return sum(len(batch.lines) for batch in product.batches)

            yield operation


@read.limit
@asynccontextmanager
async def _() -> AsyncIterator[Operation]:
    turn = turns()
    async with by_hand() as store:
        yield lambda: store.read(turn()[0])


# ---- SQLAlchemy


class Base(DeclarativeBase):
    pass


class LineRow(Base):
    __tablename__ = "lines"
    reference: Mapped[str] = mapped_column(sa.ForeignKey("batches.reference", ondelete="CASCADE"), primary_key=True)
    orderid: Mapped[str] = mapped_column(primary_key=True)
    qty: Mapped[int]
    position: Mapped[int]


class BatchRow(Base):
    __tablename__ = "batches"
    reference: Mapped[str] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(sa.ForeignKey("products.sku", ondelete="CASCADE"), index=True)
    sku: Mapped[str]
    quantity: Mapped[int]
    position: Mapped[int]
    lines: Mapped[list[LineRow]] = relationship(
        order_by="LineRow.position", collection_class=ordering_list("position"), cascade="all, delete-orphan"
    )


class ProductRow(Base):
    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    touched: Mapped[int] = mapped_column(default=0)
    batches: Mapped[list[BatchRow]] = relationship(
        order_by="BatchRow.position", collection_class=ordering_list("position"), cascade="all, delete-orphan"
    )
    __mapper_args__: ClassVar[dict[str, Any]] = {"version_id_col": version}  # type: ignore[misc]  # as documented


@allocate.peer("SQLAlchemy ORM")
@asynccontextmanager
async def _() -> AsyncIterator[Operation]:
    turn = turns()
    with file() as path:
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")

        @sa.event.listens_for(engine.sync_engine, "connect")
        def _(connection: Any, record: Any) -> None:
            cursor = connection.cursor()
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        sessions = async_sessionmaker(engine, expire_on_commit=False)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with sessions.begin() as session:
            session.add_all(rows())

        async def operation() -> int:
            sku, orderid = turn()
            async with sessions() as session:
                loading = selectinload(ProductRow.batches).selectinload(BatchRow.lines)
                product = await session.get_one(ProductRow, sku, options=[loading])
                product.touched += 1  # the version moves with the row of the root only
                lines = product.batches[0].lines
                lines.append(LineRow(orderid=orderid, qty=1))
                await session.commit()
            return len(lines)

        yield operation
        await engine.dispose()


def rows() -> Iterator[ProductRow]:
    for sku in SKUS:
        yield ProductRow(
            sku=sku,
            batches=[
                BatchRow(
                    reference=f"{sku}-{place}",
                    sku=sku,
                    quantity=100_000,
                    lines=[LineRow(orderid=f"order-{line}", qty=1) for line in range(5)],
                )
                for place in range(3)
            ],
        )

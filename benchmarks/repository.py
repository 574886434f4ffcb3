"""Reads of a repository on SQLite, against the same statements by hand.

Each contender has a file of its own with the same 400 products of 3 batches of 5 lines, and goes through them in turn.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.harness import Case, Goal, Operation
from benchmarks.limits.repository import Store
from wintry.models import Array, Model, RequiredId
from wintry.repository import Backends, Repository, query
from wintry.uow import UnitOfWork

PRODUCTS = 400


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


class Products(Repository[Product, str], entity=Product):
    @query
    async def get_by_batches__reference(self, *, batches__reference: str) -> Product | None: ...

    @query
    async def count_by_batches__reference(self, *, batches__reference: str) -> int: ...


class Shop(UnitOfWork):
    products: Products


def product(number: int) -> Product:
    """The product of a number, with three batches of five lines."""
    sku = f"SKU-{number}"
    return Product(
        sku=sku,
        batches=[
            Batch(
                sku=sku,
                purchased_quantity=100,
                reference=f"B-{number}-{place}",
                eta=date(2026, 1, place) if place else None,
                allocations=[OrderLine(sku=sku, qty=1, orderid=f"O-{line}") for line in range(5)],
            )
            for place in range(3)
        ],
    )


def shown(found: Any) -> Any:
    """What must be equal: every value of the aggregate."""
    if isinstance(found, int):
        return found
    return found.sku, [
        (b.sku, b.purchased_quantity, b.reference, b.eta, [(x.sku, x.qty, x.orderid) for x in b.allocations])
        for b in found.batches
    ]


def turn(text: str) -> Callable[[], str]:
    """`text` with the number of one product after the other."""
    numbers = itertools.cycle(range(PRODUCTS))
    return lambda: text.format(next(numbers))


@asynccontextmanager
async def filled() -> AsyncIterator[Path]:
    """A file with the products."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        async with Backends(default=f"sqlite:///{path}") as backends:
            await Products(backends).create_many(entities=[product(number) for number in range(PRODUCTS)])
        yield path


@asynccontextmanager
async def repository() -> AsyncIterator[Products]:
    async with filled() as path, Backends(default=f"sqlite:///{path}") as backends:
        yield Products(backends)


@asynccontextmanager
async def by_hand() -> AsyncIterator[Store]:
    async with filled() as path:
        store = await Store.open(path)
        try:
            yield store
        finally:
            await store.close()


get = Case(name="get", goals=[Goal("limit", at_most=1.8)], compare=shown)
get_in_a_unit = Case(name="get in a unit", goals=[Goal("limit", at_most=1.2)], compare=shown)
nested = Case(name="get by a child's field", goals=[Goal("limit", at_most=1.8)], compare=shown)
count = Case(name="count", goals=[Goal("limit", at_most=1.8)])


@get.ours
@asynccontextmanager
async def _get() -> AsyncIterator[Operation]:
    sku = turn("SKU-{}")
    async with repository() as products:
        yield lambda: products.get(sku())


@get_in_a_unit.ours
@asynccontextmanager
async def _get_in_a_unit() -> AsyncIterator[Operation]:
    sku = turn("SKU-{}")
    async with repository() as products, Shop(products=products)(read_only=True) as uow:
        yield lambda: uow.products.get(sku())


@get.limit
@get_in_a_unit.limit
@asynccontextmanager
async def _get_by_hand() -> AsyncIterator[Operation]:
    sku = turn("SKU-{}")
    async with by_hand() as store:
        yield lambda: store.get(sku())


@nested.ours
@asynccontextmanager
async def _nested() -> AsyncIterator[Operation]:
    reference = turn("B-{}-1")
    async with repository() as products:
        yield lambda: products.get_by_batches__reference(batches__reference=reference())


@nested.limit
@asynccontextmanager
async def _nested_by_hand() -> AsyncIterator[Operation]:
    reference = turn("B-{}-1")
    async with by_hand() as store:
        yield lambda: store.get_by_reference(reference())


@count.ours
@asynccontextmanager
async def _count() -> AsyncIterator[Operation]:
    reference = turn("B-{}-1")
    async with repository() as products:
        yield lambda: products.count_by_batches__reference(batches__reference=reference())


@count.limit
@asynccontextmanager
async def _count_by_hand() -> AsyncIterator[Operation]:
    reference = turn("B-{}-1")
    async with by_hand() as store:
        yield lambda: store.count_by_reference(reference())

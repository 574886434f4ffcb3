"""Reads of a repository on PostgreSQL and MongoDB, against the same statements by hand.

Each contender has a database of its own with the 400 products of `benchmarks.uow`, and goes through them in turn.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

from benchmarks.harness import Case, Goal, Operation
from benchmarks.limits import mongodb as mongodb_limit
from benchmarks.limits import postgresql as postgresql_limit
from benchmarks.servers import mongodb, postgres
from benchmarks.uow import SKUS, Product, products
from wintry.repository import Backends, Repository, query
from wintry.uow import UnitOfWork


class Catalogue(Repository[Product, str], entity=Product):
    @query
    async def get_by_batches__reference(self, *, batches__reference: str) -> Product | None: ...

    @query
    async def count_by_batches__reference(self, *, batches__reference: str) -> int: ...


class Reading(UnitOfWork):
    products: Catalogue


Ask = Callable[[Any], Callable[[], Any]]
Server = Callable[[], AbstractContextManager[str]]


def shown(found: Any) -> Any:
    """What must be equal: every value of the aggregate."""
    if isinstance(found, int):
        return found
    return found.sku, [
        (batch.sku, batch.quantity, batch.reference, [(line.qty, line.orderid) for line in batch.lines])
        for batch in found.batches
    ]


def get(products: Any) -> Callable[[], Any]:
    skus = itertools.cycle(SKUS)
    return lambda: products.get(next(skus))


def by_reference(products: Any) -> Callable[[], Any]:
    references = itertools.cycle(f"{sku}-1" for sku in SKUS)
    if isinstance(products, Catalogue):
        return lambda: products.get_by_batches__reference(batches__reference=next(references))
    return lambda: products.get_by_reference(next(references))


def count(products: Any) -> Callable[[], Any]:
    references = itertools.cycle(f"{sku}-1" for sku in SKUS)
    if isinstance(products, Catalogue):
        return lambda: products.count_by_batches__reference(batches__reference=next(references))
    return lambda: products.count_by_reference(next(references))


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[tuple[str, Catalogue]]:
    with server() as url:
        async with Backends(default=url) as backends:
            catalogue = Catalogue(backends)
            await catalogue.create_many(entities=products())
            yield url, catalogue


def compared(name: str, goal: float, ask: Ask, server: Server, by_hand: Any, *, in_unit: bool = False) -> Case:
    """A case of one question; `in_unit`: ours is asked inside of a unit that only reads."""
    case = Case(name=name, goals=[Goal("limit", at_most=goal)], compare=shown)

    @case.ours
    @asynccontextmanager
    async def _() -> AsyncIterator[Operation]:
        async with opened(server) as (_, catalogue):
            if in_unit:
                async with Reading(products=catalogue)(read_only=True) as uow:
                    yield ask(uow.products)
            else:
                yield ask(catalogue)

    @case.limit
    @asynccontextmanager
    async def _() -> AsyncIterator[Operation]:
        async with opened(server) as (url, _):
            store = await by_hand.open(url)
            try:
                yield ask(store)
            finally:
                await store.close()

    return case


_pg, _mongo = postgresql_limit.Store, mongodb_limit.Store
pg_get = compared("get on PostgreSQL", 1.8, get, postgres, _pg)
pg_unit = compared("get in a unit on PostgreSQL", 1.2, get, postgres, _pg, in_unit=True)
pg_nested = compared("get by a child's field on PostgreSQL", 1.8, by_reference, postgres, _pg)
pg_count = compared("count on PostgreSQL", 1.8, count, postgres, _pg)
pg_count_unit = compared("count in a unit on PostgreSQL", 1.3, count, postgres, _pg, in_unit=True)
mongo_get = compared("get on MongoDB", 1.3, get, mongodb, _mongo)
mongo_unit = compared("get in a unit on MongoDB", 1.3, get, mongodb, _mongo, in_unit=True)
mongo_nested = compared("get by a child's field on MongoDB", 1.3, by_reference, mongodb, _mongo)
mongo_count = compared("count on MongoDB", 1.3, count, mongodb, _mongo)

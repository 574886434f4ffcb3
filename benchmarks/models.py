"""Models against standard dataclasses: what construction, hydration, validation, change detection and import cost.

`asdict` is how one finds out by hand whether an object has changed: `dataclasses.asdict` before and after, compared.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

from pydantic import TypeAdapter

from benchmarks.harness import Case, Goal, Operation
from benchmarks.limits import models as limit
from wintry.models import Array, Model, RequiredId, info
from wintry.models.tracking import diff, snapshot


class OrderLine(Model):
    qty: int
    orderid: str = RequiredId()
    sku: str = RequiredId()


class Batch(Model):
    sku: str
    purchased_quantity: int
    reference: str = RequiredId()
    allocations: list[OrderLine] = Array()
    eta: date | None = None


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()


def product(batches: int, lines: int) -> Product:
    return Product.build(limit.plain(limit.hydrated(*limit.rows(batches, lines))))


construct = Case(name="construct", goals=[Goal("limit", at_most=1.1)], work=100, compare=vars)


@construct.ours
@contextmanager
def _construct() -> Iterator[Operation]:
    def operation() -> object:
        for number in range(100):
            line = OrderLine(qty=number, orderid="o1", sku="chair")
        return line

    yield operation


@construct.limit
@contextmanager
def _construct_limit() -> Iterator[Operation]:
    def operation() -> object:
        for number in range(100):
            line = limit.OrderLine(qty=number, orderid="o1", sku="chair")
        return line

    yield operation


hydrate = Case(name="hydrate", goals=[Goal("limit", at_most=1.5)], compare=limit.plain)


@hydrate.ours
@contextmanager
def _hydrate() -> Iterator[Operation]:
    new_product, new_batch, new_line = (info(model).restore for model in (Product, Batch, OrderLine))
    rows = limit.rows(3, 5)

    def operation() -> object:
        sku, batches = rows
        return new_product(
            sku,
            [
                new_batch(sku, quantity, reference, [new_line(*line) for line in lines], eta)
                for sku, quantity, reference, lines, eta in batches
            ],
        )

    yield operation


@hydrate.limit
@contextmanager
def _hydrate_limit() -> Iterator[Operation]:
    rows = limit.rows(3, 5)
    yield lambda: limit.hydrated(*rows)


build = Case(name="build", goals=[Goal("limit", at_most=1.3)], compare=limit.plain)


@build.ours
@contextmanager
def _build() -> Iterator[Operation]:
    source = limit.plain(limit.hydrated(*limit.rows(3, 5)))
    yield lambda: Product.build(source)


@build.limit
@contextmanager
def _build_limit() -> Iterator[Operation]:
    source, adapter = limit.plain(limit.hydrated(*limit.rows(3, 5))), TypeAdapter(limit.Product)
    yield lambda: adapter.validate_python(source)


def unchanged(batches: int, lines: int, goals: Sequence[Goal]) -> Case:
    """Snapshot and empty diff of a product; the objects of the aggregate are the pieces of work."""
    case = Case(name=f"unchanged-{batches}x{lines}", goals=goals, work=1 + batches + batches * lines)

    @case.ours
    @contextmanager
    def ours() -> Iterator[Operation]:
        own = product(batches, lines)
        yield lambda: not diff(snapshot(own), own)

    @case.peer("asdict")
    @contextmanager
    def by_asdict() -> Iterator[Operation]:
        own = limit.hydrated(*limit.rows(batches, lines))
        yield lambda: dataclasses.asdict(own) == dataclasses.asdict(own)

    return case


unchanged_small = unchanged(3, 5, [Goal("asdict", at_most=1 / 25)])
unchanged_large = unchanged(100, 50, [Goal("asdict", at_most=1 / 25)])

importing = Case(name="import", goals=[Goal("limit", at_most=1.3)], loops=1, rounds=7)


def _imported(statements: str) -> int:
    return subprocess.run([sys.executable, "-c", statements], check=True).returncode


@importing.ours
@contextmanager
def _import() -> Iterator[Operation]:
    yield lambda: _imported("from pydantic import BaseModel\nimport wintry.models")


@importing.limit
@contextmanager
def _import_limit() -> Iterator[Operation]:
    yield lambda: _imported("from pydantic import BaseModel")

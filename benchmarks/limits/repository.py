"""Reads of aggregates by hand: aiosqlite, one warm connection, the statements that Wintry sends, dataclasses made of rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import aiosqlite

SELECT = """
SELECT products._version, products.sku, (
  SELECT json_group_array(json_array(b._position, b.sku, b.purchased_quantity, b.reference, json((
    SELECT json_group_array(json_array(l._position, l.sku, l.qty, l.orderid))
    FROM product_batches_allocations AS l
    WHERE l._product_sku = b._product_sku AND l._batches_reference = b.reference)), b.eta))
  FROM product_batches AS b WHERE b._product_sku = products.sku)
FROM products WHERE
"""
BY_SKU = f"{SELECT} products.sku = ?"
BY_REFERENCE = (
    f"{SELECT} products.sku IN (SELECT _product_sku FROM product_batches WHERE reference = ?) ORDER BY products.sku"
)
COUNT = """
SELECT count(*) FROM products
WHERE products.sku IN (SELECT _product_sku FROM product_batches WHERE reference = ?)
"""


@dataclass(kw_only=True)
class OrderLine:
    """A line of an order."""

    sku: str
    qty: int
    orderid: str


@dataclass(kw_only=True)
class Batch:
    """A batch of stock."""

    sku: str
    purchased_quantity: int
    reference: str
    allocations: list[OrderLine] = field(default_factory=list)
    eta: date | None = None


@dataclass(kw_only=True)
class Product:
    """The root."""

    sku: str
    batches: list[Batch] = field(default_factory=list)


class Store:
    """The statements on one connection."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> Store:
        connection = await aiosqlite.connect(path, isolation_level=None, cached_statements=256)
        await connection.execute("PRAGMA foreign_keys = ON")
        return cls(connection)

    async def close(self) -> None:
        await self._connection.close()

    async def get(self, sku: str) -> Product:
        ((_, sku, batches),) = await self._connection.execute_fetchall(BY_SKU, (sku,))
        return _product(sku, batches)

    async def get_by_reference(self, reference: str) -> Product:
        ((_, sku, batches),) = await self._connection.execute_fetchall(BY_REFERENCE, (reference,))
        return _product(sku, batches)

    async def count_by_reference(self, reference: str) -> int:
        ((count,),) = await self._connection.execute_fetchall(COUNT, (reference,))
        return int(count)


def _product(sku: str, text: str) -> Product:
    return Product(sku=sku, batches=[_batch(row) for row in sorted(json.loads(text), key=_position)])


def _position(row: list[Any]) -> int:
    position: int = row[0]
    return position


def _batch(row: list[Any]) -> Batch:
    _, sku, quantity, reference, lines, eta = row
    return Batch(
        sku=sku,
        purchased_quantity=quantity,
        reference=reference,
        allocations=[OrderLine(sku=line[1], qty=line[2], orderid=line[3]) for line in sorted(lines, key=_position)],
        eta=None if eta is None else date.fromisoformat(eta),
    )

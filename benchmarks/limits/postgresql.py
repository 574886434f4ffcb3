"""One product's unit of work by hand on PostgreSQL: asyncpg, a pool that resets nothing, the statements that Wintry sends."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import asyncpg

SELECT = """
SELECT products._version, products.sku, array((
  SELECT row(b._position, b.sku, b.quantity, b.reference, array((
    SELECT row(l._position, l.qty, l.orderid) FROM product_batches_lines AS l
    WHERE l._product_sku = b._product_sku AND l._batches_reference = b.reference)))
  FROM product_batches AS b WHERE b._product_sku = products.sku))
FROM products WHERE
"""
BY_SKU = f"{SELECT} products.sku = $1"
WITH_REFERENCE = "products.sku IN (SELECT _product_sku FROM product_batches WHERE reference = $1)"
BY_REFERENCE = f"{SELECT} {WITH_REFERENCE} ORDER BY products.sku LIMIT 2"
COUNT = f"SELECT count(*) FROM products WHERE {WITH_REFERENCE}"
GUARD = "UPDATE products SET _version = $1 WHERE sku = $2 AND _version = $3 RETURNING sku"
APPEND = """
INSERT INTO product_batches_lines (_product_sku, _batches_reference, qty, orderid, _position)
VALUES ($1, $2, $3, $4, (
  SELECT coalesce(max(_position), 0) + 1048576 FROM product_batches_lines
  WHERE _product_sku = $5 AND _batches_reference = $6))
"""
SETTINGS = {"jit": "off", "TimeZone": "UTC", "DateStyle": "ISO"}
_position = itemgetter(0)


class Stale(Exception):
    """Somebody else changed the product."""


@dataclass(kw_only=True)
class Line:
    """A line of an order."""

    qty: int
    orderid: str


@dataclass(kw_only=True)
class Batch:
    """A batch of stock."""

    sku: str
    quantity: int
    reference: str
    lines: list[Line] = field(default_factory=list)


@dataclass(kw_only=True)
class Product:
    """The root."""

    sku: str
    batches: list[Batch] = field(default_factory=list)


async def keep(connection: Any) -> None:
    """Nothing is left open, so that nothing is reset."""


class Store:
    """The statements, each operation on a connection of the pool."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> Store:
        return cls(await asyncpg.create_pool(url, min_size=1, max_size=10, reset=keep, server_settings=SETTINGS))

    async def close(self) -> None:
        await self._pool.close()

    async def allocate(self, sku: str, orderid: str) -> int:
        """Load, append a line to the first batch, commit; how many lines the batch has then."""
        async with self._pool.acquire() as connection:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            try:
                version, product = built(await connection.fetchrow(BY_SKU, sku))
                batch = product.batches[0]
                batch.lines.append(Line(orderid=orderid, qty=1))
                if not await connection.fetch(GUARD, version + 1, sku, version):
                    raise Stale(sku)
                await connection.execute(APPEND, sku, batch.reference, 1, orderid, sku, batch.reference)
                await connection.execute("COMMIT")
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
        return len(batch.lines)

    async def read(self, sku: str) -> int:
        """Load in a transaction of its own; how many lines there are."""
        async with self._pool.acquire() as connection:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            _, product = built(await connection.fetchrow(BY_SKU, sku))
            await connection.execute("COMMIT")
        return sum(len(batch.lines) for batch in product.batches)

    async def get(self, sku: str) -> Product:
        """One statement, in no transaction."""
        async with self._pool.acquire() as connection:
            return built(await connection.fetchrow(BY_SKU, sku))[1]

    async def get_by_reference(self, reference: str) -> Product:
        """The same by a field of a batch."""
        async with self._pool.acquire() as connection:
            (row,) = await connection.fetch(BY_REFERENCE, reference)
        return built(row)[1]

    async def count_by_reference(self, reference: str) -> int:
        """How many have such a batch."""
        async with self._pool.acquire() as connection:
            return int(await connection.fetchval(COUNT, reference))


def built(row: Any) -> tuple[int, Product]:
    """The version and the objects of a row."""
    version, sku, batches = row
    return version, Product(sku=sku, batches=[_batch(each) for each in sorted(batches, key=_position)])


def _batch(row: Any) -> Batch:
    _, sku, quantity, reference, lines = row
    made = [Line(qty=line[1], orderid=line[2]) for line in sorted(lines, key=_position)]
    return Batch(sku=sku, quantity=quantity, reference=reference, lines=made)

"""One product's unit of work by hand: aiosqlite, one warm connection, the statements that Wintry sends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiosqlite

LOAD = """
SELECT products._version, products.sku, (
  SELECT json_group_array(json_array(b._position, b.sku, b.quantity, b.reference, json((
    SELECT json_group_array(json_array(l._position, l.qty, l.orderid))
    FROM product_batches_lines AS l
    WHERE l._product_sku = b._product_sku AND l._batches_reference = b.reference))))
  FROM product_batches AS b WHERE b._product_sku = products.sku)
FROM products WHERE products.sku = ?
"""
GUARD = "UPDATE products SET _version = ? WHERE sku = ? AND _version = ?"
APPEND = """
INSERT INTO product_batches_lines (_product_sku, _batches_reference, qty, orderid, _position)
VALUES (?, ?, ?, ?, (
  SELECT coalesce(max(_position), 0) + 1048576 FROM product_batches_lines
  WHERE _product_sku = ? AND _batches_reference = ?))
"""


class Stale(Exception):
    """Somebody else changed the product."""


class Store:
    """The statements, one after another on one connection, with a lock for those who wait for it."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._line = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> Store:
        connection = await aiosqlite.connect(path, isolation_level=None, cached_statements=256)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            await connection.execute(f"PRAGMA {pragma}")
        return cls(connection)

    async def close(self) -> None:
        await self._connection.close()

    async def allocate(self, sku: str, orderid: str) -> int:
        """Load, append a line to the first batch, commit; how many lines the batch has then."""
        connection = self._connection
        async with self._line:
            await connection.execute("BEGIN IMMEDIATE")
            try:
                version, batches = await self._load(sku)
                reference, lines = batches[0][3], batches[0][4]
                guarded = await connection.execute(GUARD, (version + 1, sku, version))
                if guarded.rowcount != 1:
                    raise Stale(sku)
                await connection.execute(APPEND, (sku, reference, 1, orderid, sku, reference))
                await connection.execute("COMMIT")
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
        return len(lines) + 1

    async def read(self, sku: str) -> int:
        """Load in a transaction of its own; how many lines there are."""
        connection = self._connection
        await connection.execute("BEGIN")
        _, batches = await self._load(sku)
        await connection.execute("COMMIT")
        return sum(len(batch[4]) for batch in batches)

    async def _load(self, sku: str) -> tuple[int, list[Any]]:
        ((version, _, text),) = await self._connection.execute_fetchall(LOAD, (sku,))
        batches = sorted(json.loads(text))
        for batch in batches:
            batch[4].sort()
        return version, batches

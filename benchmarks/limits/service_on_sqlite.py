"""The limit of the whole service on two SQLite files by aiosqlite: products, outbox and queue in one, views in the other.

The statements are those that Wintry sends. Each file has one connection that writes, behind a lock, and one that reads.
What is announced goes into a queue table in the transaction that records the delivery.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, datetime
from typing import Any

import aiosqlite

from benchmarks.limits import service, web
from benchmarks.limits.service import Batch, Line, Product, Row

NOW = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 5000")
INBOX = (
    """CREATE TABLE IF NOT EXISTS inbox (message_id TEXT NOT NULL, target TEXT NOT NULL, at BIGINT NOT NULL, result BLOB,
    PRIMARY KEY (message_id, target))""",
    "CREATE INDEX IF NOT EXISTS inbox_at ON inbox (at)",
)
TABLES = (
    """CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, target TEXT NOT NULL, type TEXT NOT NULL,
    version BIGINT NOT NULL, body BLOB NOT NULL, correlation_id TEXT NOT NULL, parent_id TEXT, lane TEXT,
    headers TEXT NOT NULL, due BIGINT NOT NULL, status TEXT NOT NULL, attempts BIGINT NOT NULL, lease_owner TEXT,
    lease_until BIGINT, error TEXT, created_at BIGINT NOT NULL, done_at BIGINT)""",
    "CREATE UNIQUE INDEX IF NOT EXISTS outbox_message ON outbox (id, target)",
    "CREATE INDEX IF NOT EXISTS outbox_done ON outbox (done_at) WHERE status = 'done'",
    "CREATE INDEX IF NOT EXISTS outbox_lanes ON outbox (lane, seq) WHERE status IN ('pending', 'held')",
    "CREATE INDEX IF NOT EXISTS outbox_pending ON outbox (due, seq) WHERE status = 'pending'",
    "CREATE INDEX IF NOT EXISTS outbox_dead ON outbox (seq) WHERE status IN ('parked', 'held')",
    """CREATE TABLE IF NOT EXISTS queue (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL, key TEXT,
    headers TEXT NOT NULL, body BLOB NOT NULL, created_at BIGINT NOT NULL)""",
    "CREATE UNIQUE INDEX IF NOT EXISTS queue_message ON queue (channel, id)",
    "CREATE INDEX IF NOT EXISTS queue_channel ON queue (channel, seq)",
    "CREATE INDEX IF NOT EXISTS queue_age ON queue (created_at)",
    *INBOX,
)
BY_SKU = """
SELECT products._version, products.sku, (
  SELECT json_group_array(json_array(b._position, b.sku, b.purchased_quantity, b.reference, json((
    SELECT json_group_array(json_array(a._position, a.qty, a.orderid, a.sku, a.allocated_at))
    FROM product_batches_allocations AS a
    WHERE a._product_sku = b._product_sku AND a._batches_reference = b.reference)), b.eta))
  FROM product_batches AS b WHERE b._product_sku = products.sku)
FROM products WHERE products.sku = ?
"""
GUARD = "UPDATE products SET _version = ? WHERE sku = ? AND _version = ?"
APPEND = """
INSERT INTO product_batches_allocations (_product_sku, _batches_reference, qty, orderid, sku, allocated_at, _position)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, (
  SELECT coalesce(max(_position), 0) + 1048576 FROM product_batches_allocations
  WHERE _product_sku = ?1 AND _batches_reference = ?2))
"""
ROW = f"""(?, ?, ?, 1, ?, ?, ?, ?, ?, {NOW}, 'pending', 1, ?, {NOW} + {service.LEASE_MS}, {NOW})"""
OWE = f"""
INSERT INTO outbox (id, target, type, version, body, correlation_id, parent_id, lane, headers, due, status, attempts,
  lease_owner, lease_until, created_at)
VALUES {ROW}, {ROW} ON CONFLICT (id, target) DO NOTHING RETURNING seq, target
"""
WRITE_VIEW = """
INSERT INTO allocations_view_models (id, orderid, sku, batchref, allocated_at, _version) VALUES (?, ?, ?, ?, ?, 1)
ON CONFLICT (id) DO UPDATE SET batchref = excluded.batchref, allocated_at = excluded.allocated_at
"""
RECORD = f"INSERT INTO inbox VALUES (?, ?, {NOW}, NULL) ON CONFLICT (message_id, target) DO NOTHING"
DONE = f"status = 'done', done_at = {NOW}, lease_owner = NULL, lease_until = NULL"
CLOSE = f"UPDATE outbox SET {DONE} WHERE seq = ? AND lease_owner = ? AND status = 'pending'"
ENQUEUE = f"""
INSERT INTO queue (channel, id, type, key, headers, body, created_at)
VALUES (?, ?, ?, ?, ?, ?, {NOW}), (?, ?, ?, ?, ?, ?, {NOW}) ON CONFLICT (channel, id) DO NOTHING RETURNING seq
"""
HEAR = "SELECT seq, body FROM queue WHERE channel = ? AND seq > ? ORDER BY seq LIMIT 16"
CLAIM = f"""
UPDATE outbox SET lease_owner = ?, lease_until = {NOW} + {service.LEASE_MS}, attempts = attempts + 1
WHERE seq IN (SELECT item.seq FROM outbox AS item WHERE item.status = 'pending' AND item.due <= {NOW}
  AND (item.lease_owner IS NULL OR item.lease_until <= {NOW}) ORDER BY item.due, item.seq LIMIT 100)
RETURNING id, target, type, body, lane, correlation_id, parent_id, seq
"""
LEFT = f"SELECT 1 FROM outbox WHERE status = 'pending' AND due <= {NOW} AND lease_until <= {NOW} LIMIT 1"


class File:
    """A connection that writes, one transaction at a time, and one that reads."""

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self.writer = writer
        self.reader = reader
        self.lock = asyncio.Lock()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self.lock:
            await self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
                await self.writer.execute("COMMIT")
            except BaseException:
                await self.writer.execute("ROLLBACK")
                raise

    async def read(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return list(await self.reader.execute_fetchall(statement, parameters))


class Store:
    """The statements; see `service.Store`."""

    def __init__(self, products: File, views: File) -> None:
        self.products = products
        self.views = views
        self.owner = f"limit:{os.getpid()}"
        self.told = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Store]:
        async with AsyncExitStack() as stack:
            files = []
            for variable, tables in (("BENCH_DEFAULT", TABLES), ("BENCH_VIEWS", INBOX)):
                path = os.environ[variable].removeprefix("sqlite:///")
                opened = [
                    await stack.enter_async_context(
                        aiosqlite.connect(path, isolation_level=None, cached_statements=256)
                    )
                    for _ in range(2)
                ]
                for connection in opened:
                    for pragma in PRAGMAS:
                        await connection.execute(f"PRAGMA {pragma}")
                for statement in tables:
                    await opened[0].execute(statement)
                files.append(File(*opened))
            yield cls(*files)

    async def place(self, command: service.Allocate, message: str, line: Line) -> tuple[str | None, list[Row]]:
        async with self.products.writing() as connection:
            product = built(await connection.execute_fetchall(BY_SKU, (line.sku,)))
            if product is None:
                raise service.InvalidSku(line.sku)
            batchref, new = product.allocate(line)
            if not new:
                return batchref, []
            guarded = await connection.execute(GUARD, (product.version + 1, line.sku, product.version))
            if guarded.rowcount != 1:
                raise RuntimeError("it was changed behind the lock")
            at = line.allocated_at.isoformat(timespec="microseconds")
            await connection.execute(APPEND, (line.sku, batchref, line.qty, line.orderid, line.sku, at))
            rows = service.allocated(command, message, batchref or "")
            heads, values = service.headers(), list[Any]()
            for r in rows:
                values += [r.id, r.target, r.type, r.body, r.correlation, r.parent, r.lane, heads, self.owner]
            seqs = {target: seq for seq, target in await connection.execute_fetchall(OWE, values)}
        for row in rows:
            row.seq = seqs[row.target]
        return batchref, rows

    async def write_view(self, row: Row) -> None:
        event = json.loads(row.body)
        orderid, sku = event["orderid"], event["sku"]
        product = built(await self.products.read(BY_SKU, (sku,)))
        found = product.find_line(orderid) if product is not None else None
        async with self.views.writing() as connection:
            if found is None:
                await connection.execute(
                    "DELETE FROM allocations_view_models WHERE orderid = ? AND sku = ?", (orderid, sku)
                )
            else:
                batch, line = found
                at = line.allocated_at.isoformat(timespec="microseconds")
                values = (service.view_id(orderid, sku), orderid, sku, batch.reference, at)
                await connection.execute(WRITE_VIEW, values)
            await connection.execute(RECORD, (row.id, row.target))

    async def announce(self, row: Row) -> list[Row]:
        sends, heads, values = service.announcements(row), service.headers(), list[Any]()
        for send in sends:
            values += [send.type, send.id, send.type, send.lane.rpartition(":")[2], heads, send.body]
        async with self.products.writing() as connection:
            closed = await connection.execute(CLOSE, (row.seq, self.owner))
            if closed.rowcount == 1:
                await connection.execute_fetchall(ENQUEUE, values)
        self.told.set()
        return []

    async def send(self, rows: Sequence[Row]) -> None:
        raise NotImplementedError("what is announced is in the queue already")

    async def close_rows(self, seqs: Sequence[int]) -> None:
        async with self.products.writing() as connection:
            places = ", ".join("?" * len(seqs))
            text = f"UPDATE outbox SET {DONE} WHERE seq IN ({places}) AND lease_owner = ? AND status = 'pending'"
            await connection.execute(text, (*seqs, self.owner))

    async def claim(self) -> Sequence[Row]:
        if not await self.products.read(LEFT):
            return []
        async with self.products.writing() as connection:
            rows = await connection.execute_fetchall(CLAIM, (self.owner,))
        return sorted((Row(*row) for row in rows), key=lambda row: row.seq)

    async def allocations(self, orderid: str) -> list[web.Row]:
        text = "SELECT orderid, sku, batchref FROM allocations_view_models WHERE orderid = ? ORDER BY id"
        found = await self.views.read(text, (orderid,))
        return [web.Row(orderid=orderid, sku=sku, batchref=batchref) for orderid, sku, batchref in found]

    async def listen(self, hear: Callable[[str], None]) -> None:
        ((last,),) = await self.products.read("SELECT COALESCE(MAX(seq), 0) FROM queue")
        while True:
            for seq, body in await self.products.read(HEAR, (service.LISTENING, last)):
                last = seq
                hear(json.loads(body)["sku"])
            self.told.clear()
            try:
                await asyncio.wait_for(self.told.wait(), 0.4)
            except TimeoutError:
                continue


def built(rows: Any) -> Product | None:
    """The objects of a row."""
    for version, sku, text in rows:
        batches = sorted(json.loads(text))
        return Product(sku, version, [_batch(*each[1:]) for each in batches])
    return None


def _batch(sku: str, purchased: int, reference: str, lines: list[Any], eta: str | None) -> Batch:
    made = [Line(qty, orderid, sku, datetime.fromisoformat(at)) for _, qty, orderid, sku, at in sorted(lines)]
    return Batch(sku, purchased, reference, None if eta is None else date.fromisoformat(eta), made)


app = service.application(Store.opened)

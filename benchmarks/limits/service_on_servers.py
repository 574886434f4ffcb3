"""The limit of the whole service on PostgreSQL, MongoDB and Redis: asyncpg, PyMongo, redis-py.

The statements are those that Wintry sends, with as many transactions on PostgreSQL. On MongoDB it is one transaction of
three commands for a view, where Wintry has two more for looking at the row before it is written. The outbox has the
columns and indexes of Wintry's journal. Pools: ten connections to PostgreSQL.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import asyncpg
from bson.int64 import Int64
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern
from redis.asyncio import Redis

from benchmarks.limits import service, web
from benchmarks.limits.postgresql import SETTINGS, keep
from benchmarks.limits.service import Batch, Line, Product, Row

NOW = "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"
TABLES = """
CREATE TABLE IF NOT EXISTS outbox (
  seq BIGSERIAL PRIMARY KEY, id TEXT NOT NULL, target TEXT NOT NULL, type TEXT NOT NULL, version BIGINT NOT NULL,
  body BYTEA NOT NULL, correlation_id TEXT NOT NULL, parent_id TEXT, lane TEXT, headers TEXT NOT NULL,
  due BIGINT NOT NULL, status TEXT NOT NULL, attempts BIGINT NOT NULL, lease_owner TEXT, lease_until BIGINT, error TEXT,
  created_at BIGINT NOT NULL, done_at BIGINT);
CREATE UNIQUE INDEX IF NOT EXISTS outbox_message ON outbox (id, target);
CREATE INDEX IF NOT EXISTS outbox_lanes ON outbox (lane, seq) WHERE status IN ('pending', 'held');
CREATE INDEX IF NOT EXISTS outbox_dead ON outbox (seq) WHERE status IN ('parked', 'held');
CREATE INDEX IF NOT EXISTS outbox_pending ON outbox (due, seq) WHERE status = 'pending';
CREATE INDEX IF NOT EXISTS outbox_done ON outbox (done_at) WHERE status = 'done';
CREATE TABLE IF NOT EXISTS inbox (
  message_id TEXT NOT NULL, target TEXT NOT NULL, at BIGINT NOT NULL, result BYTEA, PRIMARY KEY (message_id, target));
CREATE INDEX IF NOT EXISTS inbox_at ON inbox (at);
"""
LOCK = "SELECT 1 FROM products WHERE sku = ANY ($1) ORDER BY sku FOR UPDATE"
BY_SKU = """
SELECT products._version, products.sku, array((
  SELECT row(b._position, b.sku, b.purchased_quantity, b.reference, array((
    SELECT row(a._position, a.qty, a.orderid, a.sku, a.allocated_at) FROM product_batches_allocations AS a
    WHERE a._product_sku = b._product_sku AND a._batches_reference = b.reference)), b.eta)
  FROM product_batches AS b WHERE b._product_sku = products.sku))
FROM products WHERE products.sku = $1
"""
GUARD = "UPDATE products SET _version = $1 WHERE sku = $2 AND _version = $3 RETURNING sku"
APPEND = """
INSERT INTO product_batches_allocations (_product_sku, _batches_reference, qty, orderid, sku, allocated_at, _position)
VALUES ($1, $2, $3, $4, $5, $6, (
  SELECT coalesce(max(_position), 0) + 1048576 FROM product_batches_allocations
  WHERE _product_sku = $1 AND _batches_reference = $2))
"""
RECORD = f"""
INSERT INTO inbox (message_id, target, at, result) VALUES ($1, $2, {NOW}, NULL)
ON CONFLICT (message_id, target) DO NOTHING
"""
OWE = f"""
INSERT INTO outbox (id, target, type, version, body, correlation_id, parent_id, lane, headers, due, status, attempts,
  lease_owner, lease_until, created_at)
SELECT row.id, row.target, row.type, 1, row.body, row.correlation, row.parent, row.lane, $8, {NOW}, 'pending',
  CASE WHEN mine THEN 1 ELSE 0 END, CASE WHEN mine THEN $9 END, {NOW} + {service.LEASE_MS}, {NOW}
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[])
  AS row (id, target, type, body, correlation, parent, lane),
  LATERAL (SELECT NOT EXISTS (SELECT 1 FROM outbox AS open WHERE open.lane = row.lane
    AND open.status IN ('pending', 'held') AND (open.lease_owner IS NULL OR open.lease_owner <> $9)) AS mine) AS looked
ON CONFLICT (id, target) DO NOTHING RETURNING seq, id, target, lease_owner
"""
CROWDED = f"""
SELECT item.seq FROM outbox AS item WHERE item.seq = ANY ($1) AND item.lease_owner = $2 AND EXISTS (
  SELECT 1 FROM outbox AS other WHERE other.lane = item.lane AND other.status IN ('pending', 'held')
  AND other.seq <> item.seq AND (other.lease_owner IS NULL OR other.lease_owner <> $2)
  AND (other.seq < item.seq OR (other.lease_owner IS NOT NULL AND other.lease_until > {NOW})))
"""
GIVE_BACK = "UPDATE outbox SET lease_owner = NULL, lease_until = NULL, attempts = 0 WHERE seq = ANY ($1)"
CLOSE = f"""
UPDATE outbox SET status = 'done', done_at = {NOW}, lease_owner = NULL, lease_until = NULL
WHERE seq = ANY ($1) AND lease_owner = $2 AND status = 'pending'
"""
CLAIM = f"""
UPDATE outbox SET lease_owner = $1, lease_until = {NOW} + {service.LEASE_MS}, attempts = attempts + 1
WHERE seq IN (
  SELECT item.seq FROM outbox AS item WHERE item.status = 'pending' AND item.due <= {NOW}
  AND (item.lease_owner IS NULL OR item.lease_until <= {NOW}) AND NOT EXISTS (
    SELECT 1 FROM outbox AS other WHERE other.lane = item.lane AND other.status IN ('pending', 'held')
    AND other.seq <> item.seq
    AND (other.seq < item.seq OR (other.lease_owner IS NOT NULL AND other.lease_until > {NOW})))
  ORDER BY item.due, item.seq LIMIT 100 FOR UPDATE SKIP LOCKED)
RETURNING seq, id, target, type, body, lane, correlation_id, parent_id
"""
TRANSACTION: dict[str, Any] = {
    "read_concern": ReadConcern("snapshot"),
    "write_concern": WriteConcern("majority"),
    "read_preference": ReadPreference.PRIMARY,
}
_position = itemgetter(0)


class Store:
    """The statements; see `service.Store`."""

    def __init__(self, pool: Any, client: AsyncMongoClient[dict[str, Any]], redis: Any) -> None:
        self.pool = pool
        self.client = client
        self.views = client.get_default_database()["allocations_view_models"]
        self.inbox = client.get_default_database()["inbox"]
        self.redis = redis
        self.owner = f"limit:{os.getpid()}"

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Store]:
        pool = await asyncpg.create_pool(
            os.environ["BENCH_DEFAULT"], min_size=1, max_size=10, reset=keep, server_settings=SETTINGS
        )
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(os.environ["BENCH_VIEWS"])
        redis = Redis.from_url(os.environ["BENCH_REDIS"])
        async with pool, client, redis:
            await pool.execute(TABLES)
            store = cls(pool, client, redis)
            await store.inbox.create_index("at")
            yield store

    async def place(self, command: service.Allocate, message: str, line: Line) -> tuple[str | None, list[Row]]:
        async with self.pool.acquire() as connection:
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            try:
                await connection.fetch(LOCK, [line.sku])
                product = built(await connection.fetchrow(BY_SKU, line.sku))
                if product is None:
                    raise service.InvalidSku(line.sku)
                batchref, new = product.allocate(line)
                rows: list[Row] = []
                if new:
                    if not await connection.fetch(GUARD, product.version + 1, line.sku, product.version):
                        raise RuntimeError("it was changed without its lock")
                    await connection.execute(
                        APPEND, line.sku, batchref, line.qty, line.orderid, line.sku, line.allocated_at
                    )
                    await connection.execute(RECORD, message, "allocate")
                    rows = await self._owe(connection, service.allocated(command, message, batchref or ""))
                await connection.execute("COMMIT")
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
            return batchref, await self._step_back(connection, rows)

    async def _owe(self, connection: Any, rows: list[Row]) -> list[Row]:
        """Store rows, and give those that are leased to us."""
        columns = zip(*((r.id, r.target, r.type, r.body, r.correlation, r.parent, r.lane) for r in rows), strict=True)
        stored = await connection.fetch(OWE, *map(list, columns), service.headers(), self.owner)
        seqs = {(id, target): seq for seq, id, target, owner in stored if owner is not None}
        for row in rows:
            row.seq = seqs.get((row.id, row.target), 0)
        return [row for row in rows if row.seq]

    async def _step_back(self, connection: Any, rows: list[Row]) -> list[Row]:
        """Give back what has to wait for another process in its lane, which no snapshot showed."""
        if not rows:
            return rows
        crowded = {seq for (seq,) in await connection.fetch(CROWDED, [row.seq for row in rows], self.owner)}
        if crowded:
            await connection.execute(GIVE_BACK, list(crowded))
        return [row for row in rows if row.seq not in crowded]

    async def write_view(self, row: Row) -> None:
        event = json.loads(row.body)
        orderid, sku = event["orderid"], event["sku"]
        async with self.pool.acquire() as connection:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            product = built(await connection.fetchrow(BY_SKU, sku))
            await connection.execute("COMMIT")
        found = product.find_line(orderid) if product is not None else None

        async def write(session: Any) -> None:
            if found is None:
                await self.views.delete_many({"orderid": orderid, "sku": sku}, session=session)
            else:
                batch, line = found
                moment, micros = line.allocated_at, line.allocated_at.microsecond % 1000
                at = {"date": moment, "us": Int64(micros)}
                document = {"orderid": orderid, "sku": sku, "batchref": batch.reference, "allocated_at": at}
                id = service.view_id(orderid, sku)
                await self.views.replace_one(
                    {"_id": id}, document | {"_version": Int64(1)}, upsert=True, session=session
                )
            record = {"_id": {"message_id": row.id, "target": row.target}, "at": datetime.now(UTC), "result": None}
            await self.inbox.insert_one(record, session=session)

        try:
            async with self.client.start_session() as session:
                await session.with_transaction(write, **TRANSACTION)
        except DuplicateKeyError:
            pass  # somebody has delivered it before us

    async def announce(self, row: Row) -> list[Row]:
        async with self.pool.acquire() as connection:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            try:
                await connection.execute(RECORD, row.id, row.target)
                sends = await self._owe(connection, service.announcements(row))
                await connection.execute("COMMIT")
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
            return await self._step_back(connection, sends)

    async def send(self, rows: Sequence[Row]) -> None:
        async with self.redis.pipeline(transaction=False) as pipeline:
            for row in rows:
                fields = {"id": row.id, "type": row.type, "key": row.lane.rpartition(":")[2], "body": row.body}
                parents = {"correlationid": row.correlation, "causationid": row.parent}
                pipeline.xadd(f"limit:{{{row.type}}}", fields | parents)
            await pipeline.execute()

    async def close_rows(self, seqs: Sequence[int]) -> None:
        await self.pool.execute(CLOSE, seqs, self.owner)

    async def claim(self) -> Sequence[Row]:
        rows = await self.pool.fetch(CLAIM, self.owner)
        return [Row(id, target, type, body, lane, correlation, parent, seq)
                for seq, id, target, type, body, lane, correlation, parent in sorted(rows, key=_position)]  # fmt: skip

    async def allocations(self, orderid: str) -> list[web.Row]:
        found = await self.views.find({"orderid": orderid}, sort=[("_id", 1)]).to_list()
        return [web.Row(orderid=each["orderid"], sku=each["sku"], batchref=each["batchref"]) for each in found]

    async def listen(self, hear: Callable[[str], None]) -> None:
        stream, last = f"limit:{{{service.LISTENING}}}", "$"
        while True:
            for _, entries in await self.redis.xread({stream: last}, count=16, block=1000) or ():
                for id, fields in entries:
                    last = id
                    hear(json.loads(fields[b"body"])["sku"])


def built(row: Any) -> Product | None:
    """The objects of a row."""
    if row is None:
        return None
    version, sku, batches = row
    return Product(sku, version, [_batch(each) for each in sorted(batches, key=_position)])


def _batch(row: Any) -> Batch:
    _, sku, purchased, reference, lines, eta = row
    return Batch(sku, purchased, reference, eta, [Line(*line[1:]) for line in sorted(lines, key=_position)])


app = service.application(Store.opened)

"""A mediator written by hand: a dictionary, a context variable, an await.

It keeps what a careful author would: each run of a handler has a list of its own for what it registers, so that calls at
once do not mix, and a failing event handler is logged and stops nobody. It has no ids, no retries, no timeouts, no
order by key and no dead letters. `Outbox` is a durable command by hand.
"""

import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiosqlite

logger = logging.getLogger(__name__)
pending: ContextVar[list[Any]] = ContextVar("pending")


class Mediator:
    """Dispatches by type."""

    def __init__(
        self,
        commands: dict[type, Callable[[Any], Awaitable[Any]]],
        events: dict[type, list[Callable[[Any], Awaitable[Any]]]],
    ) -> None:
        self._commands = commands
        self._events = events

    async def handle(self, command: Any) -> Any:
        registered: list[Any] = []
        token = pending.set(registered)
        try:
            result = await self._commands[type(command)](command)
        finally:
            pending.reset(token)
        if registered:
            await self._drain(registered)
        return result

    async def _drain(self, registered: list[Any]) -> None:
        queue = deque(registered)
        while queue:
            event = queue.popleft()
            for handler in self._events[type(event)]:
                registered = []
                token = pending.set(registered)
                try:
                    await handler(event)
                except Exception:
                    logger.exception("a handler of %r failed", event)
                else:
                    queue.extend(registered)
                finally:
                    pending.reset(token)

    def register(self, event: Any) -> None:
        pending.get().append(event)


class Outbox:
    """A command and the handler of its event on SQLite by hand: two transactions on one warm connection.

    The first holds the command's effect and the event's row, born leased; the second the handler's effect and the
    closing of that row, which is also the record that the event was handled.
    """

    TABLES = (
        "CREATE TABLE orders (orderid TEXT PRIMARY KEY, sku TEXT NOT NULL, _version INTEGER NOT NULL)",
        "CREATE TABLE notes (orderid TEXT PRIMARY KEY, sku TEXT NOT NULL, _version INTEGER NOT NULL)",
        (
            "CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, target TEXT NOT NULL, "
            "body BLOB NOT NULL, status TEXT NOT NULL, owner TEXT, until INTEGER, created_at INTEGER, done_at INTEGER)"
        ),
        "CREATE UNIQUE INDEX outbox_message ON outbox (id, target)",
        "CREATE INDEX outbox_pending ON outbox (until, seq) WHERE status = 'pending'",
        "CREATE INDEX outbox_done ON outbox (done_at) WHERE status = 'done'",
    )
    NOW = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    EVENT = (
        "INSERT INTO outbox (id, target, body, status, owner, until, created_at) "
        f"VALUES (?, 'note', ?, 'pending', 'me', {NOW} + 40000, {NOW}) RETURNING seq"
    )
    CLOSE = (
        f"UPDATE outbox SET status = 'done', done_at = {NOW}, owner = NULL WHERE seq = ? AND owner = 'me' "
        "AND status = 'pending'"
    )

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> "Outbox":
        connection = await aiosqlite.connect(path, isolation_level=None, cached_statements=256)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            await connection.execute(f"PRAGMA {pragma}")
        for statement in cls.TABLES:
            await connection.execute(statement)
        return cls(connection)

    async def close(self) -> None:
        await self._connection.close()

    async def place(self, orderid: str, sku: str) -> str:
        execute = self._connection.execute
        await execute("BEGIN IMMEDIATE")
        await execute("INSERT INTO orders VALUES (?, ?, 1)", (orderid, sku))
        body = json.dumps({"orderid": orderid, "sku": sku}).encode()
        ((seq,),) = await self._connection.execute_fetchall(self.EVENT, (uuid4().hex, body))
        await execute("COMMIT")
        await self._note(seq, json.loads(body))
        return sku

    async def _note(self, seq: int, event: dict[str, str]) -> None:
        execute = self._connection.execute
        await execute("BEGIN IMMEDIATE")
        await execute("INSERT INTO notes VALUES (?, ?, 1)", (event["orderid"], event["sku"]))
        closed = await execute(self.CLOSE, (seq,))
        if closed.rowcount != 1:
            raise RuntimeError("somebody else has delivered it")
        await execute("COMMIT")

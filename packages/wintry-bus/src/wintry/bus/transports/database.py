"""A durable queue in a SQL database, for applications without a broker.

What is published is a row of `_wintry_queue` and, for every group that listens to its channel, one of
`_wintry_queue_deliveries`, in the same transaction. A group is there from its first listener on, and is then given what
the queue still keeps of its channel. Its processes compete for its rows by leases (`journal/leases.py`, the journal's
own): a row is leased, renewed while it is in somebody's hands, and deleted when it is acknowledged; after a crash
another process takes it when the lease ends. Of the rows of one key only the first can be leased.

A listener without a group hears every message from its start on: it reads `_wintry_queue` on from the last number that
was there, and settles nothing.

Where writers run beside one another, whoever publishes to a channel or joins it has a lock on it until its commit: so
numbers of one channel ascend in the order of commits, and no message misses a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from wintry.repository.sql import SqlBackend, SqlExecution

from ..journal.group_commit import GroupCommit, read
from ..journal.journal import Row
from ..journal.leases import Leases
from ..journal.names import DELIVERIES, GROUPS, MESSAGES
from ..journal.rows import headers_of, milliseconds, written
from ..journal.sql_home import purge
from ..journal.tables import Statements, declare_queue, placed, places
from .queue import AT_ONCE, Given, Queue
from .transport import Parked, TransportMessage

_MESSAGE: Final = "seq, id, type, body, key, headers"


class Database(Queue):
    """A transport whose queue is in a SQL backend; `owner` names this process, times are seconds."""

    def __init__(
        self,
        backend: SqlBackend,
        *,
        owner: str,
        lease: float = 40.0,
        poll_min: float = 0.05,
        poll_max: float = 2.0,
        commits: GroupCommit | None = None,
    ) -> None:
        super().__init__(owner=owner, lease=lease, poll_min=poll_min, poll_max=poll_max)
        declare_queue(backend.metadata)
        self.backend = backend
        self.commits = commits or GroupCommit(backend)
        self._statements = Statements(backend)
        self._leases = Leases(self._statements, DELIVERIES, ("group_number", "lane"))

    # sending

    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        if messages:
            await self.commits.run(lambda on: self._insert(on, [(channel, message) for message in messages]))
            self.wake([channel])

    async def enqueue(self, execution: SqlExecution, rows: Sequence[Row]) -> None:
        """Put sends of the journal into the queue, in a running transaction; `wake_for` when it has committed."""
        await self._insert(execution, [(channel_of(row), message_of(row)) for row in rows])

    def wake_for(self, rows: Sequence[Row]) -> None:
        """`wake` for sends that have been enqueued."""
        self.wake([channel_of(row) for row in rows])

    async def _insert(self, execution: SqlExecution, messages: Sequence[tuple[str, TransportMessage]]) -> None:
        for channel in sorted({channel for channel, _ in messages}):
            await self._lock(execution, channel)
        for at in range(0, len(messages), AT_ONCE):
            some = messages[at : at + AT_ONCE]
            values: dict[str, Any] = {}
            for n, (channel, message) in enumerate(some):
                headers = written(message.headers)
                values |= {f"channel{n}": channel, f"id{n}": message.id, f"type{n}": message.type}
                values |= {f"key{n}": message.key, f"headers{n}": headers, f"body{n}": message.body}
            stored = await self._statements(_insertion(len(some))).fetch(execution, values)
            if stored:
                seqs = [row[0] for row in stored]
                text = _distribution(f"message.seq IN ({places('seq', len(seqs))})")
                await self._statements(text).change(execution, placed("seq", seqs))

    async def _lock(self, execution: SqlExecution, channel: str) -> None:
        """Have a channel to oneself until the commit: its numbers ascend in the order of commits, no group is missed."""
        lock = self._statements.dialect.lock
        if lock is not None:
            await self._statements(lock).fetch(execution, {"name": f"{MESSAGES}:{channel}"})

    # receiving

    async def _number_of(self, channel: str, group: str) -> int:
        values: dict[str, Any] = {"channel": channel, "name": group}
        find = f"UPDATE {GROUPS} SET seen_at = {{now}} WHERE channel = :channel AND name = :name RETURNING number"
        make = f"INSERT INTO {GROUPS} (channel, name, seen_at) VALUES (:channel, :name, {{now}}) RETURNING number"
        distribute = _distribution("message.channel = :channel AND listening.number = :number")

        async def work(on: SqlExecution) -> int:
            await self._lock(on, channel)
            found = await self._statements(find).fetch(on, values)
            if not found:
                found = await self._statements(make).fetch(on, values)
                await self._statements(distribute).change(on, {**values, "number": found[0][0]})
            number: int = found[0][0]
            return number

        return await self.commits.run(work)

    async def _claim(self, group: int, limit: int) -> list[Given]:
        where, values = "item.group_number = :group", {"group": group}
        if not await read(self.backend, lambda on: self._leases.any_free(on, where, values)):
            return []
        claim = {**values, "limit": limit, "owner": self.owner, "lease": milliseconds(self.lease)}

        async def work(on: SqlExecution) -> list[Given]:
            rows = await self._leases.claim(on, where, claim, "message, seq, attempts")
            if not rows:
                return []
            text = f"SELECT {_MESSAGE} FROM {MESSAGES} WHERE seq IN ({places('seq', len(rows))})"
            found = await self._statements(text).fetch(on, placed("seq", [row[0] for row in rows]))
            messages = {seq: _stored(*rest) for seq, *rest in found}
            gone = [seq for message, seq, _ in rows if message not in messages]  # purged while its group was made
            if gone:
                forget = f"DELETE FROM {DELIVERIES} WHERE seq IN ({places('seq', len(gone))})"
                await self._statements(forget).change(on, placed("seq", gone))
            taken = sorted(tuple(row) for row in rows)
            return [Given(seq, messages[message], attempt) for message, seq, attempt in taken if message in messages]

        return await self.commits.run(work)

    async def _last(self, channel: str) -> int:
        text = f"SELECT COALESCE(MAX(seq), 0) FROM {MESSAGES} WHERE channel = :channel"
        number: int = (await read(self.backend, lambda on: self._statements(text).fetch(on, {"channel": channel})))[0][
            0
        ]
        return number

    async def _following(self, channel: str, after: int, limit: int) -> list[Given]:
        text = f"SELECT {_MESSAGE} FROM {MESSAGES} WHERE channel = :channel AND seq > :after ORDER BY seq LIMIT :limit"
        values = {"channel": channel, "after": after, "limit": limit}
        rows = await read(self.backend, lambda on: self._statements(text).fetch(on, values))
        return [Given(seq, _stored(*rest)) for seq, *rest in rows]

    # settling

    async def settle(self, seq: int) -> None:
        text = f"DELETE FROM {DELIVERIES} WHERE seq = :seq AND lease_owner = :owner AND status = 'pending'"
        values = {"seq": seq, "owner": self.owner}
        await self.commits.run(lambda on: self._statements(text).change(on, values))

    async def park(self, seq: int, reason: str) -> None:
        await self.commits.run(lambda on: self._leases.park(on, seq, self.owner, reason, status="parked"))

    async def release(self, seq: int) -> None:
        await self.commits.run(lambda on: self._leases.release(on, [seq], self.owner))

    async def _drop(self, seqs: Sequence[int]) -> None:
        change = "lease_owner = NULL, lease_until = NULL"
        await self.commits.run(lambda on: self._leases.change(on, change, seqs, {"owner": self.owner}))

    async def _renew(self, seqs: Sequence[int]) -> Sequence[int]:
        lease = milliseconds(self.lease)
        return await self.commits.run(lambda on: self._leases.renew(on, seqs, self.owner, lease))

    async def parked(self, *, limit: int = 100) -> list[Parked]:
        text = (
            f"SELECT message.channel, listening.name, message.id, message.type, message.body, message.key, "
            f"message.headers, dead.error FROM {DELIVERIES} AS dead JOIN {MESSAGES} AS message ON message.seq = "
            f"dead.message JOIN {GROUPS} AS listening ON listening.number = dead.group_number "
            "WHERE dead.status = 'parked' ORDER BY dead.seq LIMIT :limit"
        )
        rows = await read(self.backend, lambda on: self._statements(text).fetch(on, {"limit": limit}))
        return [Parked(channel, group, _stored(*message), error) for channel, group, *message, error in rows]

    # life

    async def check(self) -> None:
        await self.backend.check()

    async def _prepare(self) -> None:
        await self.backend.create_schema()

    async def _flush(self) -> None:
        await self.commits.flush()

    async def inherit(self) -> int:
        return await self._leases.expire(self.commits)

    async def purge(self, *, older_than: float, abandoned: float) -> int:
        await self._keep_groups(milliseconds(abandoned))
        text = (
            f"DELETE FROM {MESSAGES} WHERE seq IN (SELECT old.seq FROM {MESSAGES} AS old WHERE old.created_at < "
            f"{{now}} - :age AND NOT EXISTS (SELECT 1 FROM {DELIVERIES} AS open WHERE open.message = old.seq) "
            "ORDER BY old.created_at LIMIT :limit)"
        )
        return await purge(self.commits, self._statements, text, older_than)

    async def _keep_groups(self, abandoned: int) -> None:
        groups = [*self._groups]
        mine = f"UPDATE {GROUPS} SET seen_at = {{now}} WHERE number IN ({places('number', len(groups))})"
        old = f"SELECT number FROM {GROUPS} WHERE seen_at < {{now}} - :abandoned"
        values = {"abandoned": abandoned}

        async def work(on: SqlExecution) -> None:
            if groups:
                await self._statements(mine).change(on, placed("number", groups))
            await self._statements(f"DELETE FROM {DELIVERIES} WHERE group_number IN ({old})").change(on, values)
            await self._statements(f"DELETE FROM {GROUPS} WHERE number IN ({old})").change(on, values)

        await self.commits.run(work)


def _insertion(count: int) -> str:
    rows = (f"(:channel{n}, :id{n}, :type{n}, :key{n}, :headers{n}, :body{n}, {{now}})" for n in range(count))
    return (
        f"INSERT INTO {MESSAGES} (channel, id, type, key, headers, body, created_at) VALUES {', '.join(rows)} "
        "ON CONFLICT (channel, id) DO NOTHING RETURNING seq"
    )


def _distribution(where: str) -> str:
    """Give messages to the groups that listen to their channels."""
    return (
        f"INSERT INTO {DELIVERIES} (message, group_number, lane, due, status, attempts) "
        f"SELECT message.seq, listening.number, message.key, {{now}}, 'pending', 0 FROM {MESSAGES} AS message "
        f"JOIN {GROUPS} AS listening ON listening.channel = message.channel WHERE {where} ORDER BY message.seq"
    )


def _stored(id: str, type: str, body: bytes, key: str | None, headers: str) -> TransportMessage:
    return TransportMessage(id, type, bytes(body), key, headers_of(headers))


def channel_of(row: Row) -> str:
    """The channel that a row of the journal is sent to."""
    return row.target.partition(":")[2]


def message_of(row: Row) -> TransportMessage:
    """What listeners are given of a row of the journal that is a send."""
    made = datetime.now(UTC)
    with suppress(KeyError, ValueError):  # spoilt headers stop nobody
        made = datetime.fromtimestamp(float(row.headers["time"]), UTC)
    headers = {"time": made.isoformat(), "correlationid": row.correlation_id}
    if row.parent_id is not None:
        headers["causationid"] = row.parent_id
    if "traceparent" in row.headers:
        headers["traceparent"] = row.headers["traceparent"]
    return TransportMessage(row.id, row.type, row.body, row.headers.get("key"), headers)

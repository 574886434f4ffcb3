"""The journal in a SQL database: rows of `_wintry_journal`, beside the state that they belong to.

What a unit hands in runs on its own transaction: one INSERT for all its rows, and the closing of the row that it
delivers. Everything else is a transaction of its own, shared with whoever waits at the same moment (`GroupCommit`).
A claim is first a look without any lock, so that an idle process writes nothing.

A send over a transport whose queue is in the same database (`direct`) becomes a message of that queue at once, in the
unit's transaction: there is nothing between the two that could be lost.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar, cast

from wintry.repository.backend import Execution
from wintry.repository.sql import SqlBackend, SqlExecution

from .group_commit import GroupCommit, read
from .journal import Known, Row, Seen, Stats, Status
from .leases import Leases
from .tables import INBOX, JOURNAL, Statements, declare_effects, declare_journal, placed, places

T = TypeVar("T")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SOON: Final = 0.005
"""Seconds that closing a row may wait for company, where the inbox has made its repetition harmless."""
_AT_ONCE: Final = 100
"""Rows of one INSERT."""
_COLUMNS: Final = (
    "seq, id, target, type, version, body, correlation_id, parent_id, lane, headers, due, status, attempts, "
    "lease_owner, lease_until, error, created_at, done_at"
)
_PURGED: Final = 500
"""Rows of one DELETE: what waits for the writer's turn does not wait long."""


class DirectQueue(Protocol):
    """A transport whose queue is in the journal's own database."""

    async def enqueue(self, execution: SqlExecution, rows: Sequence[Row]) -> None:
        """Put sends into the queue, in a running transaction."""
        ...

    def wake_for(self, rows: Sequence[Row]) -> None:
        """The transaction in which `rows` were enqueued has committed."""
        ...


class SqlJournal:
    """A journal on a SQL backend. Its tables are made by the backend's `create_schema`.

    `others` are further backends that effects may be stored in: `seen` looks into their inboxes too. `direct` are the
    transports by name whose queues are in the same database.
    """

    def __init__(
        self,
        backend: SqlBackend,
        *,
        others: Sequence[SqlBackend] = (),
        direct: Mapping[str, DirectQueue] | None = None,
        commits: GroupCommit | None = None,
    ) -> None:
        declare_effects(backend.metadata)
        declare_journal(backend.metadata)
        self.backend = backend
        self.commits = commits or GroupCommit(backend)
        self.inboxes = {each: Inbox(each) for each in (backend, *others)}
        self._direct = dict(direct or {})
        self._statements = Statements(backend)
        self._leases = Leases(self._statements, JOURNAL, ("lane",))
        self._known: tuple[Known, str, dict[str, Any]] | None = None

    # deliveries

    async def append(
        self, rows: Sequence[Row], *, owner: str, lease: float, execution: object | None = None
    ) -> Sequence[Row]:
        async def work(on: SqlExecution) -> list[Row]:
            kept = await self._enqueue(on, rows)
            return [row for some in _parts(kept) for row in await self._insert(on, some, owner, lease)]

        if not rows:
            return []
        stored = await self._in(execution, work)
        if execution is None:
            self.committed(rows)
        return stored

    def committed(self, rows: Sequence[Row]) -> None:
        """The unit in whose transaction `rows` were appended has committed: queues of this database are told."""
        for transport, queue in self._direct.items():
            sends = [row for row in rows if row.target.startswith(f"{transport}:")]
            if sends:
                queue.wake_for(sends)

    async def adopt(self, rows: Sequence[Row]) -> None:
        """Store rows that nobody holds: whoever claims first delivers them."""

        async def work(on: SqlExecution) -> None:
            for some in _parts(await self._enqueue(on, rows)):
                await self._insert(on, some, None, 0.0)

        await self.commits.run(work)
        self.committed(rows)

    async def _enqueue(self, execution: SqlExecution, rows: Sequence[Row]) -> Sequence[Row]:
        """Hand the sends that need no row to their queues, and give the other rows."""
        if not self._direct:
            return rows
        kept: list[Row] = []
        sends: dict[str, list[Row]] = {}
        for row in rows:
            transport, colon, _ = row.target.partition(":")
            (sends.setdefault(transport, []) if colon and transport in self._direct else kept).append(row)
        for transport, some in sends.items():
            await self._direct[transport].enqueue(execution, some)
        return kept

    async def _insert(self, execution: SqlExecution, rows: Sequence[Row], owner: str | None, lease: float) -> list[Row]:
        values: dict[str, Any] = {"owner": owner, "lease": _milliseconds(lease)}
        late: set[str] = set()  # lanes of this batch with a row that is not leased
        for number, row in enumerate(rows):
            due = None if row.due is None else _stamp(row.due)
            values |= {f"{name}{number}": value for name, value in contents(row).items()}
            values |= {f"due{number}": due, f"first{number}": int(row.lane not in late)}
            if row.lane is not None and due is not None:
                late.add(row.lane)
        given = {(row.id, row.target): row for row in rows}
        stored = await self._statements(_insertion(len(rows))).fetch(execution, values)
        return [
            replace(
                given[id, target],
                seq=seq,
                due=_moment(due),
                attempts=attempts,
                lease_owner=holder,
                lease_until=None if holder is None else _moment(until),
                created_at=_moment(created),
            )
            for seq, id, target, due, attempts, holder, until, created in sorted(stored)
        ]

    async def claim(self, *, limit: int, owner: str, lease: float, known: Known) -> Sequence[Row]:
        where, values = self._where(known)
        if not where:
            return []
        if not await self._read(lambda on: self._leases.any_free(on, where, values)):
            return []
        values = {**values, "limit": limit, "owner": owner, "lease": _milliseconds(lease)}
        rows = await self.commits.run(lambda on: self._leases.claim(on, where, values, _COLUMNS))
        return [_row(row) for row in sorted(rows)]

    async def complete(self, seqs: Sequence[int], *, owner: str, execution: object | None = None) -> int:
        change = "status = 'done', done_at = {now}, lease_owner = NULL, lease_until = NULL"
        return await self._in(execution, lambda on: self._leases.change(on, change, seqs, {"owner": owner}))

    def complete_soon(self, seq: int, *, owner: str) -> None:
        """Mark a row done a little later; until then a crash has it delivered again, and the inbox stops that."""
        change = "status = 'done', done_at = {now}, lease_owner = NULL, lease_until = NULL"
        self.commits.later(lambda on: self._leases.change(on, change, [seq], {"owner": owner}), SOON)

    async def retry(self, seq: int, *, owner: str, error: str, delay: float) -> bool:
        change = "due = {now} + :delay, error = :error, lease_owner = NULL, lease_until = NULL"
        values = {"owner": owner, "error": error, "delay": _milliseconds(delay)}
        return await self.commits.run(lambda on: self._leases.change(on, change, [seq], values)) == 1

    async def release(self, seqs: Sequence[int], *, owner: str) -> int:
        return await self.commits.run(lambda on: self._leases.release(on, seqs, owner)) if seqs else 0

    async def park(self, seq: int, *, owner: str, error: str, hold: bool = False) -> bool:
        status = Status.HELD if hold else Status.PARKED
        return await self.commits.run(lambda on: self._leases.park(on, seq, owner, error, status=status))

    async def bury(self, rows: Sequence[Row]) -> None:
        text = (
            f"INSERT INTO {JOURNAL} (id, target, type, version, body, correlation_id, parent_id, lane, headers, due, "
            "status, attempts, error, created_at) VALUES (:id, :target, :type, :version, :body, :correlation, :parent, "
            ":lane, :headers, {now}, 'parked', :attempts, :error, {now}) ON CONFLICT (id, target) DO NOTHING"
        )

        async def work(on: SqlExecution) -> None:
            for row in rows:
                values = {**contents(row), "attempts": row.attempts, "error": row.error}
                await self._statements(text).change(on, values)

        await self.commits.run(work)

    async def renew(self, seqs: Sequence[int], *, owner: str, lease: float) -> Sequence[int]:
        milliseconds = _milliseconds(lease)
        return await self.commits.run(lambda on: self._leases.renew(on, seqs, owner, milliseconds)) if seqs else []

    async def seen(self, message_id: str, target: str) -> Seen | None:
        text = f"SELECT done_at FROM {JOURNAL} WHERE id = :id AND target = :target AND status = 'done'"
        values = {"id": message_id, "target": target}
        closed = await self._read(lambda on: self._statements(text).fetch(on, values))
        if closed:
            return Seen(_moment(closed[0][0]))
        return await self.recorded(message_id, target, self.inboxes)

    async def recorded(self, message_id: str, target: str, backends: Sequence[SqlBackend] | Any) -> Seen | None:
        """What the inboxes of `backends` say of a message."""
        for backend in backends:
            found = await self.inboxes[backend].find(message_id, target)
            if found is not None:
                return found
        return None

    # people and housekeeping

    async def inherit(self) -> int:
        """End the leases of processes of this host that have ended, and give the number of rows."""
        return await self._leases.expire(self.commits)

    async def dead(
        self, *, type: str | None = None, since: datetime | None = None, seq: int | None = None, limit: int = 100
    ) -> Sequence[Row]:
        where, values = ["status IN ('parked', 'held')"], {"limit": limit}
        for condition, name, value in (
            ("type = :type", "type", type),
            ("created_at >= :since", "since", None if since is None else _stamp(since)),
            ("seq = :seq", "seq", seq),
        ):
            if value is not None:
                where.append(condition)
                values[name] = cast(int, value)
        text = f"SELECT {_COLUMNS} FROM {JOURNAL} WHERE {' AND '.join(where)} ORDER BY seq LIMIT :limit"
        return [_row(row) for row in await self._read(lambda on: self._statements(text).fetch(on, values))]

    async def redrive(self, seqs: Sequence[int]) -> int:
        return await self._dead(
            f"UPDATE {JOURNAL} SET status = 'pending', attempts = 0, due = {{now}}, lease_owner = NULL, "
            "lease_until = NULL",
            seqs,
        )

    async def discard(self, seqs: Sequence[int]) -> int:
        return await self._dead(f"DELETE FROM {JOURNAL}", seqs)

    async def _dead(self, verb: str, seqs: Sequence[int]) -> int:
        text = f"{verb} WHERE seq IN ({places('seq', len(seqs))}) AND status IN ('parked', 'held')"
        return await self.commits.run(lambda on: self._statements(text).change(on, placed("seq", seqs)))

    async def stats(self) -> Stats:
        counts = ", ".join(
            f"(SELECT COUNT(*) FROM {JOURNAL} WHERE {condition})"
            for condition in (
                "status = 'pending'",
                "status IN ('parked', 'held') AND status = 'parked'",
                "status IN ('parked', 'held') AND status = 'held'",
                "status = 'done'",
            )
        )
        oldest = f"SELECT {{now}} - MIN(due) FROM {JOURNAL} WHERE status = 'pending' AND due <= {{now}}"
        text = f"SELECT {counts}, ({oldest})"
        ((pending, parked, held, done, age),) = await self._read(lambda on: self._statements(text).fetch(on, {}))
        return Stats(pending, parked, held, done, None if age is None else age / 1000)

    async def purge(self, *, older_than: float) -> int:
        text = (
            f"DELETE FROM {JOURNAL} WHERE seq IN (SELECT seq FROM {JOURNAL} WHERE status = 'done' "
            "AND done_at < {now} - :age ORDER BY done_at LIMIT :limit)"
        )
        return await purge(self.commits, self._statements, text, older_than)

    async def replay(self, *, since: datetime, channel: str) -> int:
        text = (
            f"UPDATE {JOURNAL} SET status = 'pending', done_at = NULL, attempts = 0, due = {{now}} "
            "WHERE status = 'done' AND done_at >= :since AND substr(target, -:length) = :suffix "
            "AND replace(substr(target, 1, length(target) - :length), ':', '-') = "
            "substr(target, 1, length(target) - :length)"
        )
        suffix = f":{channel}"
        values = {"since": _stamp(since), "suffix": suffix, "length": len(suffix)}
        return await self.commits.run(lambda on: self._statements(text).change(on, values))

    # Inside

    async def _in(self, execution: object | None, work: Callable[[SqlExecution], Awaitable[T]]) -> T:
        """Run on the transaction that is given, else on one of our own."""
        if execution is None:
            return await self.commits.run(work)
        assert isinstance(execution, SqlExecution), "the execution of a unit on the journal's backend"
        return await work(execution)

    async def _read(self, work: Callable[[SqlExecution], Awaitable[T]]) -> T:
        return await read(self.backend, work)

    def _where(self, known: Known) -> tuple[str, dict[str, Any]]:
        """The condition for rows that a process can deliver, "" where it can deliver none."""
        if self._known is None or self._known[0] != known:
            self._known = (known, *_condition(known))
        return self._known[1:]


class Inbox:
    """What was handled with an effect in one database: `_wintry_inbox` there."""

    def __init__(self, backend: SqlBackend) -> None:
        declare_effects(backend.metadata)
        self.backend = backend
        self._statements = Statements(backend)

    async def record(self, execution: Execution, message_id: str, target: str) -> bool:
        """Note a message in the transaction of its effect; False if it was noted before."""
        assert isinstance(execution, SqlExecution), "an execution of this backend"
        text = (
            f"INSERT INTO {INBOX} (message_id, target, at) VALUES (:id, :target, {{now}}) "
            "ON CONFLICT (message_id, target) DO NOTHING"
        )
        return await self._statements(text).change(execution, {"id": message_id, "target": target}) == 1

    async def find(self, message_id: str, target: str) -> Seen | None:
        """The record of a message."""
        text = f"SELECT at, result FROM {INBOX} WHERE message_id = :id AND target = :target"
        values = {"id": message_id, "target": target}
        rows = await read(self.backend, lambda on: self._statements(text).fetch(on, values))
        return Seen(_moment(rows[0][0]), rows[0][1]) if rows else None

    async def purge(self, commits: GroupCommit, *, older_than: float) -> int:
        """Forget what was handled more than `older_than` seconds ago."""
        text = (
            f"DELETE FROM {INBOX} WHERE (message_id, target) IN (SELECT message_id, target FROM {INBOX} "
            "WHERE at < {now} - :age ORDER BY at LIMIT :limit)"
        )
        return await purge(commits, self._statements, text, older_than)


async def purge(commits: GroupCommit, statements: Statements, text: str, older_than: float) -> int:
    """Repeat a DELETE of `:limit` rows that are `:age` old until nothing is left; gives the number of rows."""
    values = {"age": _milliseconds(older_than), "limit": _PURGED}
    total = 0
    while True:
        count = await commits.run(lambda on: statements(text).change(on, values))
        total += count
        if count < _PURGED:
            return total


def contents(row: Row) -> dict[str, Any]:
    """The values of a row's own columns, as they are stored."""
    return {
        "id": row.id,
        "target": row.target,
        "type": row.type,
        "version": row.version,
        "body": row.body,
        "correlation": row.correlation_id,
        "parent": row.parent_id,
        "lane": row.lane,
        "headers": json.dumps(dict(row.headers), ensure_ascii=False, separators=(",", ":")),
    }


def _insertion(count: int) -> str:
    """The INSERT of `count` rows. A row is leased if it is due and its lane holds nothing that is another's."""
    tuples = []
    for n in range(count):
        leased = (
            f":owner IS NOT NULL AND :first{n} = 1 AND COALESCE(:due{n}, {{now}}) <= {{now}} "
            f"AND NOT EXISTS (SELECT 1 FROM {JOURNAL} AS open WHERE open.lane = :lane{n} "
            "AND open.status IN ('pending', 'held') AND (open.lease_owner IS NULL OR open.lease_owner <> :owner))"
        )
        tuples.append(
            f"(:id{n}, :target{n}, :type{n}, :version{n}, :body{n}, :correlation{n}, :parent{n}, :lane{n}, "
            f":headers{n}, COALESCE(:due{n}, {{now}}), 'pending', CASE WHEN {leased} THEN 1 ELSE 0 END, "
            f"CASE WHEN {leased} THEN :owner END, {{now}} + :lease, {{now}})"
        )
    return (
        f"INSERT INTO {JOURNAL} (id, target, type, version, body, correlation_id, parent_id, lane, headers, due, "
        f"status, attempts, lease_owner, lease_until, created_at) VALUES {', '.join(tuples)} "
        "ON CONFLICT (id, target) DO NOTHING "
        "RETURNING seq, id, target, due, attempts, lease_owner, lease_until, created_at"
    )


def _condition(known: Known) -> tuple[str, dict[str, Any]]:
    terms = []
    values: dict[str, Any] = {}
    for n, (target, version) in enumerate(known.handlers.items()):
        terms.append(f"row.target = :target{n} AND row.version <= :version{n}")
        values |= {f"target{n}": target, f"version{n}": version}
    for n, name in enumerate(sorted(known.transports)):
        terms.append(f"substr(row.target, 1, :length{n}) = :prefix{n}")
        values |= {f"prefix{n}": f"{name}:", f"length{n}": len(name) + 1}
    return " OR ".join(terms), values


def _row(values: tuple[Any, ...]) -> Row:
    seq, id, target, type, version, body, correlation, parent, lane, headers, due, status, *rest = values
    attempts, owner, until, error, created, done = rest
    return Row(
        id=id,
        target=target,
        type=type,
        version=version,
        body=bytes(body),
        correlation_id=correlation,
        parent_id=parent,
        lane=lane,
        headers=_headers(headers),
        due=_moment(due),
        seq=seq,
        status=Status(status),
        attempts=attempts,
        lease_owner=owner,
        lease_until=None if owner is None else _moment(until),
        error=error,
        created_at=_moment(created),
        done_at=None if done is None else _moment(done),
    )


def _headers(text: str) -> dict[str, str]:
    """What travels beside a body; nothing, where somebody has spoilt it: the claims of all others must go on."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _parts(rows: Sequence[Row]) -> list[Sequence[Row]]:
    return [rows[at : at + _AT_ONCE] for at in range(0, len(rows), _AT_ONCE)]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _stamp(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _moment(stamp: int) -> datetime:
    return EPOCH + timedelta(milliseconds=stamp)

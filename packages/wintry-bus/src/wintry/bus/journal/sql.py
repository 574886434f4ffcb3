"""The journal in a SQL database: rows of `_wintry_journal`, beside the state that they belong to.

What a unit hands in runs on its own transaction: one INSERT for all its rows, and the closing of the row that it
delivers where writers come one at a time. Everything else is a transaction of its own, shared with whoever waits at the
same moment (`GroupCommit`). A claim is first a look without any lock, so that an idle process writes nothing.

Where writers run beside one another (`dialects.py`), a unit's transaction sees a snapshot. There it only adds rows,
which conflicts with nobody, and `committed` looks behind the commit for what the snapshot did not show (`leases.py`).

A send over a transport whose queue is in the same database (`direct`) becomes a message of that queue at once, in the
unit's transaction: there is nothing between the two that could be lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

from wintry.repository.backend import Backend
from wintry.repository.sql import SqlBackend, SqlExecution

from .closing import DONE, Closing
from .group_commit import read
from .home import Home, recorded
from .journal import Known, Row, Seen, Stats, Status
from .leases import Leases
from .names import JOURNAL
from .rows import COLUMNS, CONTENTS, contents, milliseconds, moment_of, numbered, parts, row_of, stamp
from .sql_home import SqlHome, purge, running
from .tables import Statements, declare_journal, placed, places

T = TypeVar("T")


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

    `home` is the one there; `others` are those of further backends that effects may be stored in: `seen` looks into
    their inboxes too. `direct` are the transports by name whose queues are in the same database.
    """

    def __init__(
        self,
        backend: SqlBackend,
        *,
        home: SqlHome | None = None,
        others: Sequence[Home] = (),
        direct: Mapping[str, DirectQueue] | None = None,
    ) -> None:
        declare_journal(backend.metadata)
        home = home or SqlHome(backend)
        self.backend = backend
        self.commits = home.commits
        self.homes: Mapping[Backend, Home] = {each.backend: each for each in (home, *others)}
        self._direct = dict(direct or {})
        self._statements = Statements(backend)
        self._leases = Leases(self._statements, JOURNAL, ("lane",))
        self._known: tuple[Known, str, dict[str, Any]] | None = None
        self._closing = Closing(self._leases, self.commits)

    @property
    def closes_in_unit(self) -> bool:
        return self._statements.dialect.serial

    # deliveries

    async def append(
        self, rows: Sequence[Row], *, owner: str, lease: float, execution: object | None = None
    ) -> Sequence[Row]:
        async def work(on: SqlExecution) -> list[Row]:
            kept = await self._enqueue(on, rows)
            return [row for some in parts(kept) for row in await self._insert(on, some, owner, lease)]

        if not rows:
            return []
        stored = await self._in(execution, work)
        return stored if execution is not None else await self.committed(rows, stored, owner=owner)

    async def committed(self, rows: Sequence[Row], stored: Sequence[Row], *, owner: str) -> Sequence[Row]:
        self._wake(rows)
        if self._statements.dialect.serial:
            return stored
        back = await self._step_back([row.seq for row in stored if row.lane and row.lease_owner == owner], owner)
        return [
            replace(row, lease_owner=None, lease_until=None, attempts=0) if row.seq in back else row for row in stored
        ]

    async def _step_back(self, seqs: Sequence[int], owner: str) -> set[int]:
        """Give back what has to wait for another process in its lane."""
        if not seqs:
            return set()
        crowded = await self._read(lambda on: self._leases.crowded(on, seqs, owner))
        await self.release(crowded, owner=owner)
        return {*crowded}

    async def adopt(self, rows: Sequence[Row]) -> None:
        async def work(on: SqlExecution) -> None:
            for some in parts(await self._enqueue(on, rows)):
                await self._insert(on, some, None, 0.0)

        await self.commits.run(work)
        self._wake(rows)

    def _wake(self, rows: Sequence[Row]) -> None:
        for transport, queue in self._direct.items():
            sends = [row for row in rows if row.target.startswith(f"{transport}:")]
            if sends:
                queue.wake_for(sends)

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
        values: dict[str, Any] = {"owner": owner, "lease": milliseconds(lease)}
        late: set[str] = set()  # lanes of this batch with a row that is not leased
        for number, row in enumerate(rows):
            values |= numbered({**contents(row), "first": int(row.lane not in late)}, number)
            if row.lane is not None and row.due is not None:
                late.add(row.lane)
        given = {(row.id, row.target): row for row in rows}
        stored = await self._statements(_insertion(len(rows))).fetch(execution, values)
        return [
            replace(
                given[id, target],
                seq=seq,
                due=moment_of(due),
                attempts=attempts,
                lease_owner=holder,
                lease_until=None if holder is None else moment_of(until),
                created_at=moment_of(created),
            )
            for seq, id, target, due, attempts, holder, until, created in sorted(stored, key=_number)
        ]

    async def claim(self, *, limit: int, owner: str, lease: float, known: Known) -> Sequence[Row]:
        where, values = self._where(known)
        if not where:
            return []
        await self._closing.wait()  # what stands behind these in a lane is free then
        if not await self._read(lambda on: self._leases.any_free(on, where, values)):
            return []
        values = {**values, "limit": limit, "owner": owner, "lease": milliseconds(lease)}
        claimed = await self.commits.run(lambda on: self._leases.claim(on, where, values, COLUMNS))
        rows = [row_of(row) for row in sorted(claimed, key=_number)]
        if self._statements.dialect.serial:
            return rows
        back = await self._step_back([row.seq for row in rows if row.lane], owner)
        return [row for row in rows if row.seq not in back]

    async def complete(self, seqs: Sequence[int], *, owner: str, execution: object | None = None) -> int:
        if execution is None:
            return await self._closing.now(seqs, owner=owner)
        return len(await self._leases.change(running(execution), DONE, seqs, {"owner": owner}))

    def complete_soon(self, seq: int, *, owner: str) -> None:
        self._closing.soon(seq, owner=owner)

    async def retry(self, seq: int, *, owner: str, error: str, delay: float) -> bool:
        change = "due = {now} + :delay, error = :error, lease_owner = NULL, lease_until = NULL"
        values = {"owner": owner, "error": error, "delay": milliseconds(delay)}
        return bool(await self.commits.run(lambda on: self._leases.change(on, change, [seq], values)))

    async def release(self, seqs: Sequence[int], *, owner: str) -> int:
        return await self.commits.run(lambda on: self._leases.release(on, seqs, owner)) if seqs else 0

    async def park(self, seq: int, *, owner: str, error: str, hold: bool = False) -> bool:
        status = Status.HELD if hold else Status.PARKED
        return await self.commits.run(lambda on: self._leases.park(on, seq, owner, error, status=status))

    async def bury(self, rows: Sequence[Row]) -> None:
        text = (
            f"INSERT INTO {JOURNAL} ({CONTENTS}, status, attempts, error, created_at) VALUES "
            "(:id, :target, :type, :version, :body, :correlation, :parent, :lane, :headers, {now}, 'parked', :attempts, :error, {now}) ON CONFLICT (id, target) DO NOTHING"
        )

        async def work(on: SqlExecution) -> None:
            for row in rows:
                values = {**contents(row), "attempts": row.attempts, "error": row.error}
                await self._statements(text).change(on, values)

        await self.commits.run(work)

    async def renew(self, seqs: Sequence[int], *, owner: str, lease: float) -> Sequence[int]:
        length = milliseconds(lease)
        return await self.commits.run(lambda on: self._leases.renew(on, seqs, owner, length)) if seqs else []

    async def seen(self, message_id: str, target: str) -> Seen | None:
        text = f"SELECT done_at FROM {JOURNAL} WHERE id = :id AND target = :target AND status = 'done'"
        values = {"id": message_id, "target": target}
        closed = await self._read(lambda on: self._statements(text).fetch(on, values))
        if closed:
            return Seen(moment_of(closed[0][0]))
        return await recorded(self.homes.values(), message_id, target)

    # people and housekeeping

    async def inherit(self) -> int:
        return await self._leases.expire(self.commits)

    async def dead(
        self, *, type: str | None = None, since: datetime | None = None, seq: int | None = None, limit: int = 100
    ) -> Sequence[Row]:
        where, values = ["status IN ('parked', 'held')"], {"limit": limit}
        for condition, name, value in (
            ("type = :type", "type", type),
            ("created_at >= :since", "since", None if since is None else stamp(since)),
            ("seq = :seq", "seq", seq),
        ):
            if value is not None:
                where.append(condition)
                values[name] = cast(int, value)
        text = f"SELECT {COLUMNS} FROM {JOURNAL} WHERE {' AND '.join(where)} ORDER BY seq LIMIT :limit"
        return [row_of(row) for row in await self._read(lambda on: self._statements(text).fetch(on, values))]

    async def redrive(self, seqs: Sequence[int]) -> int:
        return await self._dead(
            f"UPDATE {JOURNAL} SET status = 'pending', attempts = 0, due = {{now}}, lease_owner = NULL, "
            "lease_until = NULL",
            seqs,
        )

    async def discard(self, seqs: Sequence[int]) -> int:
        return await self._dead(f"DELETE FROM {JOURNAL}", seqs)

    async def _dead(self, verb: str, seqs: Sequence[int]) -> int:
        if not seqs:
            return 0
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
        done = f"FROM {JOURNAL} WHERE status = 'done' AND done_at >= :since"
        values = {"since": stamp(since)}
        found = await self._read(lambda on: self._statements(f"SELECT DISTINCT target {done}").fetch(on, values))
        targets = [target for (target,) in found if target.partition(":")[2] == channel]
        if not targets:
            return 0
        text = (
            f"UPDATE {JOURNAL} SET status = 'pending', done_at = NULL, attempts = 0, due = {{now}} "
            f"WHERE status = 'done' AND done_at >= :since AND target IN ({places('target', len(targets))})"
        )
        given = {**values, **placed("target", targets)}
        return await self.commits.run(lambda on: self._statements(text).change(on, given))

    # Inside

    async def _in(self, execution: object | None, work: Callable[[SqlExecution], Awaitable[T]]) -> T:
        """Run on the transaction that is given, else on one of our own."""
        if execution is None:
            return await self.commits.run(work)
        return await work(running(execution))

    async def _read(self, work: Callable[[SqlExecution], Awaitable[T]]) -> T:
        return await read(self.backend, work)

    def _where(self, known: Known) -> tuple[str, dict[str, Any]]:
        """The condition for rows that a process can deliver, "" where it can deliver none."""
        if self._known is None or self._known[0] != known:
            self._known = (known, *_condition(known))
        return self._known[1:]


def _number(row: Sequence[Any]) -> int:
    number: int = row[0]
    return number


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
        f"INSERT INTO {JOURNAL} ({CONTENTS}, status, attempts, lease_owner, lease_until, created_at) "
        f"VALUES {', '.join(tuples)} "
        "ON CONFLICT (id, target) DO NOTHING "
        "RETURNING seq, id, target, due, attempts, lease_owner, lease_until, created_at"
    )


def _condition(known: Known) -> tuple[str, dict[str, Any]]:
    terms = []
    values: dict[str, Any] = {}
    for n, (target, version) in enumerate(known.handlers.items()):
        terms.append(f"item.target = :target{n} AND item.version <= :version{n}")
        values |= {f"target{n}": target, f"version{n}": version}
    for n, name in enumerate(sorted(known.transports)):
        terms.append(f"substr(item.target, 1, :length{n}) = :prefix{n}")
        values |= {f"prefix{n}": f"{name}:", f"length{n}": len(name) + 1}
    return " OR ".join(terms), values

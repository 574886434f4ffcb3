"""A home in a SQL database: `_wintry_inbox`, `_wintry_outgoing` and `_wintry_duties`, in the backend's own schema.

What belongs to a unit of work is written on its execution, so that it is stored with the unit or not at all: an effect
is recorded by an INSERT that does nothing where the row is there, and whose count says which. All else, as removing
what has arrived, shares small transactions with whatever this process stores there (`GroupCommit`), and what may wait
goes with the next of them. Reading takes no part in either. Times are those of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from wintry.repository.backend import Execution
from wintry.repository.sql import SqlBackend, SqlExecution

from .group_commit import GroupCommit, read
from .home import SOON
from .journal import Row, Seen
from .names import DUTIES, INBOX, OUTGOING
from .rows import CONTENTS, contents, message_of, milliseconds, moment_of, numbered, parts
from .tables import Statements, declare_duties, declare_effects, placed

_PURGED: Final = 500
"""Rows of one DELETE: what waits for the writer's turn does not wait long."""


class SqlHome:
    """The home on a SQL backend; `commits` are the small transactions there, shared with all that store there."""

    def __init__(self, backend: SqlBackend, commits: GroupCommit | None = None) -> None:
        declare_effects(backend.metadata)
        declare_duties(backend.metadata)
        self.backend = backend
        self.commits = commits or GroupCommit(backend)
        self._statements = Statements(backend)

    @property
    def remote(self) -> bool:
        return self.backend.dialect.remote

    async def prepare(self) -> None:
        await self.backend.create_schema()

    async def record(self, execution: Execution, message_id: str, target: str, result: bytes | None = None) -> bool:
        text = (
            f"INSERT INTO {INBOX} (message_id, target, at, result) VALUES (:id, :target, {{now}}, :result) "
            "ON CONFLICT (message_id, target) DO NOTHING"
        )
        values = {"id": message_id, "target": target, "result": result}
        return await self._statements(text).change(running(execution), values) == 1

    async def keep(self, message_id: str, target: str, result: bytes) -> None:
        text = f"UPDATE {INBOX} SET result = :result WHERE message_id = :id AND target = :target"
        values = {"id": message_id, "target": target, "result": result}
        await self.commits.run(lambda on: self._statements(text).change(on, values))

    async def find(self, message_id: str, target: str) -> Seen | None:
        text = f"SELECT at, result FROM {INBOX} WHERE message_id = :id AND target = :target"
        values = {"id": message_id, "target": target}
        rows = await read(self.backend, lambda on: self._statements(text).fetch(on, values))
        return Seen(moment_of(rows[0][0]), rows[0][1]) if rows else None

    async def store(self, execution: Execution, rows: Sequence[Row]) -> None:
        for some in parts(rows):
            values: dict[str, Any] = {}
            for number, row in enumerate(some):
                values |= numbered(contents(row), number)
            await self._statements(_insertion(len(some))).change(running(execution), values)

    async def waiting(self, *, grace: float, limit: int) -> Sequence[Row]:
        text = f"SELECT {CONTENTS} FROM {OUTGOING} WHERE created_at <= {{now}} - :grace ORDER BY seq LIMIT :limit"
        values = {"grace": milliseconds(grace), "limit": limit}
        found = await read(self.backend, lambda on: self._statements(text).fetch(on, values))
        return [message_of(*each) for each in found]

    async def remove(self, rows: Sequence[Row]) -> None:
        await self.commits.run(lambda on: self._remove(on, rows))

    def remove_soon(self, rows: Sequence[Row]) -> None:
        self.commits.later(lambda on: self._remove(on, rows), SOON)

    async def _remove(self, execution: SqlExecution, rows: Sequence[Row]) -> None:
        for some in parts(rows):
            pairs = ", ".join(f"(:id{n}, :target{n})" for n in range(len(some)))
            values = {**placed("id", [row.id for row in some]), **placed("target", [row.target for row in some])}
            text = f"DELETE FROM {OUTGOING} WHERE (id, target) IN (VALUES {pairs})"
            await self._statements(text).change(execution, values)

    async def take_duty(self, name: str, *, owner: str, seconds: float) -> bool:
        text = (
            f"INSERT INTO {DUTIES} (name, owner, until) VALUES (:name, :owner, {{now}} + :lease) "
            "ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until "
            f"WHERE {DUTIES}.until <= {{now}}"
        )
        values = {"name": name, "owner": owner, "lease": milliseconds(seconds)}
        return await self.commits.run(lambda on: self._statements(text).change(on, values)) == 1

    async def purge(self, *, older_than: float) -> int:
        text = (
            f"DELETE FROM {INBOX} WHERE (message_id, target) IN (SELECT message_id, target FROM {INBOX} "
            "WHERE at < {now} - :age ORDER BY at LIMIT :limit)"
        )
        return await purge(self.commits, self._statements, text, older_than)

    async def flush(self) -> None:
        await self.commits.flush()


def running(execution: object) -> SqlExecution:
    """A unit's transaction on this backend."""
    assert isinstance(execution, SqlExecution), "an execution of this backend"
    return execution


async def purge(commits: GroupCommit, statements: Statements, text: str, older_than: float) -> int:
    """Repeat a DELETE of `:limit` rows that are `:age` old until nothing is left; gives the number of rows."""
    values = {"age": milliseconds(older_than), "limit": _PURGED}
    total = 0
    while True:
        count = await commits.run(lambda on: statements(text).change(on, values))
        total += count
        if count < _PURGED:
            return total


def _insertion(count: int) -> str:
    tuples = (
        f"(:id{n}, :target{n}, :type{n}, :version{n}, :body{n}, :correlation{n}, :parent{n}, :lane{n}, :headers{n}, "
        f":due{n}, {{now}})"
        for n in range(count)
    )
    return f"INSERT INTO {OUTGOING} ({CONTENTS}, created_at) VALUES {', '.join(tuples)}"

"""Messages of other databases on their way to the journal.

A unit whose effect is in another database than the journal's writes its messages into `_wintry_outgoing` there, in the
transaction of the effect. `move` brings them over right after that commit: into the journal first, where a message
that is there already is left alone, and out of `_wintry_outgoing` after it, so that a crash between the two moves them
twice and stores them once. What a crash has left is moved by `recover`, at the start of any process and from time to
time while it runs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from wintry.repository.backend import Execution
from wintry.repository.sql import SqlBackend, SqlExecution

from ..failpoints import reach
from .group_commit import GroupCommit, read
from .journal import Row
from .sql import EPOCH, SOON, SqlJournal, contents
from .tables import OUTGOING, Statements, declare_effects, placed, places

logger = logging.getLogger("wintry.bus")

GRACE: Final = 2.0
"""Seconds that messages are left to the process that stored them."""
_AT_ONCE: Final = 100


class Relay:
    """Brings the messages of one other backend to the journal."""

    def __init__(self, backend: SqlBackend, journal: SqlJournal, commits: GroupCommit | None = None) -> None:
        declare_effects(backend.metadata)
        self.backend = backend
        self.commits = commits or GroupCommit(backend)
        self._journal = journal
        self._statements = Statements(backend)

    async def store(self, execution: Execution, rows: Sequence[Row]) -> None:
        """Write messages in the transaction of the effect."""
        assert isinstance(execution, SqlExecution), "an execution of this backend"
        for at in range(0, len(rows), _AT_ONCE):
            some = rows[at : at + _AT_ONCE]
            values: dict[str, Any] = {}
            for number, row in enumerate(some):
                due = None if row.due is None else (row.due - EPOCH) // timedelta(milliseconds=1)
                values |= {f"{name}{number}": value for name, value in contents(row).items()}
                values[f"due{number}"] = due
            await self._statements(_insertion(len(some))).change(execution, values)

    async def move(self, rows: Sequence[Row], *, owner: str, lease: float) -> Sequence[Row]:
        """Bring messages over that were stored just now; gives the rows of the journal, leased to `owner`."""
        stored = await self._journal.append(rows, owner=owner, lease=lease)
        reach("moved")
        self.commits.later(lambda on: self._remove(on, rows), SOON)
        return stored

    async def recover(self, *, grace: float = GRACE) -> int:
        """Bring over what was stored more than `grace` seconds ago; gives the number of messages."""
        text = (
            "SELECT id, target, type, version, body, correlation_id, parent_id, lane, headers, due "
            f"FROM {OUTGOING} WHERE created_at <= {{now}} - :grace ORDER BY seq LIMIT :limit"
        )
        values = {"grace": round(grace * 1000), "limit": _AT_ONCE}
        total = 0
        while True:
            found = await read(self.backend, lambda on: self._statements(text).fetch(on, values))
            if not found:
                return total
            rows = [_row(*each) for each in found]
            await self._journal.adopt(rows)
            reach("moved")
            await self.commits.run(partial(self._remove, rows=rows))
            logger.info("%d messages of backend %r were moved to the journal", len(rows), self.backend.name)
            total += len(rows)

    async def _remove(self, execution: SqlExecution, rows: Sequence[Row]) -> None:
        for at in range(0, len(rows), _AT_ONCE):
            some = rows[at : at + _AT_ONCE]
            text = f"DELETE FROM {OUTGOING} WHERE id IN ({places('id', len(some))})"
            await self._statements(text).change(execution, placed("id", [row.id for row in some]))


def _insertion(count: int) -> str:
    tuples = (
        f"(:id{n}, :target{n}, :type{n}, :version{n}, :body{n}, :correlation{n}, :parent{n}, :lane{n}, :headers{n}, "
        f":due{n}, {{now}})"
        for n in range(count)
    )
    return (
        f"INSERT INTO {OUTGOING} (id, target, type, version, body, correlation_id, parent_id, lane, headers, due, "
        f"created_at) VALUES {', '.join(tuples)}"
    )


def _row(
    id: str,
    target: str,
    type: str,
    version: int,
    body: bytes,
    correlation: str,
    parent: str | None,
    lane: str | None,
    headers: str,
    due: int | None,
) -> Row:
    return Row(
        id=id,
        target=target,
        type=type,
        version=version,
        body=bytes(body),
        correlation_id=correlation,
        parent_id=parent,
        lane=lane,
        headers=json.loads(headers),
        due=None if due is None else EPOCH + timedelta(milliseconds=due),
    )

"""Leases on the rows of a table: the part that the journal and the database transport have in common.

A row that is pending, due, without a running lease and first in its lane may be claimed: it then belongs to an owner
until a time by the database's clock, and every statement that follows names the owner and passes over rows that the
owner holds no longer. The leases of a process that is known to have ended are ended too. One claim is one statement,
which SQLite runs alone; elsewhere it passes over rows that another claim has locked.

Where writers run beside one another a lease may be given although another process, whose transaction was not to be
seen yet, has a row of the same lane. So whoever has been given one looks again when that is committed (`crowded`), and
gives back what it is not alone with: both have written before they look, so at least one sees the other. For the same
reason nothing is claimed there that stands before a row of its lane whose lease still runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from wintry.repository.sql import SqlExecution

from ..owners import is_gone
from .group_commit import GroupCommit, read
from .tables import Statements, placed, places

OPEN: Final = "status IN ('pending', 'held')"
_LEASED: Final = "(other.lease_owner IS NOT NULL AND other.lease_until > {now})"


class Leases:
    """The leases on `table`; rows are in one lane where all columns of `lane` are equal, in none where one is null."""

    def __init__(self, statements: Statements, table: str, lane: Sequence[str]) -> None:
        self._statements = statements
        self._table = table
        self._lane = tuple(lane)

    def free(self, where: str) -> str:
        """The query for the numbers of the rows that may be claimed, oldest first, `:limit` of them."""
        before = "other.seq < item.seq"
        if not self._statements.dialect.serial:
            before = f"other.seq <> item.seq AND ({before} OR {_LEASED})"
        return (
            f"SELECT item.seq FROM {self._table} AS item WHERE item.status = 'pending' AND item.due <= {{now}} "
            f"AND (item.lease_owner IS NULL OR item.lease_until <= {{now}}) AND ({where}) "
            f"AND (item.lane IS NULL OR NOT EXISTS ({self._others} AND {before})) "
            "ORDER BY item.due, item.seq LIMIT :limit"
        )

    @property
    def _others(self) -> str:
        """The query for open rows of the lane of `item`."""
        same = " AND ".join(f"other.{column} = item.{column}" for column in self._lane)
        return f"SELECT 1 FROM {self._table} AS other WHERE {same} AND other.{OPEN}"

    async def any_free(self, execution: SqlExecution, where: str, values: Mapping[str, Any]) -> bool:
        """Whether there is a row to claim."""
        found = await self._statements(self.free(where)).fetch(execution, {**values, "limit": 1})
        return bool(found)

    async def claim(
        self, execution: SqlExecution, where: str, values: Mapping[str, Any], columns: str
    ) -> list[tuple[Any, ...]]:
        """Lease rows to `:owner` for `:lease` milliseconds, and give their `columns`."""
        text = (
            f"WITH free AS MATERIALIZED ({self.free(where)} {self._statements.dialect.skip_locked}) "
            f"UPDATE {self._table} SET lease_owner = :owner, lease_until = {{now}} + :lease, attempts = attempts + 1 "
            f"WHERE seq IN (SELECT seq FROM free) RETURNING {columns}"
        )
        return await self._statements(text).fetch(execution, values)

    async def crowded(self, execution: SqlExecution, seqs: Sequence[int], owner: str) -> list[int]:
        """Those of an owner's rows that have to wait for another process in their lane."""
        text = (
            f"SELECT item.seq FROM {self._table} AS item WHERE item.seq IN ({places('seq', len(seqs))}) "
            f"AND item.lease_owner = :owner AND EXISTS ({self._others} AND other.seq <> item.seq "
            "AND (other.lease_owner IS NULL OR other.lease_owner <> :owner) "
            f"AND (other.seq < item.seq OR {_LEASED}))"
        )
        found = await self._statements(text).fetch(execution, {**placed("seq", seqs), "owner": owner})
        return [row[0] for row in found]

    async def expire(self, commits: GroupCommit) -> int:
        """End the leases of processes of this host that have ended; gives the number of rows."""
        now_held = f"SELECT DISTINCT lease_owner FROM {self._table} WHERE status = 'pending' AND lease_until > {{now}}"
        held = await read(commits.backend, lambda on: self._statements(now_held).fetch(on, {}))
        gone = [owner for (owner,) in held if owner is not None and is_gone(owner)]
        if not gone:
            return 0
        text = (
            f"UPDATE {self._table} SET lease_until = {{now}} WHERE status = 'pending' AND lease_until > {{now}} "
            f"AND lease_owner IN ({places('owner', len(gone))})"
        )
        return await commits.run(lambda on: self._statements(text).change(on, placed("owner", gone)))

    async def release(self, execution: SqlExecution, seqs: Sequence[int], owner: str) -> int:
        """Give rows back, the attempt not counted."""
        change = "lease_owner = NULL, lease_until = NULL, attempts = attempts - 1"
        return len(await self.change(execution, change, seqs, {"owner": owner}))

    async def renew(self, execution: SqlExecution, seqs: Sequence[int], owner: str, lease: int) -> list[int]:
        """Lengthen leases to `lease` milliseconds from now; gives the rows that are still held."""
        values = {"owner": owner, "lease": lease}
        return [*await self.change(execution, "lease_until = {now} + :lease", seqs, values)]

    async def park(self, execution: SqlExecution, seq: int, owner: str, error: str, *, status: str) -> bool:
        """Take a row out for a person to see."""
        change = "status = :status, error = :error, lease_owner = NULL, lease_until = NULL"
        values = {"owner": owner, "status": status, "error": error}
        return bool(await self.change(execution, change, [seq], values))

    async def change(
        self, execution: SqlExecution, change: str, seqs: Sequence[int], values: Mapping[str, Any]
    ) -> set[int]:
        """Change rows that `:owner` holds; gives which they were."""
        text = (
            f"UPDATE {self._table} SET {change} WHERE seq IN ({places('seq', len(seqs))}) "
            "AND lease_owner = :owner AND status = 'pending' RETURNING seq"
        )
        return {row[0] for row in await self._statements(text).fetch(execution, {**values, **placed("seq", seqs)})}

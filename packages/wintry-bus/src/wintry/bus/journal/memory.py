"""The journal in memory: the rules of `journal.py` on dictionaries.

It holds what waits (retries, delayed messages, dead letters) while no journal is configured, and it is the oracle that
the stores are compared with. Nothing in it waits for anything: each method does its work in one step, so that no
other task sees it half done. Its inbox is empty: without a database there is no effect to record a message with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from .journal import Known, Row, Seen, Stats, Status

_OPEN = (Status.PENDING, Status.HELD)
_DEAD = (Status.PARKED, Status.HELD)


class MemoryJournal:
    """A journal that lives as long as its process. `clock` gives seconds since the epoch.

    With `keep_done=False`, the default, rows vanish when they are done, and with them the means to know them again.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, keep_done: bool = False) -> None:
        self._clock = clock
        self._keep_done = keep_done
        self._rows: dict[int, Row] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._lanes: dict[str, list[int]] = {}
        self._seq = 0

    async def append(
        self, rows: Sequence[Row], *, owner: str, lease: float, execution: object | None = None
    ) -> Sequence[Row]:
        return self.store(rows, owner=owner, lease=lease)

    def store(self, rows: Sequence[Row], *, owner: str, lease: float) -> list[Row]:
        """`append` for callers that cannot wait."""
        now = self._now()
        stored = []
        for given in rows:
            if (given.id, given.target) in self._ids:
                continue
            self._seq += 1
            row = given.copy()
            row.seq, row.created_at, row.due = self._seq, now, given.due or now
            if row.due <= now and all(
                self._rows[seq].lease_owner == owner for seq in self._lanes.get(row.lane or "", ())
            ):
                self._lease(row, owner, now, lease)
            self._rows[row.seq] = row
            self._ids[row.id, row.target] = row.seq
            if row.lane is not None:
                self._lanes.setdefault(row.lane, []).append(row.seq)
            stored.append(row.copy())
        return stored

    def waits(self, lane: str) -> bool:
        """Whether a row of this lane is open."""
        return lane in self._lanes

    def next_due(self) -> float | None:
        """Seconds until the next row is due that is not due yet, if there is one."""
        now = self._now()
        dues = (row.due for row in self._rows.values() if row.status is Status.PENDING and row.due is not None)
        later = [due for due in dues if due > now]
        return (min(later) - now).total_seconds() if later else None

    async def claim(self, *, limit: int, owner: str, lease: float, known: Known) -> Sequence[Row]:
        now = self._now()
        claimed: list[Row] = []
        for row in self._rows.values():
            if len(claimed) == limit:
                break
            free = row.lease_until is None or row.lease_until <= now
            due = row.due is None or row.due <= now
            first = row.lane is None or self._lanes[row.lane][0] == row.seq if row.status in _OPEN else False
            if row.status is Status.PENDING and free and due and first and known.covers(row):
                self._lease(row, owner, now, lease)
                claimed.append(row.copy())
        return claimed

    async def complete(self, seqs: Sequence[int], *, owner: str, execution: object | None = None) -> int:
        held = self._held(seqs, owner)
        for row in held:
            self._settle(row, Status.DONE, None)
            row.done_at = self._now()
            if not self._keep_done:
                self._forget(row)
        return len(held)

    async def retry(self, seq: int, *, owner: str, error: str, delay: float) -> bool:
        for row in self._held([seq], owner):
            row.lease_owner = row.lease_until = None
            row.error = error
            row.due = self._now() + timedelta(seconds=delay)
            return True
        return False

    async def release(self, seqs: Sequence[int], *, owner: str) -> int:
        held = self._held(seqs, owner)
        for row in held:
            row.lease_owner = row.lease_until = None
            row.attempts -= 1
        return len(held)

    async def park(self, seq: int, *, owner: str, error: str, hold: bool = False) -> bool:
        for row in self._held([seq], owner):
            self._settle(row, Status.HELD if hold else Status.PARKED, error)
            return True
        return False

    async def bury(self, rows: Sequence[Row]) -> None:
        for given in rows:
            if (given.id, given.target) not in self._ids:
                self._seq += 1
                now = self._now()
                row = replace(given, seq=self._seq, status=Status.PARKED, created_at=now, due=now)
                self._rows[row.seq] = row
                self._ids[row.id, row.target] = row.seq

    async def renew(self, seqs: Sequence[int], *, owner: str, lease: float) -> Sequence[int]:
        held = self._held(seqs, owner)
        until = self._now() + timedelta(seconds=lease)
        for row in held:
            row.lease_until = until
        return [row.seq for row in held]

    async def seen(self, message_id: str, target: str) -> Seen | None:
        return None

    async def dead(
        self, *, type: str | None = None, since: datetime | None = None, seq: int | None = None, limit: int = 100
    ) -> Sequence[Row]:
        found = (
            row.copy()
            for row in self._rows.values()
            if row.status in _DEAD
            and (type is None or row.type == type)
            and (since is None or (row.created_at is not None and row.created_at >= since))
            and (seq is None or row.seq == seq)
        )
        return [row for row, _ in zip(found, range(limit), strict=False)]

    async def redrive(self, seqs: Sequence[int]) -> int:
        dead = self._dead(seqs)
        for row in dead:
            if row.status is Status.PARKED and row.lane is not None:
                lane = self._lanes.setdefault(row.lane, [])
                lane.append(row.seq)
                lane.sort()
            row.status, row.attempts, row.due = Status.PENDING, 0, self._now()
        return len(dead)

    async def discard(self, seqs: Sequence[int]) -> int:
        dead = self._dead(seqs)
        for row in dead:
            self._settle(row, Status.PARKED, row.error)
            self._forget(row)
        return len(dead)

    async def stats(self) -> Stats:
        count = dict.fromkeys(Status, 0)
        now = self._now()
        oldest: float | None = None
        for row in self._rows.values():
            count[row.status] += 1
            if row.status is Status.PENDING and row.due is not None and row.due <= now:
                oldest = max(oldest or 0.0, (now - row.due).total_seconds())
        return Stats(
            pending=count[Status.PENDING],
            parked=count[Status.PARKED],
            held=count[Status.HELD],
            done=count[Status.DONE],
            oldest=oldest,
        )

    async def purge(self, *, older_than: float) -> int:
        limit = self._now() - timedelta(seconds=older_than)
        old = [row for row in self._rows.values() if row.done_at is not None and row.done_at < limit]
        for row in old:
            self._forget(row)
        return len(old)

    async def replay(self, *, since: datetime, channel: str) -> int:
        again = [
            row
            for row in self._rows.values()
            if row.done_at is not None and row.done_at >= since and row.target.partition(":")[2] == channel
        ]
        for row in again:
            row.status, row.done_at, row.attempts, row.due = Status.PENDING, None, 0, self._now()
            if row.lane is not None:
                lane = self._lanes.setdefault(row.lane, [])
                lane.append(row.seq)
                lane.sort()
        return len(again)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _lease(self, row: Row, owner: str, now: datetime, lease: float) -> None:
        row.lease_owner, row.lease_until = owner, now + timedelta(seconds=lease)
        row.attempts += 1

    def _held(self, seqs: Iterable[int], owner: str) -> list[Row]:
        rows = (self._rows.get(seq) for seq in dict.fromkeys(seqs))
        return [row for row in rows if row is not None and row.lease_owner == owner and row.status is Status.PENDING]

    def _dead(self, seqs: Iterable[int]) -> list[Row]:
        rows = (self._rows.get(seq) for seq in dict.fromkeys(seqs))
        return [row for row in rows if row is not None and row.status in _DEAD]

    def _settle(self, row: Row, status: Status, error: str | None) -> None:
        """Close a row, and take it out of its lane unless it is held."""
        row.status, row.error = status, error
        row.lease_owner = row.lease_until = None
        if row.lane is not None and status is not Status.HELD:
            lane = self._lanes.get(row.lane, [])
            if row.seq in lane:
                lane.remove(row.seq)
            if not lane:
                self._lanes.pop(row.lane, None)

    def _forget(self, row: Row) -> None:
        del self._rows[row.seq]
        del self._ids[row.id, row.target]

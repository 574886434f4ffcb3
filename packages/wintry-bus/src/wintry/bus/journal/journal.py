"""The journal: what must survive the process.

One `Row` is one delivery: one message to one target, which is a handler's id or `transport:channel`. Rows are appended
in the transaction that made their messages true, born leased to the process that inserted them: it delivers them at
once, and nobody else does before the lease ends. Every write-back names its owner and touches only rows that the owner
still holds; what it no longer holds it leaves alone, and the answer says so. Leases and due times are judged by the
store's clock.

A row with a `lane` waits for every earlier row of that lane that is neither done nor parked, on every process. Attempts
are counted when a lease is given, so that a crash counts too; `release` gives the attempt back.

`Journal` is what deliveries need, `JournalAdmin` what people and housekeeping need; a store implements both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Status(StrEnum):
    """Where a row stands."""

    PENDING = "pending"
    DONE = "done"
    PARKED = "parked"
    HELD = "held"


@dataclass(slots=True)
class Row:
    """One message to one target. What the store gives it stands below `due`; times are aware and in UTC.

    `due=None` means at once. `headers` hold what travels beside the body (`traceparent`, `time`).
    """

    id: str
    target: str
    type: str
    version: int
    body: bytes
    correlation_id: str
    parent_id: str | None = None
    lane: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    due: datetime | None = None
    seq: int = 0
    status: Status = Status.PENDING
    attempts: int = 0
    lease_owner: str | None = None
    lease_until: datetime | None = None
    error: str | None = None
    created_at: datetime | None = None
    done_at: datetime | None = None

    def copy(self) -> Row:
        """A row of its own with the same values."""
        return replace(self)


@dataclass(frozen=True, slots=True)
class Known:
    """What a process can deliver: handlers with the newest version of their message, and transports by name."""

    handlers: Mapping[str, int]
    transports: frozenset[str] = frozenset()

    def covers(self, row: Row) -> bool:
        transport, colon, _ = row.target.partition(":")
        if colon:
            return transport in self.transports
        return row.version <= self.handlers.get(row.target, 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """The inbox's record of a handled message: when, and the JSON of its result where one was kept."""

    at: datetime
    result: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """How many rows there are of each kind, and the age in seconds of the oldest one that is due and not done."""

    pending: int
    parked: int
    held: int
    done: int
    oldest: float | None


class Journal(Protocol):
    """The store of deliveries. `execution` is the open transaction of a unit; None is a transaction of its own."""

    async def append(
        self, rows: Sequence[Row], *, owner: str, lease: float, execution: object | None = None
    ) -> Sequence[Row]:
        """Store new rows and return them in order as stored.

        A row whose (id, target) is known is left as it is and not returned. A returned row is leased to `owner` for
        `lease` seconds, first attempt counted, if it is due and every earlier open row of its lane is leased to the
        same owner; otherwise it has no owner and waits for a claim.
        """
        ...

    async def claim(self, *, limit: int, owner: str, lease: float, known: Known) -> Sequence[Row]:
        """Lease up to `limit` rows that are pending, due, without a running lease, known, and first in their lane."""
        ...

    async def complete(self, seqs: Sequence[int], *, owner: str, execution: object | None = None) -> int:
        """Mark rows done and return how many of them the owner still held."""
        ...

    async def retry(self, seq: int, *, owner: str, error: str, delay: float) -> bool:
        """Give a row back, due in `delay` seconds. False: the owner no longer held it."""
        ...

    async def release(self, seqs: Sequence[int], *, owner: str) -> int:
        """Give rows back at once, as if they had not been leased: the attempt is not counted."""
        ...

    async def park(self, seq: int, *, owner: str, error: str, hold: bool = False) -> bool:
        """Make a row a dead letter. With `hold` the rows behind it in its lane wait until a person decides."""
        ...

    async def bury(self, rows: Sequence[Row]) -> None:
        """Store rows that are dead letters from the start, with their `attempts` and `error`.

        A row whose (id, target) is known is left as it is.
        """
        ...

    async def renew(self, seqs: Sequence[int], *, owner: str, lease: float) -> Sequence[int]:
        """Lengthen leases to `lease` seconds from now and return the rows that the owner still held."""
        ...

    async def seen(self, message_id: str, target: str) -> Seen | None:
        """The record that `target` has handled this message, if there is one."""
        ...


class JournalAdmin(Protocol):
    """What people and housekeeping do with a journal."""

    async def dead(
        self, *, type: str | None = None, since: datetime | None = None, seq: int | None = None, limit: int = 100
    ) -> Sequence[Row]:
        """Dead letters, parked and held, oldest first."""
        ...

    async def redrive(self, seqs: Sequence[int]) -> int:
        """Make dead letters pending and due, attempts counted anew; return how many there were."""
        ...

    async def discard(self, seqs: Sequence[int]) -> int:
        """Remove dead letters; return how many there were."""
        ...

    async def stats(self) -> Stats:
        """Counts and the age of the oldest row that waits."""
        ...

    async def purge(self, *, older_than: float) -> int:
        """Remove rows that were done more than `older_than` seconds ago, and return how many."""
        ...

    async def replay(self, *, since: datetime, channel: str) -> int:
        """Make sends to a channel pending again that were done at or after `since`; return how many."""
        ...


class JournalStore(Journal, JournalAdmin, Protocol):
    """A store that does both."""

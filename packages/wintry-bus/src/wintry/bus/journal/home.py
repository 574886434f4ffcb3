"""Where effects are: what a backend keeps for the deliveries that write to it.

Each backend of an application is a possible home of a delivery, and so each has two stores beside its aggregates:
`_wintry_inbox`, the record of what was handled with an effect here, and `_wintry_outgoing`, messages on their way to a
journal in another database. Both are written in the transaction of the effect. `Home` is what units, the relay and
housekeeping ask of them; `UnitJournal` is what they ask of the journal beyond its own protocol. Neither says which
kind of database it is: that is settled in `stores.py`, once for an application.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from wintry.repository.backend import Backend, Execution

from .journal import JournalStore, Row, Seen

SOON: Final = 0.005
"""Seconds that closing a row may wait for company, where the inbox has made its repetition harmless."""


class Home(Protocol):
    """The inbox and the outgoing messages of one backend; `execution` is a unit's transaction there."""

    @property
    def backend(self) -> Backend:
        """Where it is."""
        ...

    @property
    def remote(self) -> bool:
        """Whether a commit may get lost on its way, so that nobody knows what became of it."""
        ...

    async def prepare(self) -> None:
        """Make what is missing of tables, collections and indexes."""
        ...

    async def record(self, execution: Execution, message_id: str, target: str, result: bytes | None = None) -> bool:
        """Note a message in the transaction of its effect, with its result if known; False if it was noted before."""
        ...

    async def keep(self, message_id: str, target: str, result: bytes) -> None:
        """Add the result to the record of a message."""
        ...

    async def find(self, message_id: str, target: str) -> Seen | None:
        """The record of a message."""
        ...

    async def store(self, execution: Execution, rows: Sequence[Row]) -> None:
        """Write outgoing messages in the transaction of the effect."""
        ...

    async def waiting(self, *, grace: float, limit: int) -> Sequence[Row]:
        """The oldest outgoing messages that were stored more than `grace` seconds ago."""
        ...

    async def remove(self, rows: Sequence[Row]) -> None:
        """Outgoing messages have been moved."""
        ...

    def remove_soon(self, rows: Sequence[Row]) -> None:
        """The same a little later; a crash before that moves them once more, and stores them once."""
        ...

    async def take_duty(self, name: str, *, owner: str, seconds: float) -> bool:
        """Have a duty, which one process does for all, for `seconds`; False while somebody has it."""
        ...

    async def purge(self, *, older_than: float) -> int:
        """Forget what was handled more than `older_than` seconds ago; gives the number of records."""
        ...

    async def flush(self) -> None:
        """Wait until what was to be done later is done."""
        ...


class UnitJournal(JournalStore, Protocol):
    """A journal as units, the relay and housekeeping use it. `homes` are those of every backend, its own included."""

    @property
    def backend(self) -> Backend:
        """Where it is."""
        ...

    @property
    def homes(self) -> Mapping[Backend, Home]:
        """Every home that effects may have."""
        ...

    @property
    def closes_in_unit(self) -> bool:
        """Whether a unit closes the row that it delivers in its own transaction.

        Where transactions see a snapshot it cannot: a renewal of the lease meanwhile would be a conflict. There the
        unit records the message in the inbox, and the row is closed behind it.
        """
        ...

    async def committed(self, rows: Sequence[Row], stored: Sequence[Row], *, owner: str) -> Sequence[Row]:
        """The unit in whose transaction `rows` were appended has committed; gives `stored` as it is now.

        What another process is in the lane of, unseen by the transaction, is given back: it waits for its turn.
        """
        ...

    async def adopt(self, rows: Sequence[Row]) -> None:
        """Store rows that nobody holds: whoever claims first delivers them."""
        ...

    def complete_soon(self, seq: int, *, owner: str) -> None:
        """Mark a row done a little later; until then a crash has it delivered again, and the inbox stops that."""
        ...

    async def inherit(self) -> int:
        """End the leases of processes of this host that have ended, and give the number of rows."""
        ...


async def recorded(homes: Iterable[Home], message_id: str, target: str) -> Seen | None:
    """What the inboxes of `homes` say of a message."""
    for home in homes:
        found = await home.find(message_id, target)
        if found is not None:
            return found
    return None

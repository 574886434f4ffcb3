"""Messages of other databases on their way to the journal.

A unit whose effect is in another database than the journal's writes its messages into `_wintry_outgoing` there, in the
transaction of the effect. `move` brings them over right after that commit: into the journal first, where a message
that is there already is left alone, and out of `_wintry_outgoing` after it, so that a crash between the two moves them
twice and stores them once. What a crash has left is moved by `recover`, at the start of any process and from time to
time while it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from wintry.repository.backend import Backend, Execution

from ..failpoints import reach
from .home import Home, UnitJournal
from .journal import Row

logger = logging.getLogger("wintry.bus")

GRACE: Final = 2.0
"""Seconds that messages are left to the process that stored them."""
_AT_ONCE: Final = 100


class Relay:
    """Brings the messages of one other backend's home to the journal."""

    def __init__(self, home: Home, journal: UnitJournal) -> None:
        self.home = home
        self._journal = journal

    @property
    def backend(self) -> Backend:
        """Where they come from."""
        return self.home.backend

    async def store(self, execution: Execution, rows: Sequence[Row]) -> None:
        """Write messages in the transaction of the effect."""
        await self.home.store(execution, rows)

    async def move(self, rows: Sequence[Row], *, owner: str, lease: float) -> Sequence[Row]:
        """Bring messages over that were stored just now; gives the rows of the journal, leased to `owner`."""
        stored = await self._journal.append(rows, owner=owner, lease=lease)
        reach("moved")
        self.home.remove_soon(rows)
        return stored

    async def recover(self, *, grace: float = GRACE) -> int:
        """Bring over what was stored more than `grace` seconds ago; gives the number of messages."""
        total = 0
        while True:
            rows = await self.home.waiting(grace=grace, limit=_AT_ONCE)
            if not rows:
                return total
            await self._journal.adopt(rows)
            reach("moved")
            await self.home.remove(rows)
            logger.info("%d messages of backend %r were moved to the journal", len(rows), self.backend.name)
            total += len(rows)

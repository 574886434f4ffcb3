"""Rows of delivered messages that are closed together.

Closing a row is one statement of a few bytes, and every delivery ends with one. So all rows of an owner that are handed
in until it is their turn in the group commit are one UPDATE. Whoever needs to know waits for it; who does not hands the
row in with `soon`, and it goes with the next ones, a few milliseconds later at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from wintry.repository.sql import SqlExecution

from .group_commit import GroupCommit
from .home import SOON
from .leases import Leases
from .rows import AT_ONCE, parts

logger = logging.getLogger("wintry.bus")

DONE: Final = "status = 'done', done_at = {now}, lease_owner = NULL, lease_until = NULL"


class _Batch:
    """Rows of one owner, until the statement that closes them is made."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.seqs: list[int] = []
        self.watched = True  # by everybody who has handed in one of them


class Closing:
    """The rows of one journal that are about to be closed."""

    def __init__(self, leases: Leases, commits: GroupCommit) -> None:
        self._leases = leases
        self._commits = commits
        self._gathering: dict[str, tuple[_Batch, asyncio.Future[set[int]]]] = {}  # by owner, what further rows join
        self._unclosed: set[asyncio.Future[set[int]]] = set()

    def soon(self, seq: int, *, owner: str) -> None:
        """Close a row that `owner` holds, in `SOON` seconds at the latest; a failure is logged."""
        batch, _ = self._join([seq], owner)
        batch.watched = False

    async def now(self, seqs: Sequence[int], *, owner: str) -> int:
        """Close rows, and give how many of them `owner` held. Raises the errors of the store."""
        wanted = [*dict.fromkeys(seqs)]
        joined = [(some, self._join(some, owner)[1]) for some in parts(wanted)]
        self._commits.hurry()
        # Others wait for the same futures, which the cancellation of one of them must not end.
        return sum([len((await asyncio.shield(future)).intersection(some)) for some, future in joined])

    async def wait(self) -> None:
        """Until all that were handed in are closed, or have failed to be."""
        if self._unclosed:
            await asyncio.wait(self._unclosed)

    def _join(self, seqs: Sequence[int], owner: str) -> tuple[_Batch, asyncio.Future[set[int]]]:
        found = self._gathering.get(owner)
        if found is None or len(found[0].seqs) + len(seqs) > AT_ONCE:
            batch = _Batch(owner)
            future = self._commits.enter(partial(self._close, batch), SOON)
            self._unclosed.add(future)
            future.add_done_callback(partial(self._ended, batch))
            found = self._gathering[owner] = batch, future
        found[0].seqs += seqs
        return found

    async def _close(self, batch: _Batch, execution: SqlExecution) -> set[int]:
        self._leave(batch)
        return await self._leases.change(execution, DONE, batch.seqs, {"owner": batch.owner})

    def _leave(self, batch: _Batch) -> None:
        """Nobody may join it any more."""
        gathering = self._gathering.get(batch.owner)
        if gathering is not None and gathering[0] is batch:
            del self._gathering[batch.owner]

    def _ended(self, batch: _Batch, future: asyncio.Future[set[int]]) -> None:
        """They are closed, or there was not even a transaction: then they are when they are delivered once more."""
        self._unclosed.discard(future)
        self._leave(batch)
        error = None if future.cancelled() else future.exception()
        if error is not None and not batch.watched:
            logger.error("delivered rows could not be closed; they are delivered once more", exc_info=error)

"""Deliveries that no commit of this process has handed in: what is due, what its lane has let go, what others left.

A claim leases as many rows as there is room for; one is under way at a time, and whoever wants one meanwhile gets
another behind it. Where there is a journal two loops run: one claims from time to time, since other processes fall
silent without a word, and one renews the leases of all that this process holds.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import TYPE_CHECKING

from .call import Call
from .errors import Undecodable, reason_of, storable
from .failpoints import reach
from .journal.journal import Row

if TYPE_CHECKING:
    from .dispatch import Dispatcher
    from .runtime import Runtime

logger = logging.getLogger("wintry.bus")

AT_ONCE = 100
"""Rows of one claim."""

ENDING = 1.0
"""Seconds that a claim under way is given to end."""


class Claims:
    """What one runtime claims for its dispatcher."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher, context: Context) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._context = context
        self._claiming: asyncio.Task[None] | None = None
        self._again = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._polling: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._quiet = False  # claims nothing
        self.starved = False  # the last claim found no room
        self.count = 0  # of rows so far

    def later(self, delay: float) -> None:
        """Claim in `delay` seconds, if not before."""
        if self._quiet:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(delay, 0.0)
        if self._timer is None or self._timer_at > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(when, self._ring, context=self._context)
            self._timer_at = when  # a loop of another library need not tell what its handles are for

    def _ring(self) -> None:
        self._timer = None
        self.soon()

    def soon(self) -> None:
        """Claim now; if a claim is under way, once more after it."""
        self.starved = False
        if self._quiet:
            return
        if self._claiming is not None and not self._claiming.done():
            self._again = True
            return
        self._claiming = self._dispatcher.spawn(self._claim())

    async def _claim(self) -> None:
        runtime = self._runtime
        self._again = True
        while self._again and not self._quiet:
            self._again = False
            room = self._dispatcher.room
            if room <= 0:
                self.starved = True
                return
            if runtime.journal is None and (held := self._dispatcher.held):
                # There is no loop that renews what waits or runs here.
                await runtime.memory.renew(held, owner=runtime.owner, lease=runtime.limits.lease)
            try:
                rows = await runtime.store.claim(
                    limit=min(room, AT_ONCE), owner=runtime.owner, lease=runtime.limits.lease, known=runtime.known
                )
            except Exception:
                logger.exception("claiming deliveries failed; it is tried again")
                self.later(1.0)
                return
            self.count += len(rows)
            for row in rows:
                await self._take(row)
            self._again = self._again or bool(rows)
        later = runtime.memory.next_due() if runtime.journal is None else None
        if later is not None:
            self.later(later)

    async def _take(self, row: Row) -> None:
        reach("claimed")
        runtime = self._runtime
        route = runtime.route(row.target)
        try:
            call = Call.of_row(route, row)
        except Exception as error:
            logger.error("%s: row %d cannot be read and is parked", row.target, row.seq, exc_info=error)
            reason = storable(str(error)) if isinstance(error, Undecodable) else reason_of(error)
            try:
                await runtime.store.park(row.seq, owner=runtime.owner, error=reason)
            except Exception:
                logger.exception("row %d could not be parked; it is tried again when its lease ends", row.seq)
            return
        self._dispatcher.take(call, row)

    # the loops of a process with a journal

    def start(self) -> None:
        """Recover what other processes left, and keep the leases of what is held here."""
        if not self._loops:
            loop = asyncio.get_running_loop()
            self._renewing = loop.create_task(self._renew(), context=self._context.copy())
            self._polling = loop.create_task(self._poll(), context=self._context.copy())

    @property
    def _loops(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._renewing, self._polling) if task is not None]

    async def _poll(self) -> None:
        limits = self._runtime.limits
        pause = limits.poll_min
        while True:
            before = self.count
            self.soon()
            await asyncio.sleep(pause)
            pause = limits.poll_min if self.count > before else min(2 * pause, limits.poll_max)

    async def _renew(self) -> None:
        runtime = self._runtime
        while True:
            await asyncio.sleep(runtime.limits.lease / 3)
            asked = self._dispatcher.held
            if not asked:
                continue
            try:
                kept = await runtime.store.renew(asked, owner=runtime.owner, lease=runtime.limits.lease)
            except Exception:
                logger.exception("renewing %d leases failed; it is tried again", len(asked))
                continue
            for seq in set(asked).difference(kept):
                lost = self._dispatcher.lost(seq)
                if lost is not None:
                    logger.warning("%s: the lease of row %d was lost", lost.route.target, seq)

    @property
    def recovering(self) -> bool:
        """Whether this process delivers what is in the journal; without one it delivers what is in memory."""
        return self._runtime.journal is None or bool(self._loops)

    @property
    def ticking(self) -> bool:
        """Whether the loops that should run do."""
        return not any(task.done() for task in self._loops)

    # going away

    async def quiesce(self) -> None:
        """Claim nothing more. What this process holds, and what it commits from here on, is still delivered."""
        self._silence()
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        if self._claiming is not None and not self._claiming.done():
            await asyncio.wait([self._claiming], timeout=ENDING)

    async def stop(self) -> None:
        """Claim nothing more, and let the leases run out."""
        self._silence()
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    def _silence(self) -> None:
        self._quiet = True
        if self._timer is not None:
            self._timer.cancel()

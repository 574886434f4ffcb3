"""Which call runs next, and where.

What a commit has made ready is delivered in three ways. The outermost `handle` drains its chain itself, first in,
first out and one attempt each, until its budget is used up. What is left, busy, or meant for the background goes to
workers, of which a bounded number runs; a caller that finds their queue full waits. What is to happen later is a row,
and comes back through `claims`: at its due time, when its lane is free, or when another process has died over it.

`held` are the rows that this process has leased; draining gives back those that have not begun. A call that is not the
head of its lane is left in the lane, and whoever settles the head hands the next one on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from contextvars import copy_context
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from .call import Call, running
from .claims import Claims
from .delivery import deliver
from .journal.journal import Row
from .lanes import Lanes

if TYPE_CHECKING:
    from .runtime import Runtime

logger = logging.getLogger("wintry.bus")

ENDING = 1.0
"""Seconds that a cancelled handler is given to end."""


class Dispatcher:
    """The deliveries of one runtime that are on their way in this process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._context = copy_context()
        self._context.run(running.set, None)
        self._lanes = Lanes()
        self._queue: deque[Call] = deque()
        self._waiting = 0  # calls that wait in lanes for a worker
        self._workers: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()
        self._room: deque[asyncio.Future[None]] = deque()
        self._held: dict[int, Call] = {}
        self._watched: set[str] = set()  # lanes with rows in the journal that this process does not hold
        self._troubled: set[str] = set()  # lanes whose head this process gave back
        self._returned: list[int] = []  # rows to be released
        self._closing = False
        self.claims = Claims(runtime, self, self._context)

    # what commits hand in

    def accept(self, staged: Sequence[Call], stored: Sequence[Row] | None) -> list[Call]:
        """Take over calls whose commit is known, and return those that this process may deliver now."""
        if stored is None:
            for call in staged:
                if call.lane is not None or call.due is not None:
                    return [call for call in staged if self._accept_unstored(call)]
            return [*staged]
        rows = {(row.id, row.target): row for row in stored}
        ready = []
        for call in staged:
            row = rows.get((call.id, call.route.target))
            if row is not None and self._accept_row(call, row):
                ready.append(call)
        if self._returned:
            self.spawn(self.release_returned())
        return ready

    def _accept_unstored(self, call: Call) -> bool:
        """Without a journal: at once, unless it is for later or its lane has something that waits."""
        later = call.due is not None and call.due > datetime.now(UTC)
        if later or (call.lane is not None and self._runtime.memory.waits(call.lane)):
            self._write_down(call.lane)
            return self.keep(call) is not None and call.row is not None and self._accept_row(call, call.row)
        if call.lane is not None:
            self._lanes.join(call)
        return True

    def _write_down(self, lane: str | None) -> None:
        """Make the rows of what is in a lane, before that of what comes behind it: rows have the order of commits."""
        for call in self._lanes.line(lane):
            if self.keep(call) is not None and call.row is not None:
                self._held[call.row.seq] = call

    def _accept_row(self, call: Call, row: Row) -> bool:
        if row.lease_owner != self._runtime.owner:
            call.settled = True
            if row.lane is not None:
                self._watched.add(row.lane)
            if row.due is not None:
                self.claims.later((row.due - datetime.now(UTC)).total_seconds())
            return False
        call.take(row)
        self._held[row.seq] = call
        if call.lane is not None:
            if call.lane in self._troubled:
                self._hand_back(call)
                return False
            self._lanes.join(call)
        return True

    # delivering

    async def drain(self, calls: Iterable[Call]) -> None:
        """Deliver a chain here, as far as the budget goes, and leave the rest to the workers."""
        queue = deque(calls)
        runtime = self._runtime
        budget = runtime.limits.inline_budget
        until = monotonic() + budget
        over = budget <= 0.0
        try:
            while queue:
                call = queue.popleft()
                if call.settled:
                    continue
                if over or call.route.background or (call.lane is not None and not self._lanes.is_head(call)):
                    self.submit(call)
                    await self._room_for_more()
                else:
                    try:
                        await deliver(runtime, call)
                    finally:
                        if call.ready:
                            queue.extend(call.take_ready())
                over = over or (bool(queue) and monotonic() > until)
        finally:
            if queue:
                self.submit_all(queue)

    def submit_all(self, calls: Iterable[Call]) -> None:
        """Leave calls to the workers."""
        for call in calls:
            if not call.settled:
                self.submit(call)

    def submit(self, call: Call) -> None:
        """Leave a call to the workers, in its turn."""
        if self._closing:
            return
        if self._lanes.is_head(call):
            self._queue.append(call)
            self._start_workers()
        elif not call.waiting:
            call.waiting = True
            self._waiting += 1

    async def _room_for_more(self) -> None:
        if asyncio.current_task() in self._workers:
            return  # a listener that was redriven has handled a command: workers that wait for workers wait for ever
        try:
            while self._load > self._runtime.limits.backlog and not self._closing:
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._room.append(future)
                await future
        finally:
            self._let_in()  # the next one, also where this one was cancelled when its turn had come

    def _let_in(self) -> None:
        """Wake the first of those who wait for room, if there is some; it wakes the next."""
        while self._room and self._load <= self._runtime.limits.backlog:
            future = self._room.popleft()
            if not future.done():
                future.set_result(None)
                return

    @property
    def _load(self) -> int:
        return len(self._queue) + self._waiting

    def _start_workers(self) -> None:
        while self._queue and not self._closing and len(self._workers) < self._runtime.limits.concurrency:
            call = self._queue.popleft()
            if not call.settled:
                self._spawn(self._work(call), self._workers)

    async def _work(self, call: Call) -> None:
        try:
            await deliver(self._runtime, call)
        finally:
            self.submit_all(call.take_ready())

    def _spawn(self, work: Coroutine[Any, Any, None], group: set[asyncio.Task[None]]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        group.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._others.discard(task)
        if task in self._workers:
            self._workers.discard(task)
            self._start_workers()
            self._let_in()
            if self.claims.starved and self.room > 0:
                self.claims.soon()

    # settling

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what settles a call to its end, even if the caller is cancelled meanwhile."""
        await asyncio.shield(self.spawn(work))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do it beside the deliveries; `close` waits for it."""
        return self._spawn(work, self._others)

    def settled(self, call: Call) -> None:
        """A call is done or parked: the next one of its lane may run."""
        if call.row is not None:
            self._held.pop(call.row.seq, None)
        lane = call.lane
        if lane is None or not self._lanes.is_head(call):
            return
        following = self._lanes.leave(call)
        if following is None:
            if lane in self._watched or (self._runtime.journal is None and self._runtime.memory.waits(lane)):
                self._watched.discard(lane)
                self.claims.soon()
        elif following.waiting:
            following.waiting = False
            self._waiting -= 1
            self.submit(following)

    def keep(self, call: Call) -> int | None:
        """The row of a call; made now where there is no journal. None: its message cannot be written down."""
        if call.row is None:
            runtime = self._runtime
            try:
                stored = runtime.memory.store([call.make_row()], owner=runtime.owner, lease=runtime.limits.lease)
            except Exception:
                logger.exception("%s: %r cannot be kept, because it cannot be written down", call.route.target, call)
                return None
            if not stored:
                return None
            call.row = stored[0]
        return call.row.seq

    def step_back(self, call: Call) -> None:
        """The head of a lane comes back later: so does what waits behind it. `release_returned` follows."""
        if call.row is not None:
            self._held.pop(call.row.seq, None)
        if call.lane is None or not self._lanes.is_head(call):
            return
        self._watched.add(call.lane)
        if self._runtime.journal is not None:
            self._troubled.add(call.lane)
        for waiting in self._lanes.dissolve(call):
            self._hand_back(waiting)
        self._let_in()

    def _hand_back(self, call: Call) -> None:
        if self.keep(call) is not None and call.row is not None:
            self._held.pop(call.row.seq, None)
            self._returned.append(call.row.seq)
        if call.waiting:
            call.waiting = False
            self._waiting -= 1
        call.settled = True

    async def release_returned(self) -> None:
        """Give rows back that this process will not deliver in their present order."""
        seqs, self._returned = self._returned, []
        if seqs:
            try:
                await self._runtime.store.release(seqs, owner=self._runtime.owner)
            except Exception:
                logger.exception("%d rows could not be released; they are free when their leases end", len(seqs))
            self.claims.soon()

    def give_back(self, call: Call) -> None:
        """An attempt was cancelled: a worker repeats it, unless this process is going away."""
        if not self._closing:
            self.submit(call)

    # rows that were claimed

    @property
    def room(self) -> int:
        """How many calls more may wait here; none where it is 0 or less."""
        return self._runtime.limits.backlog - self._load

    @property
    def held(self) -> list[int]:
        """The rows that this process has leased."""
        return [*self._held]

    def take(self, call: Call, row: Row) -> None:
        """Deliver a row that this process has leased just now."""
        self._held[row.seq] = call
        if row.lane is not None:
            self._troubled.discard(row.lane)
            self._watched.add(row.lane)
            self._lanes.join(call)
        self.submit(call)

    def lost(self, seq: int) -> Call | None:
        """The call of a row that belongs to another process now, if it was known here."""
        return self._held.pop(seq, None)

    @property
    def busy(self) -> int:
        """Calls that run, wait for a worker or wait in a lane; settling and claiming count while under way."""
        return self._load + len(self._workers) + len(self._others)

    # going away

    async def close(self, deadline: float) -> None:
        """Finish what runs within `deadline` seconds, and give back what has not begun.

        Without a journal there is nobody to give back to: then what waits is delivered too, as far as time allows.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline
        if self._runtime.journal is not None:
            await self._stop_taking()
            self._queue.clear()
        while tasks := [*self._workers, *self._others]:
            left = until - loop.time()
            if left <= 0:
                break
            await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        await self._stop_taking()
        rest = [*self._workers, *self._others]
        await end(rest)
        if self._load and self._runtime.journal is None:
            logger.warning("%d deliveries are lost: no journal is configured", self._load + len(rest))
        if self._held and self._runtime.journal is not None:
            try:
                await self._runtime.store.release([*self._held], owner=self._runtime.owner)
            except Exception:
                logger.exception("leases could not be released; they end by themselves")
        self._held.clear()

    async def _stop_taking(self) -> None:
        self._closing = True
        for future in self._room:
            if not future.done():
                future.set_result(None)
        await self.claims.stop()


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for them, but not for ever for one that swallows it."""
    for task in tasks:
        task.cancel()
    if tasks:
        _, stubborn = await asyncio.wait(tasks, timeout=ENDING)
        if stubborn:
            logger.error("%d handlers do not end although they are cancelled", len(stubborn))

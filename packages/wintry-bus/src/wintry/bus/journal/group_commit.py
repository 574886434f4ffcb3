"""Small transactions of many callers, committed together.

A database makes one transaction durable at a time, and that is what most of a small one costs. So whoever has a few
statements to commit hands them in here: while one transaction is under way the next ones gather, and all that have
gathered by the time it is their turn share one. If one of them fails, none is stored, and each is done again in a
transaction of its own, so that the failure is its own alone. One that another process was in the way of is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from wintry.repository.errors import Conflict
from wintry.repository.sql import SqlBackend, SqlExecution

from .dialects import dialect_of

T = TypeVar("T")
Work = Callable[[SqlExecution], Awaitable[Any]]

logger = logging.getLogger("wintry.bus")

_ATTEMPTS: Final = 6
_PAUSE: Final = 0.02
"""Seconds: the longest pause before the second attempt at what met a conflict; each further one is longer by it."""


class GroupCommit:
    """The small transactions on one backend."""

    def __init__(self, backend: SqlBackend) -> None:
        self.backend = backend
        self._isolation = dialect_of(backend).isolation
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, work: Callable[[SqlExecution], Awaitable[T]]) -> T:
        """Await `work` in a transaction and give its result when that is committed. It may be run twice.

        Raises what `work` or the commit raises; then nothing of it is stored.
        """
        future = self._join(work)
        self.hurry()
        result: T = await future
        return result

    def later(self, work: Work, delay: float) -> None:
        """Run `work` with whatever is committed next, after `delay` seconds at the latest; a failure is logged."""
        self.enter(work, delay).add_done_callback(_log_failure)

    def enter(self, work: Callable[[SqlExecution], Awaitable[T]], delay: float) -> asyncio.Future[T]:
        """The same; whoever has the future sees the result, or the failure."""
        future = self._join(work)
        if self._task is None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self.hurry)
        return future

    async def flush(self) -> None:
        """Wait until everything that was handed in is committed or has failed."""
        if self._waiting:
            self.hurry()
        while self._task is not None:
            await asyncio.wait([self._task])

    def _join(self, work: Work) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        return future

    def hurry(self) -> None:
        """Do not wait for more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._together()
        finally:
            self._task = None

    async def _together(self) -> None:
        """One transaction for all that wait when it begins."""
        execution = self.backend.execution(isolation=self._isolation)
        taken: list[tuple[Work, asyncio.Future[Any]]] = []
        results: list[Any] = []
        try:
            await execution.begin()
            taken, self._waiting = self._waiting, taken
            results = [await work(execution) for work, _ in taken]
            await execution.commit()
        except Exception as error:  # noqa: BLE001 - it goes to whom it belongs
            await self._apart(execution, taken, error)
        else:
            for (_, future), result in zip(taken, results, strict=True):
                if not future.done():
                    future.set_result(result)
        finally:
            await _close(execution)

    async def _apart(
        self, execution: SqlExecution, taken: list[tuple[Work, asyncio.Future[Any]]], error: Exception
    ) -> None:
        """What shared a transaction that failed."""
        if not taken:
            taken, self._waiting = self._waiting, []
            _fail(taken, error)
        elif len(taken) == 1 and not isinstance(error, Conflict):
            _fail(taken, error)
        else:
            await _close(execution)  # what it has locked would be in their way
            for one in taken:
                await self._alone(*one)

    async def _alone(self, work: Work, future: asyncio.Future[Any]) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            execution = self.backend.execution(isolation=self._isolation)
            try:
                result = await work(execution)
                await execution.commit()
            except Exception as error:  # noqa: BLE001 - it goes to whom it belongs
                if not isinstance(error, Conflict) or attempt == _ATTEMPTS:
                    return _fail([(work, future)], error)
            else:
                if not future.done():
                    future.set_result(result)
                return None
            finally:
                await _close(execution)
            await asyncio.sleep(random.uniform(0, attempt * _PAUSE))


async def read(backend: SqlBackend, work: Callable[[SqlExecution], Awaitable[T]]) -> T:
    """Run one query by itself, beside whoever writes."""
    execution = backend.execution(read_only=True, isolation="autocommit")
    try:
        return await work(execution)
    finally:
        await execution.close()


async def _close(execution: SqlExecution) -> None:
    """End a transaction whose outcome is known: what goes wrong with that is nobody's failure."""
    try:
        await execution.close()
    except Exception:
        logger.exception("a transaction of the journal did not end cleanly")


def _fail(waiting: list[tuple[Work, asyncio.Future[Any]]], error: Exception) -> None:
    for _, future in waiting:
        if not future.done():
            future.set_exception(error)


def _log_failure(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("what was to be stored in the journal later was not", exc_info=error)

"""Work of a task that its cancellation does not reach.

`asyncio.shield` moves the work into a task of its own. A finaliser cannot be moved: what it leaves behind its `yield`
(a token of a context variable, a task group, a cancel scope) wants the task and the context that it was entered in.
So a `Shield` drives the coroutine inside the running task, and stands between the two as the task itself stands
between a coroutine and the loop: the task waits for a gate, the gate for what the coroutine waits for. A cancellation
of the task arrives at the gate, and is kept there until the work is done.

What the work asks for itself, as by an `asyncio.timeout` inside of it, does reach it: callbacks and tasks carry the
context that they were made in, and so the `Work` that they belong to. One thing else passes: a cancel scope of anyio
that is over repeats itself until it is obeyed, and anyio's own checkpoints wait for that with bare yields; there the
shield is anyio's, `CancelScope(shield=True)`.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from contextvars import ContextVar, Token
from typing import Any, TypeVar

T = TypeVar("T")
_ANYIO = ("Cancelled via cancel scope ", "Cancelled by cancel scope ")  # how its cancellations begin


class Work:
    """What belongs together: the factories of one scope, what they started, and their ends."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False

    def begin(self) -> Token[tuple[Work, ...]]:
        """From here to `current_work.reset` what runs belongs to it."""
        return current_work.set((*(each for each in current_work.get() if not each.ended), self))


current_work: ContextVar[tuple[Work, ...]] = ContextVar("wintry.ioc.work", default=())


class Shield:
    """Runs the end of some work in the running task."""

    __slots__ = ("_before", "_kept", "_task", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self._kept: asyncio.CancelledError | None = None
        self._task = asyncio.current_task()
        self._before = 0 if self._task is None else self._task.cancelling()

    @property
    def cancelled(self) -> asyncio.CancelledError | None:
        """The cancellation that came meanwhile, unless whoever asked for it has taken it back."""
        if self._task is not None and self._task.cancelling() <= self._before:
            return None
        return self._kept

    async def run(self, end: Coroutine[Any, Any, T]) -> T:
        """The result of the coroutine."""
        if self._before:  # one that was asked for already may strike at the first await
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                self._kept, self._before = error, self._before - 1
        token = self.work.begin()
        try:
            return await _driven(end, self)
        finally:
            current_work.reset(token)
            self.work.ended = True

    def keep(self, message: Any) -> None:
        """Keep a cancellation for later."""
        if self._kept is None:
            self._kept = asyncio.CancelledError() if message is None else asyncio.CancelledError(message)


class _Gate(asyncio.Future[None]):
    """What the task waits for while the coroutine waits for `awaited`; None is the next turn of the loop."""

    def __init__(self, awaited: asyncio.Future[Any] | None, shield: Shield) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._awaited = awaited
        self._shield = shield
        if awaited is None:
            self.get_loop().call_soon(self._open)
        else:
            awaited._asyncio_future_blocking = False  # as a task says that it has taken what was yielded to it
            awaited.add_done_callback(self._open)

    def _open(self, _: object = None) -> None:
        if not self.done():
            self.set_result(None)

    def cancel(self, msg: Any | None = None) -> bool:
        """Called by `Task.cancel`; False lets the task be cancelled at its next step."""
        awaited = self._awaited
        repeated = awaited is None and isinstance(msg, str) and msg.startswith(_ANYIO)
        if repeated or self._shield.work in current_work.get():
            return super().cancel(msg) if awaited is None else awaited.cancel(msg)
        self._shield.keep(msg)
        return True


@types.coroutine
def _driven(end: Coroutine[Any, Any, T], shield: Shield) -> Generator[Any, Any, T]:
    """Step the coroutine as a task would, with a gate before each thing that it waits for."""
    error: BaseException | None = None
    while True:
        try:
            awaited = end.send(None) if error is None else end.throw(error)
        except StopIteration as finished:
            result: T = finished.value
            return result
        error = None
        try:
            yield from _Gate(awaited, shield)
        except BaseException as thrown:  # noqa: BLE001 - whatever it is, it is the coroutine's
            error = thrown

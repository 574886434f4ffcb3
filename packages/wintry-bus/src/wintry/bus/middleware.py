"""What runs around a handler: timeouts, and the application's own middleware.

A middleware is `async def middleware(envelope, call_next)` that returns `await call_next(envelope)`. The chain of a
handler is built once, innermost first; without middleware the handler is called directly. Middleware runs around each
attempt, inside the retry layer, so that it sees every attempt.

Timeouts of equal length end in the order in which they began. `Deadlines` therefore keeps one ordered table per length
with a single timer for the oldest entry, and a handler that ends in time costs an insertion and a removal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from .messages import Envelope

CallNext = Callable[[Envelope], Awaitable[Any]]
Middleware = Callable[[Envelope, CallNext], Awaitable[Any]]
Invoke = Callable[[Any, Any], Awaitable[Any]]  # (queue object, message)
Chain = Callable[[Any, Envelope], Awaitable[Any]]  # (queue object, envelope)


def compile_chain(invoke: Invoke, middleware: Sequence[Middleware]) -> Chain | None:
    """The handler with its middleware around it, outermost first in the sequence; None where there is none."""
    if not middleware:
        return None

    def innermost(queue: Any, envelope: Envelope) -> Awaitable[Any]:
        return invoke(queue, envelope.message)

    chain: Chain = innermost
    for layer in reversed(middleware):
        chain = _around(layer, chain)
    return chain


def _around(layer: Middleware, inner: Chain) -> Chain:
    def run(queue: Any, envelope: Envelope) -> Awaitable[Any]:
        return layer(envelope, partial(inner, queue))

    return run


def in_thread(function: Callable[[Any, Any], Any]) -> Invoke:
    """A handler that is not a coroutine function: it runs in a thread, in the caller's context."""

    def invoke(queue: Any, message: Any) -> Awaitable[Any]:
        return asyncio.to_thread(function, queue, message)

    return invoke


class Deadline:
    """One running attempt: its task and when it ends, by the clock of its loop."""

    __slots__ = ("expired", "task", "when")

    def __init__(self, task: asyncio.Task[Any], when: float) -> None:
        self.task = task
        self.when = when
        self.expired = False


class Deadlines:
    """The running attempts with one length of timeout, in seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[Deadline, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Deadline:
        """Cancel the calling task when the time is up, unless `end` is called before."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        when = loop.time() + self._seconds
        deadline = Deadline(task, when)
        if loop is not self._loop:
            self._loop, self._timer = loop, None
            self._running.clear()
        self._running[deadline] = None
        if self._timer is None:
            self._timer = loop.call_at(when, self._expire)
        return deadline

    def end(self, deadline: Deadline) -> None:
        """The attempt is over."""
        self._running.pop(deadline, None)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        while self._running:
            deadline = next(iter(self._running))
            if deadline.when > now:
                self._timer = loop.call_at(deadline.when, self._expire)
                return
            del self._running[deadline]
            deadline.expired = True
            deadline.task.cancel()

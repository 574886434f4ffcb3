"""What runs around a handler: timeouts, and the application's own middleware.

A middleware is `async def middleware(envelope, call_next)` that returns `await call_next(envelope)`. The chain of a
handler is built once, innermost first; without middleware the handler is called directly. Middleware runs around each
attempt, inside the retry layer, so that it sees every attempt.

Timeouts must cost next to nothing for the handlers that end in time, which are nearly all: see `Deadlines`.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task, get_running_loop
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

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


class Timed(Protocol):
    """One running attempt, as far as its timeout goes."""

    task: asyncio.Task[Any] | None
    expired: bool
    running_in: set[Any]


class Deadlines:
    """The attempts with one length of timeout, in seconds, that wait for something.

    Attempts are kept in generations, each an eighth of the timeout long. One that is still there when its generation
    has become too old is cancelled, up to an eighth late; one that ends in time has cost two operations on a set. The
    timer that ages the generations runs only while there are attempts.
    """

    _GENERATIONS = 8

    def __init__(self, seconds: float) -> None:
        self._step = seconds / self._GENERATIONS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._young: set[Timed] = set()
        self._older: deque[set[Timed]] = deque()

    def begin(self, attempt: Timed) -> None:
        """Cancel the calling task when the time is up, unless the attempt has left its `running_in` by then."""
        loop = get_running_loop()
        if loop is not self._loop:
            self._begin_in(loop)
        attempt.expired = False
        attempt.task = current_task(loop)
        attempt.running_in = young = self._young
        young.add(attempt)

    def _begin_in(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._young = set()
        self._older = deque((set() for _ in range(self._GENERATIONS)), maxlen=self._GENERATIONS)
        loop.call_later(self._step, self._age)

    def _age(self) -> None:
        loop = get_running_loop()
        if loop is not self._loop:
            return
        for attempt in self._older[0]:
            attempt.expired = True
            if attempt.task is not None:
                attempt.task.cancel()
        self._older.append(self._young)
        self._young = set()
        if any(self._older):
            loop.call_later(self._step, self._age)
        else:
            self._loop = None

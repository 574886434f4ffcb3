"""A mediator written by hand: a dictionary, a context variable, an await.

It keeps what a careful author would: each run of a handler has a list of its own for what it registers, so that calls at
once do not mix, and a failing event handler is logged and stops nobody. It has no ids, no retries, no timeouts, no
order by key and no dead letters.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

logger = logging.getLogger(__name__)
pending: ContextVar[list[Any]] = ContextVar("pending")


class Mediator:
    """Dispatches by type."""

    def __init__(
        self,
        commands: dict[type, Callable[[Any], Awaitable[Any]]],
        events: dict[type, list[Callable[[Any], Awaitable[Any]]]],
    ) -> None:
        self._commands = commands
        self._events = events

    async def handle(self, command: Any) -> Any:
        registered: list[Any] = []
        token = pending.set(registered)
        try:
            result = await self._commands[type(command)](command)
        finally:
            pending.reset(token)
        if registered:
            await self._drain(registered)
        return result

    async def _drain(self, registered: list[Any]) -> None:
        queue = deque(registered)
        while queue:
            event = queue.popleft()
            for handler in self._events[type(event)]:
                registered = []
                token = pending.set(registered)
                try:
                    await handler(event)
                except Exception:
                    logger.exception("a handler of %r failed", event)
                else:
                    queue.extend(registered)
                finally:
                    pending.reset(token)

    def register(self, event: Any) -> None:
        pending.get().append(event)

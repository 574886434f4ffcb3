"""Routes: where a message goes, compiled once for a runtime.

A handler's table says what handles what; a `Route` adds what running it takes in one runtime: its chain of middleware,
its deadlines, how its messages are written and read. `Routes` are those of one queue class. Channels and listeners are
routes too (`publisher.py`, `transports/runner.py`), so that whatever is delivered goes one way through the bus.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .attempt import ENDED, compile_attempt, resumed
from .call import Outgoing, encode_message
from .contracts import decode
from .errors import HandlerTimeout
from .handlers import Handler, HandlerTable
from .journal.journal import Row
from .messages import Message
from .middleware import Chain, Deadlines, Invoke, compile_chain, in_thread
from .results import Results
from .retry import Retry

if TYPE_CHECKING:
    from .call import Call
    from .runtime import Runtime


class Route:
    """What running one handler takes."""

    background = False
    entry = False  # what it delivers came from outside
    version: int | None = None  # the newest version of the bodies that it reads; None: it reads every one
    unit = True  # whether a unit of work surrounds it
    hold = False
    instance: object = None  # what its handler runs on where there is no container
    laned = False  # whether its messages may have a lane
    handler: Handler | None = None
    results: Results | None = None  # of its handler, where others may wait for them
    routes: Routes | None = None  # of the queue class that it belongs to
    by_type: Mapping[type, Sequence[Route]] = {}

    def __init__(
        self,
        runtime: Runtime,
        target: str,
        retry: Retry,
        invoke: Invoke,
        timeout: float | None,
        chain: Chain | None = None,
    ) -> None:
        self.runtime = runtime
        self.target = target
        self.retry = retry
        self.attempt = compile_attempt(invoke, chain)
        self.timeout = timeout
        self.deadlines = None if timeout is None else runtime.deadlines(timeout)

    def start(self, queue: Any, call: Call) -> Awaitable[None] | None:
        """Run one attempt to where it first waits: what is to be awaited for the rest, None where it has ended.

        The result of the handler is left on the call. What it raises, this or the rest does:

        Raises:
            HandlerTimeout: it ran longer than its timeout.
        """
        attempt = self.attempt(queue, call)
        waits_for = next(attempt, ENDED)
        if waits_for is ENDED:
            return None
        rest = resumed(attempt, waits_for)
        return rest if self.deadlines is None else self._in_time(self.deadlines, call, rest)

    async def run(self, queue: Any, call: Call) -> Any:
        """One attempt from beginning to end: the handler's result, or its exception, as of `start`."""
        rest = self.start(queue, call)
        if rest is not None:
            await rest
        return call.result

    async def _in_time(self, deadlines: Deadlines, call: Call, rest: Awaitable[None]) -> None:
        deadlines.begin(call)
        try:
            await rest
        except BaseException as error:
            if call.expired and call.task is not None and call.task.uncancel() == 0:
                raise HandlerTimeout(f"{self.target} ran longer than {self.timeout:g} s") from error
            raise
        else:
            if call.expired and call.task is not None:
                call.task.uncancel()  # the handler swallowed it: whoever runs next in this task is not cancelled
        finally:
            call.running_in.discard(call)

    def targets(self, message: Message | Outgoing) -> Sequence[Route]:
        """The routes that a message registered on this one takes."""
        assert isinstance(message, Outgoing)
        return (self.runtime.channel(message.transport, message.channel),)

    def lane(self, message: Any) -> str | None:
        """The lane that a message waits in on its way to this route."""
        return None

    def contract(self, message: Any) -> tuple[str, int, bytes]:
        """Alias, version and body of a message on its way to this route."""
        return encode_message(message)

    def decode(self, row: Row) -> Any:
        """The message that a row of this route holds."""
        raise TypeError(f"{self.target} has no rows")


class HandlerRoute(Route):
    """The route to a method of a queue class."""

    def __init__(self, routes: Routes, handler: Handler) -> None:
        function = handler.function
        invoke = function if inspect.iscoroutinefunction(function) else in_thread(function)
        chain = compile_chain(invoke, routes.runtime.middleware)
        super().__init__(routes.runtime, handler.id, handler.retry, invoke, handler.mark.timeout, chain)
        self.routes = routes
        self.queue_name = routes.name
        self.handler = handler
        self.message = handler.message
        self.entry_retry = handler.entry_retry
        self.results = Results(function, handler.id) if handler.is_command else None
        self.version = handler.message.__contract__.version
        self.background = handler.mark.background
        self.hold = handler.mark.on_exhausted == "hold"
        self.key = handler.message.__contract__.key
        self.laned = self.key is not None

    def targets(self, message: Message | Outgoing) -> Sequence[Route]:
        if isinstance(message, Outgoing):
            return super().targets(message)
        return self.by_type.get(type(message), ())

    def lane(self, message: Any) -> str | None:
        if self.key is None:
            return None
        value = getattr(message, self.key)
        return None if value is None else f"{self.queue_name}:{value}"

    def decode(self, row: Row) -> Message:
        return decode(self.message, row.version, row.body)


class Routes:
    """The routes of one queue class in one runtime."""

    def __init__(self, runtime: Runtime, queue: type, table: HandlerTable) -> None:
        self.runtime = runtime
        self.queue = queue
        self.name = queue.__name__
        self.commands = {message: HandlerRoute(self, handler) for message, handler in table.commands.items()}
        self._targets: dict[type[Message], tuple[HandlerRoute, ...]] = {
            message: tuple(HandlerRoute(self, handler) for handler in handlers)
            for message, handlers in table.events.items()
        }
        self._targets |= {message: (route,) for message, route in self.commands.items()}
        for several in self._targets.values():
            for route in several:
                route.by_type = self._targets
        self.by_target = {route.target: route for routes in self._targets.values() for route in routes}

    def of(self, message: type[Message]) -> Sequence[HandlerRoute]:
        """The routes of a message type; none for an event that nobody listens to."""
        return self._targets.get(message, ())

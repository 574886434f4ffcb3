"""The message queue: the class that users derive from.

The class hook reads the marked methods into `__handlers__`. An object keeps no messages, only the routes of its class
in its runtime: what a call registers stands on the call, and what is under way stands in the runtime's dispatcher.
`handle` runs a command here and now, repeats it while the error is transient and nothing was committed yet, and then,
if no other handler of the bus is running around it, drains what the command's commits have made ready.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, ClassVar

from .call import Call, call_of, running
from .dead_letters import DeadLetters
from .delivery import flush
from .errors import AlreadyHandled, HandleInsideUnit, LateRegister, NoHandler, NotInHandler, nearest
from .failpoints import reach
from .handlers import HandlerTable, table_of
from .journal.journal import Seen
from .messages import Command, Message
from .routes import HandlerRoute, Routes
from .runtime import Health, Runtime


class MessageQueue:
    """A bus of commands and events: subclass it and mark its methods.

    `runtime` is what an application provides; without it the queue works by itself, in memory.
    """

    __handlers__: ClassVar[HandlerTable]
    __runtime: Runtime | None = None
    __routes: Routes | None = None

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        self.__runtime = runtime

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.__handlers__ = table_of(cls, _names_around(cls))

    @property
    def runtime(self) -> Runtime:
        """What this queue runs in."""
        if self.__runtime is None:
            self.__runtime = Runtime()
        return self.__runtime

    @property
    def dead_letters(self) -> DeadLetters:
        """The deliveries that were given up."""
        return self.runtime.dead_letters

    async def handle(self, command: Command) -> Any:
        """Do a command: its handler's result, or its exception.

        Before it returns, the events and commands that were registered are delivered, each once and as far as the
        budget goes; their failures are logged and kept, and never raised here.

        Raises:
            NoHandler: this queue has no handler for the command.
            HandleInsideUnit: a transaction of the calling task is open.
            ResultUnknown: a delivery came again, and the result of this command was not stored the first time.
        """
        routes = self.__routes or self.__attach()
        route = routes.commands.get(type(command))
        if route is None:
            raise self.__no_handler(command, "handle")
        runtime = routes.runtime
        if runtime.in_transaction is not None and runtime.in_transaction():
            raise HandleInsideUnit(
                f"{type(command).__name__} cannot be handled while this task has a transaction open: "
                "register it, or commit first"
            )
        outer = running.get()
        if outer is None or not outer.open:
            call = call_of(route, command)
            outer = None
        else:
            call = outer.child(route, command, outer.next_number())
            call.scope = outer.scope
            if outer.inbox is not None:
                call.inbox = (call.id, route.target)
                if runtime.journal is not None and (seen := await runtime.journal.seen(*call.inbox)) is not None:
                    return _recorded(route, seen)
        token = running.set(call)
        began = monotonic()
        try:
            if runtime.plain:
                rest = route.start(self, call)
                if rest is not None:
                    await rest
                result = call.result
            else:
                result = await self.__run_in_unit(runtime, route, call)
            if call.pending:
                if runtime.journal is None:
                    call.commit()
                else:
                    await flush(runtime, call)
        except Exception as error:  # noqa: BLE001 - it is raised when no attempt is left
            result = await self.__repeat(route, call, error, began)
        except BaseException:
            runtime.dispatcher.submit_all(call.take_ready())
            raise
        finally:
            running.reset(token)
            if outer is not None and call.inbox is None:
                outer.commits += call.commits  # which another attempt of the handler around it would do again
        if runtime.observers:
            runtime.tell_handled(call)
        if call.ready:
            ready = call.take_ready()
            if outer is None or outer.entry or not outer.open:  # a handler that has returned drains no more
                await runtime.dispatcher.drain(ready)
            else:
                outer.ready = [*outer.ready, *ready]
        return result

    async def __run_in_unit(self, runtime: Runtime, route: HandlerRoute, call: Call) -> Any:
        if runtime.open_unit is None:
            return await route.run(self, call)
        async with runtime.open_unit(call):
            result = await route.run(self, call)
            reach("handled")
        return result

    async def __repeat(self, route: HandlerRoute, call: Call, error: Exception, began: float) -> Any:
        """The further attempts of a command that a caller waits for: its result, or the last error."""
        runtime = route.runtime
        while True:
            call.rollback()
            if call.inbox is not None and isinstance(error, AlreadyHandled) and runtime.journal is not None:
                seen = await runtime.journal.seen(*call.inbox)
                if seen is not None:  # its commit had gone through, and was not heard of
                    return _recorded(route, seen)
            delay = route.entry_retry.again(error, call.attempt, monotonic() - began)
            if delay is None or call.commits:
                runtime.dispatcher.submit_all(call.take_ready())
                raise error
            await asyncio.sleep(delay)
            call.restart()
            call.attempt += 1
            try:
                result = await self.__run_in_unit(runtime, route, call)
                if call.pending:
                    await flush(runtime, call)
                return result
            except Exception as again:  # noqa: BLE001 - it is raised when no attempt is left
                error = again
            except BaseException:
                runtime.dispatcher.submit_all(call.take_ready())
                raise

    def register(self, message: Message, *, delay: float | None = None, at: datetime | None = None) -> None:
        """Let a message follow when what the running handler does is committed.

        It leaves with the next commit of a unit of work, or when the handler has returned; it is dropped by a
        rollback or an exception. `delay` is in seconds from now, `at` an aware time.

        Raises:
            NotInHandler: no handler of this bus is running here.
            LateRegister: the handler has returned already.
            NoHandler: a command that this queue has no handler for.
        """
        call = running.get()
        routes = self.__routes or self.__attach()
        if call is None or call.route.routes is not routes:
            raise self.__not_in_handler(message, call)
        if not call.open:
            raise LateRegister(
                f"{type(message).__name__} was registered after {call.route.target} had returned: "
                "wait for what the handler starts"
            )
        if type(message) not in call.route.by_type and isinstance(message, Command):
            raise self.__no_handler(message, "register")
        due = None
        if delay is not None or at is not None:
            due = _due(delay, at)
        call.add(message, due)

    async def drain(self, deadline: float) -> None:
        """Stop taking deliveries, finish those that run within `deadline` seconds, give back the others."""
        await self.runtime.drain(deadline)

    async def health(self) -> Health:
        """How the deliveries of this queue's runtime are."""
        return await self.runtime.health()

    def __attach(self) -> Routes:
        self.__routes = self.runtime.attach(self)
        return self.__routes

    def __no_handler(self, message: object, verb: str) -> NoHandler:
        queue, name = type(self).__name__, type(message).__name__
        if isinstance(message, Message) and not isinstance(message, Command):
            return NoHandler(f"{queue}.{verb}: {name} is an event: register it inside a handler")
        known = [command.__name__ for command in type(self).__handlers__.commands]
        hint = nearest(name, known) or "it has no command handlers"
        return NoHandler(f"{queue}.{verb}: no command_handler of {queue} takes {name}: {hint}")

    def __not_in_handler(self, message: object, call: Call | None) -> NotInHandler:
        queue, name = type(self).__name__, type(message).__name__
        where = "no handler is running here" if call is None else f"{call.route.target} is running"
        return NotInHandler(
            f"{queue}.register({name}) is legal inside a handler of {queue} only, and {where}: "
            f"send a command with {queue}.handle(…) instead"
        )


def _names_around(cls: type) -> Mapping[str, Any]:
    """The names of the function that a class is defined in, for annotations that are strings."""
    if "<locals>" not in cls.__qualname__:
        return {}
    return sys._getframe(2).f_locals


def _recorded(route: HandlerRoute, seen: Seen) -> Any:
    """The result of a command whose effect is stored."""
    assert route.results is not None, "the route of a command"
    return route.results.recorded(seen)


def _due(delay: float | None, at: datetime | None) -> datetime:
    if delay is not None and at is not None:
        raise ValueError("give delay= or at=, not both")
    if at is None:
        return datetime.now(UTC) + timedelta(seconds=delay or 0.0)
    if at.tzinfo is None:
        raise ValueError(f"at={at!r} has no time zone: give an aware time")
    return at.astimezone(UTC)

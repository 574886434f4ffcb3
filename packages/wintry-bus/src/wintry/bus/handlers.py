"""The marks of handlers, and the table that a queue class makes of them.

A decorator only leaves a `Mark` on the function, which stays callable as it is. The queue class's hook reads the marks
of the class and of its bases, base first, so that handlers belong to the class that has them and to its subclasses;
an override keeps the mark of what it overrides. The message type is the annotation of the one parameter; a name that
does not exist yet when the class is made is looked up again at first use.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from .errors import DefinitionError, Fault, report
from .messages import Command, Event, Message
from .retry import COMMANDS, DELIVERIES, Retry

if TYPE_CHECKING:
    from .queue import MessageQueue

F = TypeVar("F", bound=Callable[[Any, Any], Any])
Exhausted = Literal["park", "hold"]
TIMEOUT = 30.0
_MARK = "__wintry_handler__"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a decorator says about the method under it."""

    kind: type[Message]
    id: str | None
    retry: Retry | None
    timeout: float | None
    background: bool = False
    on_exhausted: Exhausted = "park"


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler of one queue class. `id` names it in the journal: "MessageBus.allocate"."""

    id: str
    queue: type
    name: str
    function: Callable[[Any, Any], Any]
    message: type[Message]
    mark: Mark

    @property
    def is_command(self) -> bool:
        return self.mark.kind is Command

    @property
    def retry(self) -> Retry:
        """How deliveries to this handler are repeated."""
        return self.mark.retry or DELIVERIES

    @property
    def entry_retry(self) -> Retry:
        """How a command that a caller waits for is repeated."""
        return self.mark.retry or COMMANDS


@overload
def command_handler(function: F, /) -> F: ...
@overload
def command_handler(
    *, id: str | None = None, retry: Retry | None = None, timeout: float | None = TIMEOUT
) -> Callable[[F], F]: ...
def command_handler(
    function: F | None = None,
    /,
    *,
    id: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = TIMEOUT,
) -> F | Callable[[F], F]:
    """Mark the method that does a command; the command is the annotation of its parameter.

    `id` names the handler in the journal instead of the method's name, so that the method can be renamed; `timeout`
    is in seconds, None for none.
    """
    return _mark(function, Mark(Command, id, retry, timeout))


@overload
def event_handler(function: F, /) -> F: ...
@overload
def event_handler(
    *,
    background: bool = False,
    id: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = TIMEOUT,
    on_exhausted: Exhausted = "park",
) -> Callable[[F], F]: ...
def event_handler(
    function: F | None = None,
    /,
    *,
    background: bool = False,
    id: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = TIMEOUT,
    on_exhausted: Exhausted = "park",
) -> F | Callable[[F], F]:
    """Mark a method that is told of an event; the event is the annotation of its parameter.

    With `background` the caller of `handle` does not wait for it. When it has failed for good, `on_exhausted="park"`
    lets later events of its key go on and `"hold"` keeps them waiting until the dead letter is redriven or discarded.
    `id` and `timeout` as in `command_handler`.
    """
    return _mark(function, Mark(Event, id, retry, timeout, background, on_exhausted))


def _mark(function: F | None, mark: Mark) -> F | Callable[[F], F]:
    def decorate(function: F) -> F:
        setattr(function, _MARK, mark)
        return function

    return decorate if function is None else decorate(function)


class HandlerTable:
    """The handlers of one queue class, by message type and by id."""

    def __init__(self, queue: type, names: Mapping[str, Any]) -> None:
        self.queue = queue
        self.commands: dict[type[Message], Handler] = {}
        self.events: dict[type[Message], list[Handler]] = {}
        self.by_id: dict[str, Handler] = {}
        self.faults: list[Fault] = []
        self._aliases: dict[str, type[Message]] = {}
        self._deferred: list[tuple[str, Callable[[Any, Any], Any], Mark]] = []
        for name, function, mark in _marked(queue):
            self._add(name, function, mark, names)

    def check(self) -> HandlerTable:
        """The table, complete.

        Raises:
            DefinitionError: the class has faults, or an annotation names something that does not exist.
        """
        deferred, self._deferred = self._deferred, []
        for name, function, mark in deferred:
            self._add(name, function, mark, {})
        for name, function, _ in self._deferred:
            reason = f"its annotation {_parameters(function)[1].annotation!r} names nothing that exists at run time"
            self.faults.append(Fault(self._place(name), reason, "import the message where the queue is defined"))
        self._deferred = []
        if self.faults:
            raise DefinitionError(self.faults)
        return self

    def _place(self, name: str) -> str:
        return f"{self.queue.__module__}.{self.queue.__qualname__}.{name}"

    def _add(self, name: str, function: Callable[[Any, Any], Any], mark: Mark, names: Mapping[str, Any]) -> None:
        try:
            message = _message_of(function, mark, names)
        except NameError:
            self._deferred.append((name, function, mark))
            return
        if isinstance(message, tuple):
            self.faults.append(Fault(self._place(name), *message))
            return
        handler = Handler(f"{self.queue.__name__}.{mark.id or name}", self.queue, name, function, message, mark)
        self.faults.extend(self._clashes(handler))
        self.by_id[handler.id] = handler
        self._aliases[message.__contract__.alias] = message
        if handler.is_command:
            self.commands.setdefault(message, handler)
        else:
            self.events.setdefault(message, []).append(handler)

    def _clashes(self, handler: Handler) -> list[Fault]:
        faults = []
        place, message = self._place(handler.name), handler.message
        first = self.commands.get(message)
        if first is not None:
            hint = "a command has exactly one handler: remove one, or make it an event"
            faults.append(Fault(place, f"{message.__name__} is handled by {first.name!r} already", hint))
        same = self.by_id.get(handler.id)
        if same is not None:
            faults.append(Fault(place, f"the id {handler.id!r} is that of {same.name!r} already", "give it another"))
        alias = message.__contract__.alias
        other = self._aliases.get(alias, message)
        if other is not message:
            both = f"{other.__module__}.{other.__qualname__} and {message.__module__}.{message.__qualname__}"
            faults.append(Fault(place, f"the alias {alias!r} is that of {both}", "give one of them alias=…"))
        return faults


def table_of(queue: type, names: Mapping[str, Any]) -> HandlerTable:
    """Read the marks of `queue`, and hand its faults over; `names` are those of the scope that the class stands in."""
    table = HandlerTable(queue, names)
    report(table.faults)
    return table


def faults_of(queues: Sequence[type[MessageQueue]]) -> list[Fault]:
    """All that is wrong with queue classes that are to work in one runtime."""
    faults: list[Fault] = []
    for queue in queues:
        try:
            queue.__handlers__.check()
        except DefinitionError as error:
            faults += error.faults
    by_name: dict[str, type] = {}
    for queue in queues:
        if (other := by_name.setdefault(queue.__name__, queue)) is not queue:
            faults.append(same_name(queue, other))
    return faults


def same_name(queue: type, other: type) -> Fault:
    """The fault of a queue class beside another one of its name."""
    place = f"{queue.__module__}.{queue.__qualname__}"
    reason = f"another queue is called {queue.__name__} too: {other.__module__}"
    return Fault(place, reason, "rename one: the name stands in the journal")


def _marked(queue: type) -> list[tuple[str, Callable[[Any, Any], Any], Mark]]:
    marks: dict[str, Mark] = {}
    for base in reversed(queue.__mro__):
        for name, value in vars(base).items():
            mark = getattr(value, _MARK, None)
            if mark is not None:
                marks[name] = mark
    return [(name, function, mark) for name, mark in marks.items() if callable(function := getattr(queue, name))]


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [*inspect.signature(function).parameters.values()]


def _message_of(function: Callable[..., Any], mark: Mark, names: Mapping[str, Any]) -> type[Message] | tuple[str, str]:
    """The message type of a marked method, or reason and hint of what is wrong with it."""
    kind = mark.kind.__name__.lower()
    wanted = f"write it as (self, {kind}: Some{mark.kind.__name__})"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "it is a generator, and a handler returns", "return, and register(…) what is to follow"
    parameters = _parameters(function)
    if len(parameters) < 2:
        return f"it takes no {kind}", wanted
    if len(parameters) > 2:
        extra = ", ".join(repr(parameter.name) for parameter in parameters[2:])
        return f"unknown parameter {extra}", f"a handler takes its {kind} alone; other things are fields of the class"
    annotation = parameters[1].annotation
    if annotation is inspect.Parameter.empty:
        return f"the parameter {parameters[1].name!r} has no annotation", wanted
    if isinstance(annotation, str):
        annotation = eval(annotation, getattr(function, "__globals__", {}), dict(names))
    if not (isinstance(annotation, type) and issubclass(annotation, Message)):
        return f"{annotation!r} is not a message", wanted
    if not issubclass(annotation, mark.kind):
        other = "event" if mark.kind is Command else "command"
        return (
            f"{annotation.__name__} is not a {kind}" if kind == "command" else f"{annotation.__name__} is not an event",
            (f"mark it with {other}_handler"),
        )
    return annotation

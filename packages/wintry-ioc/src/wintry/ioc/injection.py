"""`inject`: functions whose marked parameters are filled by the container.

The wrapper looks for the current scope; where there is none, or it has ended, it opens one of the container that is
entered, for the time of the call. The parameters to fill are compiled as one root: a call of `dict` with them as
keywords, so that they share what is scoped. Nothing is looked up if the caller gave all of them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .errors import Fault, NoContainer, report
from .hints import Hint, dotted, namespace_of
from .scope import Scope, current_scope

if TYPE_CHECKING:
    from .container import Container

F = TypeVar("F", bound=Callable[..., Any])
_ATTRIBUTE = "__wintry_inject__"

current_container: ContextVar[Container | None] = ContextVar("wintry.ioc.container", default=None)


class _Injected:
    """The default value that marks a parameter."""

    def __repr__(self) -> str:
        return "injected()"


_MARK = _Injected()


@dataclass(frozen=True, slots=True, eq=False)
class Injection:
    """An injected function: its parameters to fill, the position of each that can be given by position."""

    function: Callable[..., Any]
    hints: tuple[Hint, ...]
    positions: dict[str, int]
    is_async: bool

    def unfilled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """The parameters that the caller left to the container."""
        return [
            hint.name
            for hint in self.hints
            if hint.name not in kwargs and not self.positions.get(hint.name, len(args)) < len(args)
        ]


def injected() -> Any:
    """The default value of a parameter that `inject` fills: `bus: MessageBus = injected()`."""
    return _MARK


def inject(function: F) -> F:
    """Fill the parameters whose default is `injected()` from the current scope, else from one opened for the call.

    For functions and async functions, methods of any kind included. What the caller gives is used as it is. Raises
    `DefinitionError` for what cannot be injected, at the call `NoContainer` if no container is entered, and
    `AsyncRequired` if a plain function asks for what must be awaited.
    """
    if isinstance(function, staticmethod | classmethod):
        return cast(F, type(function)(inject(function.__func__)))
    place = dotted(function)
    if isinstance(function, type):
        report(Fault(place, "is a class, which @inject cannot wrap", hint="mark it with @provider, or its __init__"))
        return cast(F, function)
    parameters = inspect.signature(function).parameters
    marked = [each for each in parameters.values() if each.default is _MARK]
    fault = _fault(function, place, marked)
    if fault is not None:
        report(fault)
        return function
    namespace = namespace_of(function)
    injection = Injection(
        function,
        tuple(Hint(each.name, each.annotation, f"{place}.{each.name}", namespace) for each in marked),
        {
            name: position
            for position, (name, each) in enumerate(parameters.items())
            if each.default is _MARK and each.kind is not each.KEYWORD_ONLY
        },
        inspect.iscoroutinefunction(function),
    )
    wrapper = _async_wrapper(injection) if injection.is_async else _wrapper(injection)
    setattr(wrapper, _ATTRIBUTE, injection)
    return cast(F, wrapper)


def _fault(function: Callable[..., Any], place: str, marked: list[inspect.Parameter]) -> Fault | None:
    if not marked:
        return Fault(place, "is marked @inject but has no parameter to fill", hint="give one the default injected()")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return Fault(place, "is a generator, which @inject cannot wrap", hint="inject the function that calls it")
    for each in marked:
        if each.kind is each.POSITIONAL_ONLY:
            reason = "is positional-only: it cannot be filled by its name"
            return Fault(f"{place}.{each.name}", reason, hint="write it behind the /")
    return None


def injection_of(value: object) -> Injection | None:
    """The injection that stands on a function, if any."""
    found: Injection | None = getattr(value, "__dict__", {}).get(_ATTRIBUTE)
    return found


def _async_wrapper(injection: Injection) -> Callable[..., Any]:
    function = injection.function

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        unfilled = injection.unfilled(args, kwargs)
        if not unfilled:
            return await function(*args, **kwargs)
        scope = current_scope.get()
        if scope is not None and not scope.closed:
            return await function(*args, **await _filled(scope, injection, unfilled), **kwargs)
        async with _container(injection).scope() as scope:
            return await function(*args, **await _filled(scope, injection, unfilled), **kwargs)

    return call


def _wrapper(injection: Injection) -> Callable[..., Any]:
    function = injection.function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        unfilled = injection.unfilled(args, kwargs)
        if not unfilled:
            return function(*args, **kwargs)
        scope = current_scope.get()
        if scope is not None and not scope.closed:
            return function(*args, **_filled_nowait(scope, injection, unfilled), **kwargs)
        with _container(injection).scope() as scope:
            return function(*args, **_filled_nowait(scope, injection, unfilled), **kwargs)

    return call


async def _filled(scope: Scope, injection: Injection, names: list[str]) -> dict[str, Any]:
    plan = scope.owner.plans.get(injection) or scope.owner.compile(injection)
    found = plan.make(scope)
    if plan.is_async:
        found = await found
    return {name: found[name] for name in names}


def _filled_nowait(scope: Scope, injection: Injection, names: list[str]) -> dict[str, Any]:
    plan = scope.owner.plans.get(injection) or scope.owner.compile(injection)
    found = plan.make(scope)
    return {name: found[name] for name in names}


def _container(injection: Injection) -> Container:
    container = current_container.get()
    if container is None:
        raise NoContainer(
            f"{dotted(injection.function)} wants to be injected, and no container is entered here: "
            "call it inside `async with container:`, or give it all its parameters"
        )
    return container

"""`provider`: a note on a class or function, and nothing else.

Marking has no side effect: the note is an attribute of the thing itself, read by `Container.collect` from the modules
that it is told of, so that any number of containers can use one marked class. What cannot work whatever the container
holds is reported here, where it is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, dataclass_transform, get_args, get_origin, overload

from .constructor import injectable
from .errors import Fault, report
from .hints import EMPTY, dotted, returned

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type[Any])

Lifetime = Literal["singleton", "scoped", "transient"]
LIFETIMES: tuple[str, ...] = get_args(Lifetime)
_ATTRIBUTE = "__wintry_provider__"


@dataclass(frozen=True, slots=True)
class Mark:
    """What `provider` was told: the type to provide besides the own one, the lifetime (None: automatic), the name."""

    of: Any
    lifetime: Lifetime | None
    name: str | None


@overload
@dataclass_transform(kw_only_default=True)
def provider(target: C, /) -> C: ...
@overload
def provider(target: F, /) -> F: ...
@overload
@dataclass_transform(kw_only_default=True)
def provider(*, of: Any = None, lifetime: Lifetime | None = None, name: str | None = None) -> Callable[[F], F]: ...
def provider(
    target: Any = None, /, *, of: Any = None, lifetime: Lifetime | None = None, name: str | None = None
) -> Any:
    """Mark a class or a factory function as a provider; its annotations say what it needs.

    A class is provided under its own type and gets the constructor that its annotated fields describe
    (see `injectable`). A function (plain or async) is provided under its return annotation; a generator (plain or
    async) under the type of what it yields, and what stands after the `yield` runs when the lifetime ends.

    - `of`: a protocol or base under which it is provided as well (a function: instead of the annotation).
    - `lifetime`: `"singleton"` (one in a container), `"scoped"` (one in a scope), `"transient"` (one for each place).
      Not given: singleton if it reaches nothing scoped, else scoped.
    - `name`: told apart from others of the same type by `Annotated[T, Named("name")]`.

    Raises `DefinitionError` for what cannot be provided, or adds the fault to the open `collecting()`.
    """
    if target is None:
        return lambda marked: _mark(marked, Mark(of, lifetime, name))
    return _mark(target, Mark(of, lifetime, name))


def mark_of(value: object) -> Mark | None:
    """The mark that stands on this very class or function, not on a base of it."""
    own = getattr(value, "__dict__", {})
    found: Mark | None = own.get(_ATTRIBUTE)
    return found


def _mark(target: Any, mark: Mark) -> Any:
    fault = _class_fault(target, mark) if isinstance(target, type) else _function_fault(target, mark)
    if fault is not None:
        report(fault)
        return target
    if isinstance(target, type):
        injectable(target)
    setattr(target, _ATTRIBUTE, mark)
    return target


def factory_fault(factory: Any, lifetime: str | None) -> Fault | None:
    """Why something cannot be a factory, or cannot have this lifetime."""
    place = dotted(factory)
    if not callable(factory):
        return Fault(place, "cannot be called", hint="register an object with register_value()")
    if lifetime is not None and lifetime not in LIFETIMES:
        return Fault(place, f"has the unknown lifetime {lifetime!r}", hint=f"one of {', '.join(map(repr, LIFETIMES))}")
    return None


def _class_fault(cls: type[Any], mark: Mark) -> Fault | None:
    place = dotted(cls)
    if unfit := factory_fault(cls, mark.lifetime):
        return unfit
    if getattr(cls, "_is_protocol", False) or inspect.isabstract(cls):
        kind = "a protocol" if getattr(cls, "_is_protocol", False) else "abstract"
        return Fault(place, f"is {kind} and cannot be built", hint="mark the class that implements it, with of=")
    base = get_origin(mark.of) or mark.of
    if base is None or base in cls.__mro__:
        return None
    if getattr(base, "_is_protocol", False):
        return _protocol_fault(cls, base)
    return Fault(place, f"is marked of={dotted(mark.of)}, which it is not", hint=f"derive it from {dotted(mark.of)}")


def _protocol_fault(cls: type[Any], protocol: type[Any]) -> Fault | None:
    """A protocol is met by shape: name the methods that are not there."""
    wanted = [
        name
        for each in protocol.__mro__
        if getattr(each, "_is_protocol", False)
        for name, value in vars(each).items()
        if inspect.isfunction(value) and not name.startswith("_")
    ]
    lacking = sorted({name for name in wanted if not hasattr(cls, name)})
    if not lacking:
        return None
    names = ", ".join(f"{name}()" for name in lacking)
    return Fault(dotted(cls), f"is marked of={dotted(protocol)} but lacks {names}", hint="write it, or drop of=")


def _function_fault(function: Any, mark: Mark) -> Fault | None:
    place = dotted(function)
    if not inspect.isroutine(function):
        return Fault(place, "is neither a class nor a function", hint="mark the class or function itself")
    if unfit := factory_fault(function, mark.lifetime):
        return unfit
    if mark.of is not None:
        return None
    try:
        provided = returned(function)
    except Exception:  # noqa: BLE001 - an annotation may raise anything; the container reads it again, and reports it
        return None
    if provided is EMPTY or provided is None or provided is type(None):
        return Fault(place, "does not say what it provides", hint="annotate its return type, or mark it with of=")
    return None

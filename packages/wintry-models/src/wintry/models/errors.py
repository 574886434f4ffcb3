"""What can go wrong with a Model, and the gathering of faults.

    Exception
    └── ModelError
        ├── DefinitionError (TypeError)      a class that cannot be a Model: found when it is defined or first used
        │   └── UnresolvedName               a type hint names something that does not exist (yet)
        ├── InvalidValue (ValueError)        a value that no store could keep, with its path
        └── OwnershipError (ValueError)      an aggregate whose children cannot be told apart
            ├── SharedChild                  one object in two places
            ├── DuplicateChild               two children of one id in one array
            └── IdentityChanged              an object's id is not what it was

A definition error is its own fault object: `place`, `reason`, `hint`. Outside `collecting()` it is raised at once. While
`collecting()` is open it goes into the list instead, so that an application can report every fault of every class
together; classes whose hints could not be resolved when they were defined are tried again as the block is left.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class ModelError(Exception):
    """Base of everything that this library raises by itself (pydantic's `ValidationError` comes from `build`)."""


class DefinitionError(ModelError, TypeError):
    """A class that cannot be a Model. `place` is its dotted name, or that of the field; `hint` says what would do."""

    def __init__(self, place: str, reason: str, hint: str | None = None) -> None:
        super().__init__(place, reason, hint)
        self.place = place
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}" + (f"; {self.hint}" if self.hint else "")


class UnresolvedName(DefinitionError):
    """A type hint that names something which does not exist where the class is defined; it may still be defined later."""


class InvalidValue(ModelError, ValueError):
    """A value that a field cannot hold. `path` leads to it from the object `model`; `reason` says what is expected."""

    def __init__(self, model: str, path: tuple[object, ...], reason: str) -> None:
        super().__init__(model, path, reason)
        self.model = model
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{shown_path(self.model, self.path)}: {self.reason}"


class OwnershipError(ModelError, ValueError):
    """An aggregate whose children cannot be told apart. `path` leads to the offending one from the object `model`."""

    def __init__(self, model: str, path: tuple[object, ...], reason: str) -> None:
        super().__init__(model, path, reason)
        self.model = model
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{shown_path(self.model, self.path)}: {self.reason}"


class SharedChild(OwnershipError):
    """One object in two places of one aggregate: after a reload it would be two. Put a copy in the second place."""


class DuplicateChild(OwnershipError):
    """Two children of one id in one array."""


class IdentityChanged(OwnershipError):
    """The id of an object differs from what it was when the object was snapshotted."""


def shown_path(model: str, path: tuple[object, ...]) -> str:
    """`Product.batches['b1'].qty` for `("batches", Key("b1"), "qty")`."""
    parts = [model]
    for part in path:
        parts.append(f".{part}" if isinstance(part, str) else f"[{getattr(part, 'id', part)!r}]")
    return "".join(parts)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """`did you mean 'x'?` for the name that is most like `name`, if one is."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {found[0]!r}?" if found else None


class _Collector:
    def __init__(self) -> None:
        self.faults: list[DefinitionError] = []
        self.postponed: list[Callable[[], object]] = []


_collector: ContextVar[_Collector | None] = ContextVar("wintry_models_collector", default=None)


@contextmanager
def collecting() -> Iterator[list[DefinitionError]]:
    """While open, faults of class definitions are appended to the list instead of raised; the class cannot be used.

    Hints that name something not yet defined are resolved when the block is left.
    """
    collector = _Collector()
    token = _collector.set(collector)
    try:
        yield collector.faults
    finally:
        _collector.reset(token)
        for resolve in collector.postponed:
            try:
                resolve()
            except DefinitionError as fault:
                collector.faults.append(fault)


def report(fault: DefinitionError) -> None:
    """Raise `fault`, or append it where `collecting()` is open."""
    collector = _collector.get()
    if collector is None:
        raise fault
    collector.faults.append(fault)


def postpone(resolve: Callable[[], object]) -> None:
    """Have `resolve` called when the open `collecting()` is left; nothing otherwise."""
    collector = _collector.get()
    if collector is not None:
        collector.postponed.append(resolve)

"""The registrations, kept by punq. This module alone knows punq.

A `Recipe` says how one thing is made. It is stored as the builder of a punq registration whose mode is the lifetime:
`Scope.singleton` = singleton, a cached registration = scoped, an uncached one = transient. An automatic lifetime is
stored as scoped, the safe one of the two that it can become. `recipes` reads the records back in their order; nothing
is ever resolved by punq.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

import punq

from .constructor import constructor_hints
from .errors import Fault
from .hints import Dependency, dependency, dotted, parameters
from .marks import Lifetime

Origin = Literal["application", "library"]


class Kind(Enum):
    """How a factory is called: what comes back, and whether it ends."""

    CALL = "call"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"
    VALUE = "value"
    CONTEXT = "context value"

    @property
    def is_async(self) -> bool:
        """Whether only `await` builds it."""
        return self in (Kind.COROUTINE, Kind.ASYNC_GENERATOR)


class Recipe:
    """How one thing is made: the factory, its kind, whether its lifetime is automatic, the place in messages.

    `index` is its order among the recipes of one container, and its slot in a scope; `synchronous`, that whoever asks
    for it cannot await.
    """

    __slots__ = ("_asked", "automatic", "factory", "faults", "index", "kind", "origin", "place", "synchronous")

    def __init__(
        self,
        factory: Any,
        kind: Kind,
        index: int,
        *,
        automatic: bool = False,
        origin: Origin = "application",
        place: str | None = None,
        asked: tuple[Dependency, ...] | None = None,
    ) -> None:
        self.factory = factory
        self.kind = kind
        self.automatic = automatic
        self.index = index
        self.origin = origin
        self.place = dotted(factory) if place is None else place
        self.faults: list[Fault] = []
        self.synchronous = False
        self._asked = asked

    def __call__(self) -> Any:
        """Only there because punq takes callables; plans call `factory` themselves."""
        return self.factory

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """What the factory asks for. What cannot be read is in `faults`, and is read anew the next time."""
        if self._asked is not None:
            return self._asked
        if self.kind in (Kind.VALUE, Kind.CONTEXT):
            hints = []
        elif isinstance(self.factory, type):
            hints = constructor_hints(self.factory)
        else:
            hints = parameters(self.factory, self.place)
        read = [dependency(hint) for hint in hints]
        self.faults = [each for each in read if isinstance(each, Fault)]
        asked = tuple(each for each in read if isinstance(each, Dependency))
        if not self.faults:
            self._asked = asked
        return asked


def kind_of(factory: Callable[..., Any]) -> Kind:
    """The kind of a class or function."""
    if inspect.isasyncgenfunction(factory):
        return Kind.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(factory):
        return Kind.GENERATOR
    if inspect.iscoroutinefunction(factory):
        return Kind.COROUTINE
    return Kind.CALL


class Registry:
    """Recipes by key, in the order in which they were added."""

    def __init__(self) -> None:
        self._store = punq.Container()
        self._keys: dict[Hashable, None] = {}
        self._named: dict[Hashable, list[Hashable]] = {}  # T → its keys that carry a Named
        self._count = 0

    def next_index(self) -> int:
        """A number that no recipe of this container has yet."""
        self._count += 1
        return self._count

    def add(self, key: Any, recipe: Recipe, lifetime: Lifetime) -> None:
        """Register a recipe under a key; several under one key are kept in order."""
        if key not in self._keys:
            self._keys[key] = None
            if get_origin(key) is Annotated:
                self._named.setdefault(get_args(key)[0], []).append(key)
        if lifetime == "singleton":
            self._store.register(key, recipe, scope=punq.Scope.singleton)
        else:
            self._store.register(key, recipe, cache=lifetime == "scoped")

    def entries(self, key: Any) -> list[tuple[Recipe, Lifetime]]:
        """The recipes of a key in order, each with its lifetime; none if nothing provides it."""
        if key not in self._keys:
            return []
        records = self._store.registrations.build_context(key).all_registrations(key)
        entries: list[tuple[Any, Lifetime]] = [(record.builder, _lifetime(record)) for record in records]
        return entries

    def recipes(self, key: Any) -> list[Recipe]:
        """The recipes of a key in order; none if nothing provides it."""
        return [recipe for recipe, _ in self.entries(key)]

    def family(self, key: Any) -> list[Any]:
        """The keys that provide a type: itself, and those that carry a name."""
        return [each for each in (key, *self._named.get(key, ())) if each in self._keys]

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[Any]:
        return iter(tuple(self._keys))


def _lifetime(record: Any) -> Lifetime:
    """The lifetime that a record of punq stands for."""
    if record.scope is punq.Scope.singleton:
        return "singleton"
    return "scoped" if record.cache else "transient"

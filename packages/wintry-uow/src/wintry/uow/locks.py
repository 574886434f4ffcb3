"""Waiting in line for an aggregate, within this process.

Units that lock the same aggregate come one after another, first come first served, before any of them opens a
transaction: who waits holds no connection, and reads only what the one before has stored. Across processes the store's
own locks go on from here, where it has them.

A unit takes its place in all the lines that it needs at once, in one order for all units, and can take no second time:
so no two ever wait for each other.

`_lines` is an index by backend, as everything that units share is: a line is there while somebody stands in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.repository.backend import Backend

Place: TypeAlias = "tuple[type[Model], Any]"
"""The root type and the id of an aggregate."""


class _Line:
    """Those who wait for one aggregate, and who has it."""

    __slots__ = ("lock", "standing")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.standing = 0


_lines: Final[WeakKeyDictionary[Backend, dict[Place, _Line]]] = WeakKeyDictionary()


class Held:
    """The aggregates of one backend that a unit has locked."""

    __slots__ = ("_lines", "_places")

    def __init__(self, backend: Backend) -> None:
        self._lines = _lines.setdefault(backend, {})
        self._places: list[Place] = []

    def __contains__(self, place: Place) -> bool:
        return place in self._places

    def __bool__(self) -> bool:
        return bool(self._places)

    async def take(self, places: Iterable[Place]) -> None:
        """Wait until all of `places` are this unit's; a cancellation leaves it with none that it has not got yet."""
        for place in sorted(places, key=_order):
            line = self._lines.setdefault(place, _Line())
            line.standing += 1
            try:
                await line.lock.acquire()
            except BaseException:
                self._left(place, line)
                raise
            self._places.append(place)

    def release(self) -> None:
        """Let the next ones have them."""
        for place in self._places:
            line = self._lines[place]
            line.lock.release()
            self._left(place, line)
        self._places.clear()

    def _left(self, place: Place, line: _Line) -> None:
        line.standing -= 1
        if not line.standing:
            del self._lines[place]


def _order(place: Place) -> tuple[str, Any]:
    model, id = place
    return f"{model.__module__}.{model.__qualname__}", id

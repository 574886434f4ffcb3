"""One comparison under way: where two walks differ, what was found, and whether all children can be told apart.

An object stands in one place only. So whatever lies before the first difference of the two walks, or behind the last, is
unchanged with all that it owns, and an object that comes in somewhere may have been in the snapshot only between the
two. On the way down a path is a linked `Place`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import compress, count
from operator import is_not
from typing import TYPE_CHECKING, Any, TypeAlias

from wintry.models.errors import DuplicateChild, IdentityChanged, InvalidValue, SharedChild
from wintry.models.tracking.changes import Key, Operation, Place, Set, path_of

if TYPE_CHECKING:
    from wintry.models.info import ModelInfo
    from wintry.models.tracking.diff import Tracker

Stayed: TypeAlias = Sequence[tuple[int, Any, Place]]
"""Children that stay: where the old state of each begins, what it is now, and its place."""


def differing(old: list[Any], new: list[Any]) -> tuple[int, int]:
    """Where in `old` the first difference to `new` is, and where what follows the last one begins.

    The two ends may overlap, where something was put in or taken out between equal items.
    """
    common = min(len(old), len(new))
    first = next(compress(count(), map(is_not, old, new)), common)
    behind = next(compress(count(), map(is_not, reversed(old), reversed(new))), common)
    return first, len(old) - behind


class Comparison:
    """One comparison under way: what it has found, the snapshot that it goes along, and where that differs.

    Up to `first`, and from `rest` on, the object's present state has the same items. An object stands in one place only,
    so whoever is there is unchanged, with all that it owns.
    """

    def __init__(self, root: str, items: list[Any], first: int, rest: int, before: int) -> None:
        self.root = root
        self.items = items
        self.first = first
        self.rest = rest
        self.out: list[Operation] = []
        self._before = before  # objects that begin here or later may have another id

    def trial(self) -> Comparison:
        """One beside it, whose finds are for nobody, and which takes no object for an old one."""
        trial = Comparison(self.root, self.items, self.first, self.rest, self._before)
        trial.positions = {}
        return trial

    @cached_property
    def positions(self) -> dict[int, int]:
        """Where each object of the snapshot stands in it that may have another id now, by the object's address."""
        return {id(item): number for number, item in enumerate(self.items[self._before : self.rest], self._before)}

    def set(self, at: Place, name: str, value: Any) -> None:
        self.out.append(Set((*path_of(at), name), value))

    def identity_changed(self, at: Place, name: str, old: Any, new: Any) -> None:
        raise IdentityChanged(self.root, (*path_of(at), name), f"the id was {old!r} and is {new!r}")

    def other_class(self, at: Place, expected: type, value: Any) -> None:
        raise InvalidValue(self.root, path_of(at), f"expected {expected.__qualname__}, got {type(value).__qualname__}")

    def entering(self, tracker: Tracker, obj: Any, at: Place) -> None:
        """Look at an object that comes in with all that it owns. An old one must have kept its id."""
        ownership = Ownership(self.root, {id(obj)}, self._known_id)
        ownership.keep_id(tracker.info, obj, at)
        ownership.walk(tracker.info, obj, at)

    def staying(self, tracker: Tracker, stayed: Stayed) -> None:
        """Look at children matched by id: an object that is not the one it was may be an old one of another id."""
        for start, child, place in stayed:
            if self.items[start] is not child:
                Ownership(self.root, set(), self._known_id).keep_id(tracker.info, child, place)

    def _known_id(self, info: ModelInfo, obj: Any) -> Any:
        """The id that an object had in the snapshot, its present one if it was not there."""
        start = self.positions.get(id(obj))
        return info.id_of(obj) if start is None else info.tracker.old_id(self.items, start)


class Ownership:
    """A walk through an object and all that it owns."""

    def __init__(self, root: str, seen: set[int], known_id: Callable[[ModelInfo, Any], Any] | None = None) -> None:
        self._root = root
        self._seen = seen
        self._known_id = known_id

    def walk(self, info: ModelInfo, obj: Any, at: Place) -> None:
        for field in info.fields:
            if field.model is None:
                continue
            nested, value = field.model.__wintry_info__, getattr(obj, field.name)
            if nested.immutable or value is None:
                continue
            if not field.is_array:
                self._enter(nested, value, (at, field.name))
                continue
            ids: set[Any] = set()
            for number, item in enumerate(value):
                if not nested.is_entity:
                    self._enter(nested, item, (at, field.name, number, int))
                    continue
                key = nested.id_of(item)
                place = (at, field.name, key, Key)
                self._enter(nested, item, place)
                if key in ids:
                    raise DuplicateChild(self._root, path_of(place), "two children of one id")
                ids.add(key)

    def keep_id(self, info: ModelInfo, obj: Any, at: Place) -> None:
        if self._known_id is not None and info.is_entity:
            was, now = self._known_id(info, obj), info.id_of(obj)
            if was != now:
                raise IdentityChanged(self._root, path_of(at), f"the id was {was!r} and is {now!r}")

    def _enter(self, info: ModelInfo, obj: Any, place: Place) -> None:
        if id(obj) in self._seen:
            raise SharedChild(self._root, path_of(place), "the same object stands in another place too; put in a copy")
        self._seen.add(id(obj))
        self.keep_id(info, obj, place)
        self.walk(info, obj, place)

"""What is known of objects that no unit of work tracks.

Outside a unit nothing tracks a loaded object; what `update(entity=)` needs to be a minimal, guarded write is remembered
beside the object, weakly and by its identity: its version and its snapshot. Each backend keeps its own.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from wintry.models.tracking import Snapshot

if TYPE_CHECKING:
    from wintry.models import Model


class Remembered:
    """Version and snapshot of objects, by identity, for as long as the objects live.

    The Model's own equality and hash are never asked: two objects of one id are two entries. A snapshot begins with the
    object that it was taken of; that item is left out here and put back by `get`, so that nothing keeps the object.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Model], int, list[Any]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, object: Model, version: int, snapshot: Snapshot) -> None:
        """Remember, in place of what was remembered of it before."""
        key = id(object)
        entries = self._entries

        def gone(_: weakref.ref[Model], key: int = key) -> None:
            entries.pop(key, None)

        entries[key] = (weakref.ref(object, gone), version, snapshot.items[1:])

    def get(self, object: Model) -> tuple[int, Snapshot] | None:
        """Version and snapshot of `object`; None where it is not known."""
        entry = self._entries.get(id(object))
        if entry is None or entry[0]() is not object:
            return None
        return entry[1], Snapshot(type(object), [object, *entry[2]])

    def version(self, object: Model) -> int | None:
        """The version of `object`; None where it is not known."""
        entry = self._entries.get(id(object))
        return None if entry is None or entry[0]() is not object else entry[1]

    def forget(self, object: Model) -> None:
        """Drop what is known of `object`."""
        self._entries.pop(id(object), None)

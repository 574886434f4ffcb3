"""The identity map: within a unit, one object stands for one row.

A `Shelf` holds the entries of one root type by id, with strong references, so that an edited object is saved whether
or not the caller kept it. An `Entry` is an object with what it looked like when it was loaded or last stored. An entry
without a snapshot is new; one marked deleted stays, so that queries skip its row, until the transaction ends.

Each entry knows the transaction (`epoch`) that last saw its row. One of an earlier transaction, or of before a
set-based statement, is still tracked, but the next load that meets its row decides: the row's state goes into the
object if the version moved and the object was not edited since.

`_holders` finds the map that holds an object, to refuse objects of other units. It is an index of live objects, by
identity, as `wintry.repository` keeps one of what it loaded: a map takes its own out when it is emptied.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from wintry.models import info
from wintry.models.tracking import diff, snapshot
from wintry.repository.backend import DELETED, UNKNOWN, Delete, Missing
from wintry.repository.remembered import Remembered

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.models.tracking import Snapshot

STALE: Final = -1
"""The epoch of an entry whose row may have changed without the unit's knowledge."""

_holders: dict[int, weakref.ref[IdentityMap]] = {}


class Entry:
    """One tracked object.

    `moved` is the epoch in which its version was last raised by this unit, `loaded` the version before this unit raised
    it: what others have stored. `beside` are other objects of the row whose changes are in this one, as they were then.
    """

    __slots__ = ("beside", "deleted", "epoch", "id", "loaded", "moved", "object", "snapshot", "version")

    def __init__(self, object: Model, id: Any, version: int, snapshot: Snapshot | None, epoch: int) -> None:
        self.object = object
        self.id = id
        self.version = self.loaded = version
        self.snapshot = snapshot
        self.epoch = epoch
        self.moved = STALE
        self.deleted = False
        self.beside: Remembered | None = None

    @property
    def new(self) -> bool:
        """Whether it was created here and not stored yet."""
        return self.snapshot is None

    @property
    def edited(self) -> bool:
        """Whether the object differs from what was loaded or last stored."""
        return self.snapshot is None or bool(diff(self.snapshot, self.object))

    def merge(self, object: Model, version: int, before: Snapshot) -> None:
        """Put into the tracked object what changed in another one since `before`, or since it was merged last."""
        if self.beside is None:
            self.beside = Remembered()
        known = self.beside.get(object)
        changes = diff(before if known is None else known[1], object)
        try:
            changes.apply_to(self.object)
        except LookupError:  # this unit has removed what was changed: what is given now stands
            diff(self.object, object).apply_to(self.object)
        self.beside.put(object, version, snapshot(object))


class Shelf:
    """The entries of one root type, in the order in which they came."""

    __slots__ = ("entries", "id_of", "root")

    def __init__(self, model: type[Model]) -> None:
        described = info(model)
        self.root: type[Model] = described.root
        self.id_of: Callable[[Model], Any] = described.id_of
        self.entries: dict[Any, Entry] = {}


class IdentityMap:
    """The objects of one unit on one backend."""

    __slots__ = ("__weakref__", "_deletions", "_shelves", "_weak", "epoch")

    def __init__(self) -> None:
        self._deletions: list[Delete] = []
        self._shelves: dict[type[Model], Shelf] = {}
        self._weak: weakref.ref[IdentityMap] = weakref.ref(self)
        self.epoch = 0

    def shelf(self, model: type[Model]) -> Shelf:
        """The shelf of the inheritance tree that `model` belongs to."""
        shelf = self._shelves.get(model)
        if shelf is None:
            root = info(model).root
            shelf = self._shelves.get(root)
            if shelf is None:
                shelf = self._shelves[root] = Shelf(root)
            self._shelves[model] = shelf
        return shelf

    def entries(self, models: frozenset[type[Model]] | None = None) -> Iterator[Entry]:
        """All entries, or those of the roots of `models`."""
        shelves = self._shelves.values() if models is None else map(self.shelf, models)
        for shelf in dict.fromkeys(shelves):
            yield from shelf.entries.values()

    def known(self, model: type[Model], id: Any) -> Model | Missing:
        """The object of an id that this transaction has seen, `DELETED`, or `UNKNOWN`."""
        entry = self.shelf(model).entries.get(id)
        if entry is None or entry.epoch != self.epoch:
            return UNKNOWN
        return DELETED if entry.deleted else entry.object

    def meet(self, object: Model, version: int, state: Snapshot) -> Model | None:
        """A row was loaded as `object`: the object to hand out for it, None where it was deleted here."""
        shelf = self.shelf(type(object))
        id = shelf.id_of(object)
        entry = shelf.entries.get(id)
        if entry is None:
            self._put(shelf, Entry(object, id, version, state, self.epoch))
            return object
        if entry.deleted:
            return None
        if entry.epoch != self.epoch:
            # An edited object keeps the version that it was loaded at, so that its update meets the guard.
            if entry.version != version and not entry.edited:
                replace(entry, object, version, state)
            entry.epoch = self.epoch
        return entry.object

    def add(self, object: Model) -> Entry | None:
        """Track a new object; None where the unit already tracks one of that id."""
        shelf = self.shelf(type(object))
        id = shelf.id_of(object)
        entry = shelf.entries.get(id)
        if entry is not None and not entry.deleted and entry.epoch != STALE:
            return None
        if entry is not None:
            self._drop(shelf, entry)
        entry = Entry(object, id, 0, None, self.epoch)
        self._put(shelf, entry)
        return entry

    def remove(self, entry: Entry) -> None:
        """Delete what the entry holds; its row is skipped from now on."""
        entry.deleted = True
        if entry.snapshot is not None:
            self._deletions.append(Delete(self.shelf(type(entry.object)).root, entry.id, entry.version))

    def deletions(self, models: frozenset[type[Model]] | None = None) -> Iterator[Delete]:
        """The rows that wait to be deleted, all or those of the roots of `models`."""
        roots = None if models is None else {self.shelf(model).root for model in models}
        return (deletion for deletion in self._deletions if roots is None or deletion.model in roots)

    def deleted(self, deletion: Delete) -> None:
        """A row was deleted."""
        self._deletions.remove(deletion)

    def entry(self, object: Model) -> Entry | None:
        """The entry that holds this very object."""
        shelf = self.shelf(type(object))
        entry = shelf.entries.get(shelf.id_of(object))
        return entry if entry is not None and entry.object is object and not entry.deleted else None

    def renew(self, entry: Entry, object: Model, version: int) -> None:
        """The row of the entry was loaded again, as `object`, on purpose: it replaces what the entry holds."""
        replace(entry, object, version, snapshot(object))
        entry.epoch = self.epoch

    def forget(self, entry: Entry) -> None:
        """Track it no more."""
        self._drop(self.shelf(type(entry.object)), entry)

    def evict(self, model: type[Model]) -> None:
        """The rows of `model` may have changed: nothing that is known of them counts until it is loaded again."""
        for entry in self.shelf(model).entries.values():
            if not entry.new:
                entry.epoch = STALE

    def turn(self) -> None:
        """A transaction was committed: the next one begins, and what was deleted may be created by others."""
        for entry in [entry for entry in self.entries() if entry.deleted]:
            self.forget(entry)
        self.epoch += 1

    def clear(self) -> None:
        """Let go of everything."""
        for entry in self.entries():
            self._release(entry)
        self._shelves.clear()
        self._deletions.clear()

    def _put(self, shelf: Shelf, entry: Entry) -> None:
        shelf.entries[entry.id] = entry
        _holders[id(entry.object)] = self._weak

    def _drop(self, shelf: Shelf, entry: Entry) -> None:
        del shelf.entries[entry.id]
        self._release(entry)

    def _release(self, entry: Entry) -> None:
        key = id(entry.object)
        if _holders.get(key) is self._weak:
            del _holders[key]


def replace(entry: Entry, object: Model, version: int, state: Snapshot) -> None:
    """Put the state of a freshly loaded `object` into the one that the entry holds."""
    for field in info(type(entry.object)).fields:
        setattr(entry.object, field.name, getattr(object, field.name))
    entry.version = entry.loaded = version
    entry.snapshot = state
    entry.beside = None


def held_elsewhere(object: Model, by: IdentityMap) -> bool:
    """Whether another running unit tracks this very object."""
    weak = _holders.get(id(object))
    holder = None if weak is None else weak()
    return holder is not None and holder is not by and holder.entry(object) is not None


def named(object: Model) -> str:
    """How messages call an object: its class and id."""
    return f"{type(object).__name__} {info(type(object)).id_of(object)!r}"

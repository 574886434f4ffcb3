"""From edited objects to ordered writes.

`collect` compares the entries of an identity map with their snapshots and gives one operation for each object that
changed; nothing is sent, so a fault that it finds (a child in two lists, an id that was changed) leaves the unit as it
was. `settle` brings the entries in step with a store that has taken the operations.

Deletions go first, then updates, then inserts: a unique value passes from a row that goes or changes to one that comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wintry.models.tracking import diff, snapshot
from wintry.repository.backend import Delete, Insert, Operation, Update

from . import versions
from .identity import named

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.models.tracking import Snapshot

    from .identity import Entry, IdentityMap


@dataclass(frozen=True, slots=True)
class Change:
    """One operation with the entry that it stores, in the state that it stores; a deletion has neither."""

    operation: Operation
    entry: Entry | None = None
    state: Snapshot | None = None


def collect(map: IdentityMap, models: frozenset[type[Model]] | None = None) -> Sequence[Change]:
    """What differs from the store, of the roots of `models` or of all, in the order in which it is written.

    Raises what comparing raises: `SharedChild`, `DuplicateChild`, `IdentityChanged`.
    """
    changes = [Change(deletion) for deletion in map.deletions(models)]
    inserts: list[Change] = []
    for entry in map.entries(models):
        object = entry.object
        if entry.deleted:
            continue
        if entry.snapshot is None:
            inserts.append(Change(Insert(object), entry, snapshot(object)))
        elif difference := diff(entry.snapshot, object):
            update = versions.guarded(entry, difference, map.epoch)
            changes.append(Change(update, entry, snapshot(object)))
    changes += inserts
    return changes


def settle(map: IdentityMap, changes: Sequence[Change]) -> None:
    """The store has taken `changes`: what they stored is what the entries know of their rows."""
    for change in changes:
        if isinstance(change.operation, Delete):
            map.deleted(change.operation)
        elif change.entry is not None:
            change.entry.snapshot = change.state
            versions.raised(change.entry, map.epoch)


def described(operation: Operation) -> str:
    """One line of text for an operation, for a person."""
    match operation:
        case Insert(object):
            return f"insert {named(object)}"
        case Update(object, changes):
            return f"update {named(object)}: {'; '.join(str(changes).splitlines())}"
        case Delete(model, id):
            return f"delete {model.__name__} {id!r}"

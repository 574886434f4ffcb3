"""The versions of aggregates: what guards an update, what a caller expects, and who was first.

A version moves once per transaction however often the aggregate is stored in it: the first store is guarded by the
version that was loaded and raises it, later ones are guarded by the raised one and leave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wintry.models import info
from wintry.repository.backend import Update
from wintry.repository.errors import AlreadyExists, Conflict, PreconditionFailed

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.models.tracking import ChangeSet

    from .identity import Entry


def guarded(entry: Entry, changes: ChangeSet, epoch: int) -> Update:
    """The update of an entry's row, guarded by the version that the entry knows."""
    return Update(entry.object, changes, entry.version, bump=entry.moved != epoch)


def raised(entry: Entry, epoch: int) -> None:
    """The entry's row was stored: its version moved, if it had not in this transaction."""
    if entry.moved != epoch:
        entry.version += 1
        entry.moved = epoch


def expect(entry: Entry, version: int) -> None:
    """Raises `PreconditionFailed` unless the entry was loaded at `version`."""
    if entry.version != version:
        raise PreconditionFailed(type(entry.object), entry.id, version, entry.version)


class Sought:
    """The ids and unique values that a unit looked for and did not find."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: set[tuple[type[Model], str, Any]] = set()

    def miss(self, model: type[Model], sought: Any) -> None:
        """Remember an id, or a mapping of dotted unique fields to values."""
        described = info(model)
        if isinstance(sought, Mapping):
            self._values.update((described.root, field, value) for field, value in sought.items())
        else:
            self._values.add((described.root, ", ".join(field.name for field in described.identity), sought))

    def judge(self, error: AlreadyExists) -> Conflict | None:
        """The `Conflict` that a taken value is if the unit acted on its absence: a re-run sees it. Else None."""
        if (info(error.entity).root, error.field, error.value) not in self._values:
            return None
        return Conflict(
            f"{error}: this unit looked for it and found nothing, so another transaction added it since; "
            "run the unit again"
        )

    def clear(self) -> None:
        """A new transaction sees the store anew."""
        self._values.clear()

"""The committed state: one immutable `Table` a Model, replaced as a whole by each commit.

A transaction reads the tables that were there when it began and writes to forks of them, so that its view never moves.
A commit compares: where the committed table is still the one that was forked, the fork takes its place; where another
transaction came between, each touched row must still be what this transaction saw, and the touched rows are put into
a fork of the newer table. The first committer wins, as with snapshot isolation elsewhere.

Unique fields, those of children included, have an index each: value → id of the aggregate that holds it. None is not a
value, and is never taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from wintry.models import info

from ..errors import AlreadyExists, ConcurrentModification
from .load import Row

if TYPE_CHECKING:
    from wintry.models import Model


class Stored(NamedTuple):
    """One aggregate: its version and its row."""

    version: int
    row: Row


class Table:
    """The rows of one Model by id, and the index of its unique values by dotted field."""

    __slots__ = ("_unique", "model", "rows")

    def __init__(
        self, model: type[Model], rows: dict[Any, Stored] | None = None, unique: dict[str, dict[Any, Any]] | None = None
    ) -> None:
        self.model = model
        self.rows: dict[Any, Stored] = {} if rows is None else rows
        self._unique: dict[str, dict[Any, Any]] = {} if unique is None else unique

    def fork(self) -> Table:
        """A copy to write to."""
        return Table(self.model, self.rows.copy(), {name: index.copy() for name, index in self._unique.items()})

    def put(self, id: Any, stored: Stored) -> None:
        """Store a row in the place of what has its id. Raises `AlreadyExists` for a unique value that is taken."""
        old = self.rows.get(id)
        taken = list(unique_values(self.model, stored.row))
        if len(set(taken)) < len(taken):
            name, value = next(item for item in taken if taken.count(item) > 1)
            raise AlreadyExists(self.model, name, value)
        for name, value in taken:
            if self._unique.get(name, {}).get(value, id) != id:
                raise AlreadyExists(self.model, name, value)
        if old is not None:
            self._release(id, old.row)
        for name, value in taken:
            self._unique.setdefault(name, {})[value] = id
        self.rows[id] = stored

    def remove(self, id: Any) -> None:
        """Remove the row of this id, if there is one."""
        old = self.rows.pop(id, None)
        if old is not None:
            self._release(id, old.row)

    def vacate(self, id: Any) -> None:
        """Let others have the unique values of a row that is about to be replaced."""
        old = self.rows.get(id)
        if old is not None:
            self._release(id, old.row)

    def _release(self, id: Any, row: Row) -> None:
        for name, value in unique_values(self.model, row):
            index = self._unique[name]
            if index.get(value) == id:
                del index[value]


class Store:
    """The committed tables."""

    def __init__(self) -> None:
        self.tables: Mapping[type[Model], Table] = {}

    def commit(self, base: Mapping[type[Model], Table], forks: Mapping[type[Model], Table], touched: Touched) -> None:
        """Make the forks of `base` the committed state. Raises `ConcurrentModification`, `AlreadyExists`."""
        merged = dict(self.tables)
        for model, fork in forks.items():
            before, now = base.get(model), self.tables.get(model)
            merged[model] = fork if before is now or now is None else _merged(before, now, fork, touched[model])
        self.tables = merged


Touched = dict["type[Model]", dict[Any, None]]
"""The ids that a transaction wrote, in order."""


def unique_values(model: type[Model], row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted name and the value of each unique field of a row, at any depth; None is left out."""
    for field, value in zip(info(model).fields, row, strict=True):
        if value is None:
            continue
        name = prefix + field.name
        if field.model is not None:
            for item in value if field.is_array else (value,):
                yield from unique_values(field.model, item, f"{name}.")
        elif field.unique:
            yield name, value


def id_name(model: type[Model]) -> str:
    """The name of the identity, as errors show it."""
    return ", ".join(field.name for field in info(model).identity)


def _merged(before: Table | None, now: Table, fork: Table, touched: Mapping[Any, None]) -> Table:
    """A fork of `now` with the rows that were written on top of `before`."""
    result = now.fork()
    seen = {} if before is None else before.rows
    for id in touched:
        if now.rows.get(id) is not seen.get(id):
            _refuse(now, id, seen.get(id))
        if id in fork.rows:
            result.vacate(id)
        else:
            result.remove(id)
    for id in touched:
        if id in fork.rows:
            result.put(id, fork.rows[id])
    return result


def _refuse(now: Table, id: Any, seen: Stored | None) -> None:
    found = now.rows.get(id)
    if seen is None:
        raise AlreadyExists(now.model, id_name(now.model), id)
    raise ConcurrentModification(now.model, id, seen.version, None if found is None else found.version)

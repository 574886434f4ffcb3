"""Objects ↔ rows.

A row is a tuple of the stored values of one object in the order of its fields; what a field holds by value is a row
inside it, a list is a tuple. Rows never change, so that a transaction's view of the store is a reference to it.
Times are kept in UTC, as every store does.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from wintry.models import info

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.models.info import FieldInfo

Row: TypeAlias = tuple[Any, ...]


def dehydrate(object: Model) -> Row:
    """The row of `object`."""
    return tuple(_stored(field, getattr(object, field.name)) for field in info(type(object)).fields)


def hydrate(model: type[Model], row: Row) -> Model:
    """A fresh object of `model` from its row."""
    fields = info(model).fields
    values = [_loaded(field, value) for field, value in zip(fields, row, strict=True)]
    restored: Model = info(model).restore(*values)
    return restored


def reader(model: type[Model], path: tuple[FieldInfo, ...]) -> Callable[[Row], Any]:
    """A function from a row of `model` to the value at the end of `path`; None where an object on the way is None."""
    places = []
    for field in path:
        places.append([known.name for known in info(model).fields].index(field.name))
        if field.model is not None:
            model = field.model
    if not places:
        return lambda row: row
    if len(places) == 1:
        (place,) = places
        return lambda row: row[place]

    def read(row: Any) -> Any:
        for place in places:
            if row is None:
                return None
            row = row[place]
        return row

    return read


def key_of(id: Any) -> Any:
    """An id as the store keeps it."""
    return tuple([_leaf(part) for part in id]) if isinstance(id, tuple) else _leaf(id)


def _stored(field: FieldInfo, value: Any) -> Any:
    if value is None:
        return None
    if field.is_array:
        if field.model is not None:
            return tuple(dehydrate(item) for item in value)
        return tuple(_leaf(item) for item in value)
    return dehydrate(value) if field.model is not None else _leaf(value)


def _leaf(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _loaded(field: FieldInfo, value: Any) -> Any:
    if value is None:
        return None
    if field.is_array:
        return list(value) if field.model is None else [hydrate(field.model, row) for row in value]
    return value if field.model is None else hydrate(field.model, value)

"""What became of an object, as data.

A `ChangeSet` is an ordered list of operations, each addressed by a path from the root: field names, `Key` for a child by
its id, an int for a value item by its position. Per object the order is: what leaves, moves and enters its arrays, then
its own fields, then the changes inside the children that stayed. Positions of removed value items are those of the old
list; positions of moved and inserted ones are those of the new. Whoever takes out what is removed and what moves, and
then puts in moved and new items by ascending position, has the new list: `apply_to` does so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from wintry.models.errors import shown_path

if TYPE_CHECKING:
    from wintry.models.info import FieldInfo, ModelInfo
    from wintry.models.model import Model

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Key:
    """A child of an array, by its id: a tuple where the identity is composite."""

    id: Any


Path: TypeAlias = tuple[str | Key | int, ...]
Place: TypeAlias = tuple[Any, ...] | None
"""A path under way, linked so that it costs little until it is needed: `(place around it, field)`, or `(place around it,
field, x, function)` for the item of a list, which `function(x)` names; `(path,)` and None end it."""


def path_of(at: Place) -> Path:
    """The path that a place stands for."""
    parts: list[str | Key | int] = []
    while at is not None:
        if len(at) == 1:
            return (*at[0], *reversed(parts))
        if len(at) == 4:
            parts.append(at[3](at[2]))
        parts.append(at[1])
        at = at[0]
    return tuple(reversed(parts))


def item_name(place: tuple[int, object]) -> Key | int:
    """How a path names an item of a list: an entity by its id, anything else by its position."""
    number, item = place
    info: ModelInfo | None = getattr(type(item), "__wintry_info__", None)
    if info is None or not info.is_entity:
        return number
    try:
        return Key(info.id_of(item))
    except AttributeError:  # an object without its id: the check says so
        return number


@dataclass(frozen=True, slots=True)
class Set:
    """A field has a new value: a scalar, None, a nested Model in place of None, a list of scalars as a whole."""

    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Insert:
    """An item enters an array; `index` is its position in the new list."""

    path: Path
    index: int
    item: Model


@dataclass(frozen=True, slots=True)
class Remove:
    """A child, or the value item at a position of the old list, leaves an array."""

    path: Path
    key: Key | int


@dataclass(frozen=True, slots=True)
class Move:
    """A child that stays in its array changes its place among its siblings; `index` is its position in the new list."""

    path: Path
    key: Key
    index: int


@dataclass(frozen=True, slots=True)
class Replace:
    """An array of value objects, or a nested Model, is replaced as a whole."""

    path: Path
    value: Any


Operation: TypeAlias = Set | Insert | Remove | Move | Replace


class ChangeSet:
    """The operations that turn an object's old state into its new one; false if there are none."""

    __slots__ = ("model", "operations")

    def __init__(self, model: type[Model], operations: tuple[Operation, ...] = ()) -> None:
        self.model = model
        self.operations = operations

    def __bool__(self) -> bool:
        return bool(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __repr__(self) -> str:
        return f"<ChangeSet of {self.model.__name__}: {len(self.operations)} operations>"

    def __str__(self) -> str:
        """One line an operation."""
        return "\n".join(_shown(self.model.__name__, operation) for operation in self.operations)

    def apply_to(self, copy: M) -> M:
        """Change `copy`, an object in the old state, into the new state, and return it.

        What is put in is copied, so that `copy` and the changed object share nothing that can change.
        """
        number = 0
        while number < len(self.operations):
            operation = self.operations[number]
            match operation:
                case Set(path, value) | Replace(path, value):
                    # A frozen object refuses assignment, but this copy is ours.
                    object.__setattr__(_at(copy, path[:-1]), str(path[-1]), _copied(value))
                    number += 1
                case _:
                    end = number
                    while end < len(self.operations) and _rearranges(self.operations[end], operation.path):
                        end += 1
                    _rearrange(_at(copy, operation.path), self.operations[number:end])
                    number = end
        return copy

    def check(self) -> None:
        """Whether a store could keep what is new in the changes. Raises `InvalidValue` with the path."""
        info, root = self.model.__wintry_info__, self.model.__name__
        for operation in self.operations:
            match operation:
                case Set(path, value) | Replace(path, value):
                    info.check_field(_field(info, path), value, root, (path,))
                case Insert(path, index, item):
                    info.check_item(_field(info, path), item, root, ((path[:-1],), path[-1], (index, item), item_name))

    def to_json(self) -> str:
        """A JSON array of one object an operation: `op`, `path` (a child's id as `{"id": …}`) and what it carries."""
        return json.dumps([_plain(operation) for operation in self.operations], default=_json_value)


def _at(obj: Any, path: Path) -> Any:
    for part in path:
        if obj is None:
            raise LookupError(f"there is nothing that could have {part!r}: the change set is of another state")
        if isinstance(part, str):
            obj = getattr(obj, part)
        elif isinstance(part, int):
            obj = obj[part]
        else:
            obj = obj[_position(obj, part)]
    if obj is None:
        raise LookupError(f"there is nothing at {path!r}: the change set is of another state")
    return obj


def _position(items: list[Any], key: Key) -> int:
    for number, item in enumerate(items):
        if type(item).__wintry_info__.id_of(item) == key.id:
            return number
    raise LookupError(f"no child {key.id!r}: the change set is of another state")


def _field(info: ModelInfo, path: Path) -> FieldInfo:
    """The field that a path ends in, or whose item it ends in."""
    *before, last = (part for part in path if isinstance(part, str))
    for name in before:
        model = info.by_name[name].model
        assert model is not None
        info = model.__wintry_info__
    return info.by_name[last]


def _rearranges(operation: Operation, path: Path) -> bool:
    return isinstance(operation, Insert | Remove | Move) and operation.path == path


def _rearrange(items: list[Any], operations: tuple[Operation, ...]) -> None:
    """Carry out what leaves, moves in and enters one array."""
    gone: set[int] = set()
    placed: list[tuple[int, Any]] = []
    for operation in operations:
        match operation:
            case Remove(_, int() as position):
                gone.add(position)
            case Remove(_, Key() as key):
                gone.add(_position(items, key))
            case Move(_, key, index):
                position = _position(items, key)
                gone.add(position)
                placed.append((index, items[position]))
            case Insert(_, index, item):
                placed.append((index, _copied(item)))
    items[:] = [item for position, item in enumerate(items) if position not in gone]
    for index, item in sorted(placed, key=lambda place: place[0]):
        items.insert(index, item)


def _copied(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    info: ModelInfo | None = getattr(type(value), "__wintry_info__", None)
    return value if info is None or info.immutable else info.copy(value)


def _shown(model: str, operation: Operation) -> str:
    where = shown_path(model, operation.path)
    match operation:
        case Set(_, value) | Replace(_, value):
            return f"{where} = {value!r}"
        case Insert(_, index, item):
            return f"{where} + [{index}] {item!r}"
        case Remove(_, key):
            return f"{where} - {getattr(key, 'id', key)!r}"
        case Move(_, key, index):
            return f"{where} > {key.id!r} to [{index}]"


def _plain(operation: Operation) -> dict[str, Any]:
    path = [_plain_part(part) for part in operation.path]
    plain: dict[str, Any] = {"op": type(operation).__name__.lower(), "path": path}
    match operation:
        case Set(_, value) | Replace(_, value):
            plain["value"] = value
        case Insert(_, index, item):
            plain |= {"index": index, "item": item}
        case Remove(_, key):
            plain["key"] = _plain_part(key)
        case Move(_, key, index):
            plain |= {"key": _plain_part(key), "index": index}
    return plain


def _plain_part(part: str | Key | int) -> Any:
    return {"id": part.id} if isinstance(part, Key) else part


def _json_value(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    info: ModelInfo | None = getattr(type(value), "__wintry_info__", None)
    if info is None:
        raise TypeError(f"{type(value).__qualname__} is not a value that a Model can hold")
    return info.codec.to_dict(value, "json", None)

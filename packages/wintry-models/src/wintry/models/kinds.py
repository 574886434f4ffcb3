"""From an annotation to its kind: what a field holds, and so how it is stored, compared and checked.

A kind is a leaf (one scalar), a Model held by value, or a list of either. `| None` is not part of the kind but a flag
beside it. `Annotated` and `NewType` are looked through: they matter to validation, not to storage.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, NewType, TypeAlias, Union, get_args, get_origin

if TYPE_CHECKING:
    from wintry.models.model import Model

LEAVES: tuple[type, ...] = (str, int, float, bool, date, datetime)

_SUPPORTED = "use str, int, float, bool, date, datetime, a Model, a list of one of these, or one of them | None"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One scalar: `type` is exactly str, int, float, bool, date or datetime."""

    type: type


@dataclass(frozen=True, slots=True)
class Nested:
    """A Model held by value, entity or value object."""

    model: type[Model]


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """A list."""

    item: Leaf | Nested


Kind: TypeAlias = Leaf | Nested | ArrayOf


class Unsupported(Exception):
    """An annotation that no field can have; `args` are reason and hint."""


def kind_of(annotation: Any) -> tuple[Kind, bool]:
    """The kind of a resolved annotation, and whether None is allowed beside it. Raises `Unsupported`."""
    inner, optional = without_none(annotation)
    origin = get_origin(unwrapped(inner))
    if origin is list or inner is list:
        items = get_args(unwrapped(inner))
        if not items:
            raise Unsupported("a list needs the type of its items", "write list[X]")
        item = _item(items[0])
        if optional and isinstance(item, Nested):
            raise Unsupported("a list of Models cannot be None", "an empty list says the same")
        return ArrayOf(item), optional
    return _single(inner), optional


def without_none(annotation: Any) -> tuple[Any, bool]:
    """`X, True` for `X | None`; the annotation itself and False for anything else."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not types.NoneType]
        if len(members) == 1:
            return members[0], True
    return annotation, False


def unwrapped(annotation: Any) -> Any:
    """What stands inside `Annotated` and `NewType`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        else:
            return annotation


def is_model(annotation: Any) -> bool:
    """Whether the annotation is a Model class itself."""
    return isinstance(annotation, type) and "__wintry_info__" in annotation.__dict__


def _item(annotation: Any) -> Leaf | Nested:
    if without_none(annotation)[1]:
        raise Unsupported(f"the items of a list cannot be None: {shown(annotation)}", "leave them out")
    if get_origin(annotation) is list or annotation is list:
        raise Unsupported("a list of lists is not supported", "put the inner list into a Model")
    return _single(annotation)


def _single(annotation: Any) -> Leaf | Nested:
    if is_model(annotation):
        return Nested(annotation)
    bare = unwrapped(annotation)
    for leaf in LEAVES:
        if bare is leaf:
            return Leaf(leaf)
    if is_model(bare):
        raise Unsupported(f"{shown(annotation)}: a Model cannot be annotated further", "name the Model itself")
    inner, optional = without_none(bare)
    if optional and inner in LEAVES:
        hint = f"write Annotated[{shown(inner)}, …] | None"
        raise Unsupported(f"{shown(annotation)}: None stands inside of what annotates the type", hint)
    raise Unsupported(f"{shown(annotation)} is not a type that a field can have", _SUPPORTED)


def shown(annotation: Any) -> str:
    """The annotation as its author would write it."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation.__qualname__
    return str(annotation)

"""The state of an object, taken down so that a later change can be seen.

A snapshot is one flat list, made by a function that is generated for the class: every leaf and every child of the
aggregate, in a fixed order, arrays closed by a mark. It copies references, not values. While nothing has been changed,
the same walk meets the very same objects at the same places, so that unchanged means: two lists are identical item by
item. No `==` is asked, which makes this both the fastest comparison and the strictest; `1` turned into `True` cannot
hide. Only where the lists differ does `diff` look closer, and for that `read` gives the flat list its form back:
a tuple an object, in the order of `layout`, with a list for each array.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import TYPE_CHECKING, Any

from wintry.models.source import Source, variable

if TYPE_CHECKING:
    from wintry.models.info import FieldInfo, ModelInfo
    from wintry.models.model import Model


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


END = _Mark("END")  # closes an array
PRESENT = _Mark("PRESENT")  # stands before a list where None could

INLINE_DEPTH = 6  # classes nested deeper, and those that contain themselves, are walked by their own function


class Snapshot:
    """The state of one object at one moment. Opaque; `diff` compares it with the object as it is then."""

    __slots__ = ("items", "model")

    def __init__(self, model: type[Model], items: list[Any]) -> None:
        self.model = model
        self.items = items

    def __repr__(self) -> str:
        return f"<Snapshot of {self.model.__name__}>"

    def unchanged(self, items: list[Any]) -> bool:
        """Whether another walk met the same objects at the same places."""
        own = self.items
        return len(own) == len(items) and all(map(is_, own, items))


def layout(info: ModelInfo) -> tuple[FieldInfo, ...]:
    """The fields in the order of the snapshot: leaves, nested Models, lists."""
    leaves = [field for field in info.fields if field.model is None and not field.is_array]
    nested = [field for field in info.fields if field.model is not None and not field.is_array]
    return (*leaves, *nested, *(field for field in info.fields if field.is_array))


def make_flatten(info: ModelInfo) -> Callable[[Any, list[Any]], list[Any]]:
    """Generate `flatten(object, out)`, which appends the object's state to `out` and returns it."""
    source = Source(f"snapshot of {info.place}")
    source.bind((END,), "END")
    obj, out = source.fresh(variable(info.name)), source.fresh("out")
    with source.block(f"def flatten({obj}, {out}):"):
        _emit_object(source, info, obj, out, ())
        source.line(f"return {out}")
    return source.compiled("flatten")[0]


def _emit_object(source: Source, info: ModelInfo, obj: str, out: str, around: tuple[ModelInfo, ...]) -> None:
    around = (*around, info)
    fields = layout(info)
    values = [obj, *(f"{obj}.{field.name}" for field in fields if field.leaf is not None and not field.is_array)]
    source.line(f"{out} += ({', '.join(values)},)")
    for field in fields:
        if field.is_array:
            _emit_list(source, field, f"{obj}.{field.name}", out, around)
        elif field.model is not None:
            nested, value = field.model.__wintry_info__, source.fresh(field.name)
            source.line(f"{value} = {obj}.{field.name}")
            with source.block(f"if {value} is None:"):
                source.line(f"{out}.append(None)")
            with source.block("else:"):
                _emit_child(source, nested, value, out, around)


def _emit_list(source: Source, field: FieldInfo, value: str, out: str, around: tuple[ModelInfo, ...]) -> None:
    if field.model is not None:
        nested = field.model.__wintry_info__
        item = source.fresh(variable(nested.name))
        with source.block(f"for {item} in {value}:"):
            _emit_child(source, nested, item, out, around)
        source.line(f"{out} += END")
    elif field.optional:
        present = source.bind(PRESENT, "PRESENT")
        source.line(f"{out} += (None,) if {value} is None else ({present}, *{value}, *END)")
    else:
        source.line(f"{out} += (*{value}, *END)")


def _emit_child(source: Source, nested: ModelInfo, value: str, out: str, around: tuple[ModelInfo, ...]) -> None:
    if nested in around or len(around) == INLINE_DEPTH:
        tracker = source.bind(nested.tracker, f"{variable(nested.name)}_tracker")
        source.line(f"{tracker}.flatten({value}, {out})")
    else:
        _emit_object(source, nested, value, out, around)


def make_read(info: ModelInfo) -> Callable[[Any, Callable[[], Any]], tuple[Any, ...]]:
    """Generate `read(object, next)`: the tuple of an object whose state `next()` gives item by item."""
    source = Source(f"snapshot of {info.place}, read")
    obj, following = source.fresh(variable(info.name)), source.fresh("next")
    for function in (read_list, read_leaves):
        source.bind(function, function.__name__)
    values = [obj]
    for field in layout(info):
        tracker = ""
        if field.model is not None:
            nested = field.model.__wintry_info__
            tracker = source.bind(nested.tracker, f"{variable(nested.name)}_tracker")
        if not field.is_array:
            read = source.bind(read_nested, "read_nested")
            values.append(f"{read}({tracker}, {following})" if tracker else f"{following}()")
        elif tracker:
            values.append(f"read_list({tracker}, {following})")
        else:
            values.append(f"read_leaves({following}, {field.optional})")
    with source.block(f"def read({obj}, {following}):"):
        source.line(f"return ({', '.join(values)},)")
    return source.compiled("read")[0]


def read_nested(tracker: Any, following: Callable[[], Any]) -> tuple[Any, ...] | None:
    obj = following()
    found: tuple[Any, ...] | None = None if obj is None else tracker.read(obj, following)
    return found


def read_list(tracker: Any, following: Callable[[], Any]) -> list[tuple[Any, ...]]:
    items = []
    while (obj := following()) is not END:
        items.append(tracker.read(obj, following))
    return items


def read_leaves(following: Callable[[], Any], optional: bool) -> list[Any] | None:
    if optional and following() is None:
        return None
    items = []
    while (item := following()) is not END:
        items.append(item)
    return items

"""The state of an object, taken down so that a later change can be seen.

A snapshot is one flat list, made by a function that is generated for the class: every leaf and every child of the
aggregate, in a fixed order, arrays closed by a mark. It copies references, not values. While nothing has been changed,
the same walk meets the very same objects at the same places, so that unchanged means: two lists are identical item by
item. No `==` is asked, which makes this both the fastest comparison and the strictest; `1` turned into `True` cannot
hide. Only where the lists differ does `diff` look closer. An object's state begins with the object, then come its
fields in the order of `layout`; it has a place in the list, and `after` tells where the next one begins. `span` tells
the same of an object as it is now, without its state.
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


def size_of(info: ModelInfo) -> int | None:
    """The length of an object's state, where all objects of the class have the same: it has leaves only."""
    return 1 + len(info.fields) if all(field.model is None and not field.is_array for field in info.fields) else None


def leaves_of(info: ModelInfo) -> list[FieldInfo]:
    """The fields that stand right behind the object, one item each."""
    return [field for field in info.fields if field.model is None and not field.is_array]


def make_span(info: ModelInfo) -> Callable[[Any], int]:
    """Generate `span(object)`: the length of the object's state."""
    source = Source(f"span of {info.place}")
    obj = source.fresh(variable(info.name))
    terms = [str(1 + len(leaves_of(info)))]
    for field in layout(info):
        value = f"{obj}.{field.name}"
        if field.model is not None:
            nested = field.model.__wintry_info__
            size, tracker = size_of(nested), source.bind(nested.tracker, f"{variable(nested.name)}_tracker")
            if field.is_array:
                terms.append(f"1 + {size} * len({value})" if size else f"1 + sum(map({tracker}.span, {value}))")
            else:
                terms.append(f"(1 if {value} is None else {size or f'{tracker}.span({value})'})")
        elif field.is_array:
            terms.append(f"(1 if {value} is None else 2 + len({value}))" if field.optional else f"1 + len({value})")
    with source.block(f"def span({obj}):"):
        source.line(f"return {' + '.join(terms)}")
    return source.compiled("span")[0]


def make_after(info: ModelInfo) -> Callable[[list[Any], int], int]:
    """Generate `after(items, at)`: where the state that begins at `at` has ended."""
    source = Source(f"states of {info.place}")
    source.bind(END, "END")
    items, at = source.fresh("items"), source.fresh("at")
    with source.block(f"def after({items}, {at}):"):
        source.line(f"{at} += {1 + len(leaves_of(info))}")
        for field in layout(info):
            step = f"{at} += 1"
            if field.model is not None:
                nested = field.model.__wintry_info__
                tracker = source.bind(nested.tracker, f"{variable(nested.name)}_tracker")
                size = size_of(nested)
                step = f"{at} += {size}" if size else f"{at} = {tracker}.after({items}, {at})"
            if not field.is_array and field.model is None:
                continue
            if field.is_array and not field.optional:
                _emit_to_end(source, items, at, step)
                continue
            with source.block(f"if {items}[{at}] is None:"):
                source.line(f"{at} += 1")
            with source.block("else:"):
                if field.is_array:
                    source.line(f"{at} += 1")  # PRESENT
                    _emit_to_end(source, items, at, step)
                else:
                    source.line(step)
        source.line(f"return {at}")
    return source.compiled("after")[0]


def _emit_to_end(source: Source, items: str, at: str, step: str) -> None:
    with source.block(f"while {items}[{at}] is not END:"):
        source.line(step)
    source.line(f"{at} += 1")


def read_leaves(items: list[Any], at: int, optional: bool) -> tuple[list[Any] | None, int]:
    """The list of scalars that begins at `at`, and where it has ended."""
    if optional:
        if items[at] is None:
            return None, at + 1
        at += 1
    end = at
    while items[end] is not END:
        end += 1
    return items[at:end], end + 1

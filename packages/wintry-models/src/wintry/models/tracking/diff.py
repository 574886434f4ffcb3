"""From two states to the operations between them.

`diff` walks the object again. If the walk meets what the snapshot met, nothing has changed. Otherwise `changes`,
generated for each class, goes along the snapshot and compares old and new field by field: a leaf counts as changed
unless `same_leaf`. What became of children says `arrange`. Those that lie before the first difference of the two walks,
or behind the last, are not looked at: what a comparison costs is what differs, not what there is (`comparison`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wintry.models.same import same_leaf
from wintry.models.source import Source, variable
from wintry.models.tracking.arrange import arrange_entities, arrange_values, compare_nested, same_leaves
from wintry.models.tracking.changes import ChangeSet, Place
from wintry.models.tracking.comparison import Comparison, Ownership, differing
from wintry.models.tracking.snapshot import (
    END,
    Snapshot,
    layout,
    leaves_of,
    make_after,
    make_flatten,
    make_span,
    read_leaves,
    size_of,
)

if TYPE_CHECKING:
    from wintry.models.info import ModelInfo
    from wintry.models.model import Model


def snapshot(obj: Model) -> Snapshot:
    """Take down the state of an object and of all that it owns.

    Raises `InvalidValue` if the object is not built as its class says.
    """
    info = _info_of(obj)
    return Snapshot(info.cls, info.tracker.state(obj))


def diff(old: Snapshot | Model, new: Model) -> ChangeSet:
    """The changes from `old` to `new`, an object of the same class.

    Raises `SharedChild`, `DuplicateChild` or `IdentityChanged` where the children cannot be told apart, `TypeError` if
    the classes differ, `InvalidValue` if `new` is not built as its class says. It does not look at the range of values:
    see `ChangeSet.check`.
    """
    tracker = _info_of(new).tracker
    if type(old) is not Snapshot:
        old = snapshot(old)  # type: ignore[arg-type]  # Snapshot is final in all but name
    if old.model is not tracker.info.cls:
        raise TypeError(f"cannot compare {old.model.__name__} with {tracker.info.name}")
    items = tracker.state(new)
    if old.unchanged(items):
        return tracker.nothing
    return tracker.compare(old, new, items)


def _info_of(obj: Any) -> ModelInfo:
    try:
        info: ModelInfo = type(obj).__wintry_info__
    except AttributeError:
        raise TypeError(f"{type(obj).__qualname__} is not a Model") from None
    return info


class Tracker:
    """The generated functions of one class, each made at first use."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    @cached_property
    def flatten(self) -> Callable[[Any, list[Any]], list[Any]]:
        return make_flatten(self.info)

    @cached_property
    def size(self) -> int | None:
        return size_of(self.info)

    @cached_property
    def reach(self) -> int:
        """How far behind an object, of this class or within, its id may stand."""
        return max((len(leaves_of(cls.__wintry_info__)) for cls in self.owned), default=0)

    @cached_property
    def span(self) -> Callable[[Any], int]:
        return make_span(self.info)

    @cached_property
    def after(self) -> Callable[[list[Any], int], int]:
        return make_after(self.info)

    @cached_property
    def changes(self) -> Callable[[int, Any, Place, Comparison], None]:
        return make_changes(self.info)

    @cached_property
    def nothing(self) -> ChangeSet:
        return ChangeSet(self.info.cls)

    @cached_property
    def new_id(self) -> Callable[[Any], Any]:
        return self.info.id_of

    @cached_property
    def old_id(self) -> Callable[[list[Any], int], Any]:
        """The id of the object whose old state begins at a place."""
        places = {field.name: number for number, field in enumerate(layout(self.info), 1)}
        first, *others = [places[field.name] for field in self.info.identity]
        if others:
            return lambda items, at: tuple([items[at + place] for place in (first, *others)])
        return lambda items, at: items[at + first]

    def before(self, first: int, children: Sequence[Any], at: int) -> tuple[int, int]:
        """How many of the children, the first of which begins at `at`, lie before `first`; and where the next begins."""
        if self.size is not None:
            number = min(len(children), max(0, first - at) // self.size)
            return number, at + number * self.size
        number = 0
        for child in children:
            after = at + self.span(child)
            if after > first:
                break
            at, number = after, number + 1
        return number, at

    def starts(self, items: list[Any], at: int) -> tuple[list[int], int]:
        """Where each old child of a list begins, from the one at `at` on, and where the list has ended."""
        found, size = [], self.size
        while items[at] is not END:
            found.append(at)
            at = at + size if size is not None else self.after(items, at)
        return found, at + 1

    @cached_property
    def owned(self) -> frozenset[type[Model]]:
        """The classes within, itself included, whose objects may stand in one place only."""
        found: set[type[Model]] = set()
        open_infos = [self.info]
        while open_infos:
            info = open_infos.pop()
            if info.cls not in found and not info.immutable:
                found.add(info.cls)
                open_infos += [field.model.__wintry_info__ for field in info.fields if field.model is not None]
        return frozenset(found)

    def state(self, obj: Any) -> list[Any]:
        """The items of a snapshot."""
        try:
            return self.flatten(obj, [])
        except (AttributeError, TypeError, RecursionError):
            self.info.check(obj)  # says what is wrong, and where
            raise

    def check_ownership(self, obj: Any) -> None:
        """Whether all children can be told apart. Raises `SharedChild` or `DuplicateChild`."""
        Ownership(self.info.name, {id(obj)}).walk(self.info, obj, None)

    def check_shared(self, obj: Any, items: list[Any]) -> None:
        """The same, in less time, for an object whose arrays have been looked at; `items` is its state."""
        owned = self.owned
        children = [item for item in items if type(item) in owned]
        if len(set(map(id, children))) != len(children):
            self.check_ownership(obj)

    def compare(self, old: Snapshot, new: Any, items: list[Any]) -> ChangeSet:
        """The changes to `new`, whose present state is `items`."""
        self.check_shared(new, items)
        first, rest = differing(old.items, items)
        run = Comparison(self.info.name, old.items, first, rest, max(0, first - self.reach))
        try:
            self.changes(0, new, None, run)
        except TypeError:
            self.info.check(new)
            raise
        return ChangeSet(self.info.cls, tuple(run.out))


def make_changes(info: ModelInfo) -> Callable[[int, Any, Place, Comparison], None]:
    """Generate `changes(start, new, at, run)`: what became of the object whose old state begins at `start`, for `run`."""
    source = Source(f"diff of {info.place}")
    for function in (same_leaf, same_leaves, read_leaves, arrange_entities, arrange_values, compare_nested):
        source.bind(function, function.__name__)
    start, new, at, run, items = (source.fresh(name) for name in ("start", "new", "at", "run", "items"))
    cls = source.bind(info.cls, info.name)
    value, after = source.fresh("value"), source.fresh("after")
    was = {field.name: source.fresh(f"old_{field.name}") for field in layout(info)}
    children: list[tuple[str, str]] = []
    with source.block(f"def changes({start}, {new}, {at}, {run}):"):
        with source.block(f"if type({new}) is not {cls}:"):
            source.line(f"{run}.other_class({at}, {cls}, {new})")
        source.line(f"{items} = {run}.items")
        leaves = leaves_of(info)
        names = "".join(f"{was[field.name]}, " for field in leaves)
        if leaves:
            source.line(f"{names}= {items}[{start} + 1 : {start} + {1 + len(leaves)}]")
        source.line(f"{after} = {start} + {1 + len(leaves)}")
        for field in layout(info)[len(leaves) :]:
            if field.model is None:
                source.line(f"{was[field.name]}, {after} = read_leaves({items}, {after}, {field.optional})")
                continue
            nested = field.model.__wintry_info__
            tracker = source.bind(nested.tracker, f"{variable(nested.name)}_tracker")
            if not field.is_array:
                source.line(f"{was[field.name]} = {after}")
                source.line(f"{after} = {after} + 1 if {items}[{after}] is None else {tracker}.after({items}, {after})")
                continue
            arrange = "arrange_entities" if nested.is_entity else "arrange_values"
            stayed = source.fresh(f"stayed_{field.name}")
            arguments = f"{at}, {field.name!r}, {after}, {new}.{field.name}, {tracker}, {run}"
            source.line(f"{stayed}, {after} = {arrange}({arguments})")
            children.append((stayed, tracker))
        for field in layout(info):
            if field.model is not None:
                continue
            source.line(f"{value} = {new}.{field.name}")
            same = "same_leaves" if field.is_array else "same_leaf"
            with source.block(f"if {value} is not {was[field.name]} and not {same}({was[field.name]}, {value}):"):
                if field.is_id:
                    source.line(f"{run}.identity_changed({at}, {field.name!r}, {was[field.name]}, {value})")
                else:
                    source.line(f"{run}.set({at}, {field.name!r}, {_kept(field.is_array, value)})")
        for field in layout(info):
            if field.model is not None and not field.is_array:
                nested = field.model.__wintry_info__
                tracker = source.bind(nested.tracker, f"{variable(nested.name)}_tracker")
                arguments = f"{at}, {field.name!r}, {was[field.name]}, {new}.{field.name}, {tracker}, {run}"
                source.line(f"compare_nested({arguments})")
        place, child, child_at = (source.fresh(name) for name in ("place", "child", "child_at"))
        for stayed, tracker in children:
            with source.block(f"for {place}, {child}, {child_at} in {stayed}:"):
                source.line(f"{tracker}.changes({place}, {child}, {child_at}, {run})")
    return source.compiled("changes")[0]


def _kept(is_array: bool, value: str) -> str:
    """A list of scalars goes into the change set as it is now, whatever becomes of it."""
    return f"None if {value} is None else list({value})" if is_array else value

"""From two states to the operations between them.

`diff` walks the object again. If the walk meets what the snapshot met, nothing has changed. Otherwise `changes`,
generated for each class, goes along the snapshot and compares old and new field by field: a leaf counts as changed
unless `same_leaf`. Children that lie before the first difference of the two walks, or behind the last, are not looked
at: what a comparison costs is what differs, not what there is. The others are matched by id. Those that stay keep their order as far as possible: the longest run that
is still in order stays put, the others move. Value items have no identity: they are matched by position while only the
end of the list or the inside of its items has changed; otherwise the array is replaced. On the way down a path is a
linked `Place`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import compress, count
from operator import is_not
from typing import TYPE_CHECKING, Any, TypeAlias

from wintry.models.errors import DuplicateChild, IdentityChanged, InvalidValue, SharedChild
from wintry.models.same import same_leaf
from wintry.models.source import Source, variable
from wintry.models.tracking.changes import ChangeSet, Insert, Key, Move, Operation, Place, Remove, Replace, Set, path_of
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

Stayed: TypeAlias = Sequence[tuple[int, Any, Place]]
"""Children that stay: where the old state of each begins, what it is now, and its place."""


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
        _Ownership(self.info.name, {id(obj)}).walk(self.info, obj, None)

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


def differing(old: list[Any], new: list[Any]) -> tuple[int, int]:
    """Where in `old` the first difference to `new` is, and where what follows the last one begins.

    The two ends may overlap, where something was put in or taken out between equal items.
    """
    common = min(len(old), len(new))
    first = next(compress(count(), map(is_not, old, new)), common)
    behind = next(compress(count(), map(is_not, reversed(old), reversed(new))), common)
    return first, len(old) - behind


class Comparison:
    """One comparison under way: what it has found, the snapshot that it goes along, and where that differs.

    Up to `first`, and from `rest` on, the object's present state has the same items. An object stands in one place only,
    so whoever is there is unchanged, with all that it owns.
    """

    def __init__(self, root: str, items: list[Any], first: int, rest: int, before: int) -> None:
        self.root = root
        self.items = items
        self.first = first
        self.rest = rest
        self.out: list[Operation] = []
        self._before = before  # objects that begin here or later may have another id

    def trial(self) -> Comparison:
        """One beside it, whose finds are for nobody, and which takes no object for an old one."""
        trial = Comparison(self.root, self.items, self.first, self.rest, self._before)
        trial.positions = {}
        return trial

    @cached_property
    def positions(self) -> dict[int, int]:
        """Where each object of the snapshot stands in it that may have another id now, by the object's address."""
        return {id(item): number for number, item in enumerate(self.items[self._before : self.rest], self._before)}

    def set(self, at: Place, name: str, value: Any) -> None:
        self.out.append(Set((*path_of(at), name), value))

    def identity_changed(self, at: Place, name: str, old: Any, new: Any) -> None:
        raise IdentityChanged(self.root, (*path_of(at), name), f"the id was {old!r} and is {new!r}")

    def other_class(self, at: Place, expected: type, value: Any) -> None:
        raise InvalidValue(self.root, path_of(at), f"expected {expected.__qualname__}, got {type(value).__qualname__}")

    def entering(self, tracker: Tracker, obj: Any, at: Place) -> None:
        """Look at an object that comes in with all that it owns. An old one must have kept its id."""
        ownership = _Ownership(self.root, {id(obj)}, self._known_id)
        ownership.keep_id(tracker.info, obj, at)
        ownership.walk(tracker.info, obj, at)

    def staying(self, tracker: Tracker, stayed: Stayed) -> None:
        """Look at children matched by id: an object that is not the one it was may be an old one of another id."""
        for start, child, place in stayed:
            if self.items[start] is not child:
                _Ownership(self.root, set(), self._known_id).keep_id(tracker.info, child, place)

    def _known_id(self, info: ModelInfo, obj: Any) -> Any:
        """The id that an object had in the snapshot, its present one if it was not there."""
        start = self.positions.get(id(obj))
        return info.id_of(obj) if start is None else info.tracker.old_id(self.items, start)


class _Ownership:
    """A walk through an object and all that it owns."""

    def __init__(self, root: str, seen: set[int], known_id: Callable[[ModelInfo, Any], Any] | None = None) -> None:
        self._root = root
        self._seen = seen
        self._known_id = known_id

    def walk(self, info: ModelInfo, obj: Any, at: Place) -> None:
        for field in info.fields:
            if field.model is None:
                continue
            nested, value = field.model.__wintry_info__, getattr(obj, field.name)
            if nested.immutable or value is None:
                continue
            if not field.is_array:
                self._enter(nested, value, (at, field.name))
                continue
            ids: set[Any] = set()
            for number, item in enumerate(value):
                if not nested.is_entity:
                    self._enter(nested, item, (at, field.name, number, int))
                    continue
                key = nested.id_of(item)
                place = (at, field.name, key, Key)
                self._enter(nested, item, place)
                if key in ids:
                    raise DuplicateChild(self._root, path_of(place), "two children of one id")
                ids.add(key)

    def keep_id(self, info: ModelInfo, obj: Any, at: Place) -> None:
        if self._known_id is not None and info.is_entity:
            was, now = self._known_id(info, obj), info.id_of(obj)
            if was != now:
                raise IdentityChanged(self._root, path_of(at), f"the id was {was!r} and is {now!r}")

    def _enter(self, info: ModelInfo, obj: Any, place: Place) -> None:
        if id(obj) in self._seen:
            raise SharedChild(self._root, path_of(place), "the same object stands in another place too; put in a copy")
        self._seen.add(id(obj))
        self.keep_id(info, obj, place)
        self.walk(info, obj, place)


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


def same_leaves(old: list[Any] | None, new: list[Any] | None) -> bool:
    if old is None or new is None:
        return old is new
    return len(old) == len(new) and all(a is b or same_leaf(a, b) for a, b in zip(old, new, strict=True))


def compare_nested(at: Place, name: str, start: int, new: Any, tracker: Tracker, run: Comparison) -> None:
    """The operations from a nested Model's old state to what is there now."""
    old = run.items[start]
    if old is None or new is None:
        if old is not new:
            run.set(at, name, new)
        if new is not None and old is None:
            run.entering(tracker, new, (at, name))
        return
    info = tracker.info
    if info.is_entity and old is not new and tracker.old_id(run.items, start) != tracker.new_id(new):
        run.out.append(Replace((*path_of(at), name), new))
        run.entering(tracker, new, (at, name))
    elif not info.frozen:
        if info.is_entity:
            run.staying(tracker, [(start, new, (at, name))])
        tracker.changes(start, new, (at, name), run)
    elif (old is not new or not info.immutable) and differs(start, new, (at, name), tracker, run):
        run.out.append(Replace((*path_of(at), name), new))


def differs(start: int, new: Any, at: Place, tracker: Tracker, run: Comparison) -> bool:
    """Whether a value has changed, without an operation for it."""
    trial = run.trial()
    tracker.changes(start, new, at, trial)
    return bool(trial.out)


def arrange_entities(
    at: Place, name: str, start: int, new: list[Any], tracker: Tracker, run: Comparison
) -> tuple[Stayed, int]:
    """What leaves, moves and enters an array of children, whose old state begins at `start`.

    Gives those that stay and may have changed, and where the old state of the array has ended.
    """
    items = run.items
    kept, start = tracker.before(run.first, new, start)
    if kept == len(new) and items[start] is END:
        return (), start + 1
    starts, end = tracker.starts(items, start)
    rest = new[kept:] if kept else new
    old_ids, new_ids = [tracker.old_id(items, start) for start in starts], list(map(tracker.new_id, rest))
    ids = [*map(tracker.new_id, new[:kept]), *new_ids] if kept else new_ids
    if len(set(ids)) != len(ids):
        twice = next(key for number, key in enumerate(ids) if key in ids[:number])
        raise DuplicateChild(run.root, path_of((at, name, twice, Key)), "two children of one id")
    if new_ids[: len(old_ids)] == old_ids:  # it only grew at its end, as most lists do
        if len(new_ids) > len(old_ids):
            path = (*path_of(at), name)
            for number in range(kept + len(old_ids), len(new)):
                run.entering(tracker, new[number], (at, name, ids[number], Key))
                run.out.append(Insert(path, number, new[number]))
        paired = zip(starts, rest, new_ids, strict=False)
    else:
        paired = zip(*_rearranged(at, name, starts, old_ids, rest, new_ids, kept, tracker, run), strict=True)
    behind = run.rest
    stayed = [
        (start, child, (at, name, key, Key))
        for start, child, key in paired
        if start < behind or items[start] is not child
    ]
    run.staying(tracker, stayed)
    return stayed, end


def _rearranged(
    at: Place,
    name: str,
    starts: list[int],
    old_ids: list[Any],
    new: list[Any],
    new_ids: list[Any],
    kept: int,
    tracker: Tracker,
    run: Comparison,
) -> tuple[list[int], list[Any], list[Any]]:
    """What leaves, moves and enters behind the first `kept` children; the places, objects and ids of those that stay."""
    path = (*path_of(at), name)
    old_positions = {key: number for number, key in enumerate(old_ids)}
    present = set(new_ids)
    run.out += [Remove(path, Key(key)) for key in old_ids if key not in present]
    stayed = [(number, key) for number, key in enumerate(new_ids) if key in old_positions]
    resting = longest_increasing([old_positions[key] for _, key in stayed])
    run.out += [
        Move(path, Key(key), kept + number) for place, (number, key) in enumerate(stayed) if place not in resting
    ]
    for number, key in enumerate(new_ids):
        if key not in old_positions:
            run.entering(tracker, new[number], (at, name, key, Key))
            run.out.append(Insert(path, kept + number, new[number]))
    return (
        [starts[old_positions[key]] for _, key in stayed],
        [new[number] for number, _ in stayed],
        [key for _, key in stayed],
    )


def arrange_values(
    at: Place, name: str, start: int, new: list[Any], tracker: Tracker, run: Comparison
) -> tuple[Stayed, int]:
    """What leaves and enters an array of value objects; gives those whose inside may have changed, and where it ends."""
    kept, start = tracker.before(run.first, new, start)
    if kept == len(new) and run.items[start] is END:
        return (), start + 1
    starts, end = tracker.starts(run.items, start)
    path, length = (*path_of(at), name), kept + len(starts)
    paired = [
        (start, item, (at, name, number, int))
        for number, (start, item) in enumerate(zip(starts, new[kept:], strict=False), kept)
    ]
    if length == len(new) and not tracker.info.frozen:
        return paired, end
    if any(differs(start, item, place, tracker, run) for start, item, place in paired):
        for number, item in enumerate(new):
            run.entering(tracker, item, (at, name, number, int))
        run.out.append(Replace(path, list(new)))
        return (), end
    run.out += [Remove(path, number) for number in range(len(new), length)]
    for number in range(length, len(new)):
        run.entering(tracker, new[number], (at, name, number, int))
        run.out.append(Insert(path, number, new[number]))
    return (), end


def longest_increasing(numbers: list[int]) -> set[int]:
    """The places of a longest increasing run within `numbers`, which are all different."""
    tails: list[int] = []  # the smallest last number of a run of each length
    ends: list[int] = []  # its place
    before: list[int] = []
    for place, number in enumerate(numbers):
        length = bisect_left(tails, number)
        before.append(ends[length - 1] if length else -1)
        if length == len(tails):
            tails.append(number)
            ends.append(place)
        else:
            tails[length] = number
            ends[length] = place
    found, place = set(), ends[-1] if ends else -1
    while place >= 0:
        found.add(place)
        place = before[place]
    return found

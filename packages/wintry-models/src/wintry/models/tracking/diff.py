"""From two states to the operations between them.

`diff` walks the object again. If the walk meets what the snapshot met, nothing has changed. Otherwise the snapshot gets
its form back and `changes`, generated for each class, compares old and new field by field: a leaf counts as changed
unless `same_leaf`. Children are matched by id. Those that stay keep their order as far as possible: the longest run that
is still in order stays put, the others move. Value items have no identity: they are matched by position while only the
end of the list or the inside of its items has changed; otherwise the array is replaced. On the way down a path is a
linked `Place`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from wintry.models.errors import DuplicateChild, IdentityChanged, InvalidValue, SharedChild
from wintry.models.same import same_leaf
from wintry.models.source import Source, variable
from wintry.models.tracking.changes import ChangeSet, Insert, Key, Move, Operation, Place, Remove, Replace, Set, path_of
from wintry.models.tracking.snapshot import Snapshot, layout, make_flatten, make_read

if TYPE_CHECKING:
    from wintry.models.info import ModelInfo
    from wintry.models.model import Model

Node: TypeAlias = tuple[Any, ...]  # an object's old state: the object, then its values in the order of layout()
Stayed: TypeAlias = Sequence[tuple[Node, Any, Place]]


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
    def read(self) -> Callable[[Any, Callable[[], Any]], Node]:
        return make_read(self.info)

    @cached_property
    def changes(self) -> Callable[[Node, Any, Place, Comparison], None]:
        return make_changes(self.info)

    @cached_property
    def nothing(self) -> ChangeSet:
        return ChangeSet(self.info.cls)

    @cached_property
    def new_id(self) -> Callable[[Any], Any]:
        return self.info.id_of

    @cached_property
    def old_id(self) -> Callable[[Node], Any]:
        positions = {field.name: number for number, field in enumerate(layout(self.info), 1)}
        return itemgetter(*(positions[field.name] for field in self.info.identity))

    @cached_property
    def owned(self) -> frozenset[type]:
        """The classes within, itself included, whose objects may stand in one place only."""
        found: set[type] = set()
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
        run = Comparison(self.info.name, old.items)
        following = iter(old.items).__next__
        try:
            self.changes(self.read(following(), following), new, None, run)
        except TypeError:
            self.info.check(new)
            raise
        return ChangeSet(self.info.cls, tuple(run.out))


class Comparison:
    """One comparison under way: what it has found, and the snapshot that it started from."""

    def __init__(self, root: str, old_items: list[Any]) -> None:
        self.root = root
        self.out: list[Operation] = []
        self._old_items = old_items

    @cached_property
    def positions(self) -> dict[int, int]:
        """Where each object of the snapshot stands in it, by the object's address."""
        return {id(item): number for number, item in enumerate(self._old_items)}

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
        for node, child, place in stayed:
            if node[0] is not child:
                _Ownership(self.root, set(), self._known_id).keep_id(tracker.info, child, place)

    def _known_id(self, info: ModelInfo, obj: Any) -> Any:
        """The id that an object had in the snapshot, its present one if it was not there."""
        start = self.positions.get(id(obj))
        if start is None:
            return info.id_of(obj)
        return info.tracker.old_id(tuple(self._old_items[start : start + 1 + len(info.fields)]))


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


def make_changes(info: ModelInfo) -> Callable[[Node, Any, Place, Comparison], None]:
    """Generate `changes(old, new, at, run)`, which gives `run` the operations from the node `old` to the object `new`."""
    source = Source(f"diff of {info.place}")
    for function in (same_leaf, same_leaves, arrange_entities, arrange_values, compare_nested):
        source.bind(function, function.__name__)
    old, new, at, run = (source.fresh(name) for name in ("old", "new", "at", "run"))
    cls = source.bind(info.cls, info.name)
    fields = layout(info)
    was = {field.name: source.fresh(f"old_{field.name}") for field in fields}
    value = source.fresh("value")
    children: list[tuple[str, str]] = []
    with source.block(f"def changes({old}, {new}, {at}, {run}):"):
        with source.block(f"if type({new}) is not {cls}:"):
            source.line(f"{run}.other_class({at}, {cls}, {new})")
        source.line(f"{', '.join(['_', *was.values()])} = {old}" if was else "pass")
        for field in info.arrays:
            assert field.model is not None
            nested = field.model.__wintry_info__
            tracker = source.bind(nested.tracker, f"{variable(nested.name)}_tracker")
            arrange = "arrange_entities" if nested.is_entity else "arrange_values"
            stayed = source.fresh(f"stayed_{field.name}")
            arguments = f"{at}, {field.name!r}, {was[field.name]}, {new}.{field.name}, {tracker}, {run}"
            source.line(f"{stayed} = {arrange}({arguments})")
            children.append((stayed, tracker))
        for field in fields:
            if field.model is not None:
                continue
            source.line(f"{value} = {new}.{field.name}")
            same = "same_leaves" if field.is_array else "same_leaf"
            with source.block(f"if {value} is not {was[field.name]} and not {same}({was[field.name]}, {value}):"):
                if field.is_id:
                    source.line(f"{run}.identity_changed({at}, {field.name!r}, {was[field.name]}, {value})")
                else:
                    source.line(f"{run}.set({at}, {field.name!r}, {_kept(field.is_array, value)})")
        for field in fields:
            if field.model is not None and not field.is_array:
                nested = field.model.__wintry_info__
                tracker = source.bind(nested.tracker, f"{variable(nested.name)}_tracker")
                arguments = f"{at}, {field.name!r}, {was[field.name]}, {new}.{field.name}, {tracker}, {run}"
                source.line(f"compare_nested({arguments})")
        old_child, child, place = (source.fresh(name) for name in ("old_child", "child", "place"))
        for stayed, tracker in children:
            with source.block(f"for {old_child}, {child}, {place} in {stayed}:"):
                source.line(f"{tracker}.changes({old_child}, {child}, {place}, {run})")
    return source.compiled("changes")[0]


def _kept(is_array: bool, value: str) -> str:
    """A list of scalars goes into the change set as it is now, whatever becomes of it."""
    return f"None if {value} is None else list({value})" if is_array else value


def same_leaves(old: list[Any] | None, new: list[Any] | None) -> bool:
    if old is None or new is None:
        return old is new
    return len(old) == len(new) and all(a is b or same_leaf(a, b) for a, b in zip(old, new, strict=True))


def compare_nested(at: Place, name: str, old: Node | None, new: Any, tracker: Tracker, run: Comparison) -> None:
    """The operations from a nested Model's old state to what is there now."""
    if old is None or new is None:
        if old is not new:
            run.set(at, name, new)
        if new is not None and old is None:
            run.entering(tracker, new, (at, name))
        return
    info = tracker.info
    if info.is_entity and old[0] is not new and tracker.old_id(old) != tracker.new_id(new):
        run.out.append(Replace((*path_of(at), name), new))
        run.entering(tracker, new, (at, name))
    elif not info.frozen:
        if info.is_entity:
            run.staying(tracker, [(old, new, (at, name))])
        tracker.changes(old, new, (at, name), run)
    elif (old[0] is not new or not info.immutable) and differs(old, new, (at, name), tracker, run):
        run.out.append(Replace((*path_of(at), name), new))


def differs(old: Node, new: Any, at: Place, tracker: Tracker, run: Comparison) -> bool:
    """Whether a value has changed, without an operation for it."""
    trial = Comparison(run.root, [])
    tracker.changes(old, new, at, trial)
    return bool(trial.out)


def arrange_entities(
    at: Place, name: str, old: list[Node], new: list[Any], tracker: Tracker, run: Comparison
) -> Stayed:
    """What leaves, moves and enters an array of children; gives those that stay with their old state."""
    old_ids, new_ids = list(map(tracker.old_id, old)), list(map(tracker.new_id, new))
    if len(set(new_ids)) != len(new_ids):
        twice = next(key for number, key in enumerate(new_ids) if key in new_ids[:number])
        raise DuplicateChild(run.root, path_of((at, name, twice, Key)), "two children of one id")
    if old_ids == new_ids:
        same_order = [(node, child, (at, name, key, Key)) for node, child, key in zip(old, new, new_ids, strict=True)]
        run.staying(tracker, same_order)
        return same_order
    path = (*path_of(at), name)
    if new_ids[: len(old_ids)] == old_ids:  # it only grew at its end, as most lists do
        for number in range(len(old_ids), len(new_ids)):
            run.entering(tracker, new[number], (at, name, new_ids[number], Key))
            run.out.append(Insert(path, number, new[number]))
        grown = [(node, child, (at, name, key, Key)) for node, child, key in zip(old, new, new_ids, strict=False)]
        run.staying(tracker, grown)
        return grown
    old_positions = {key: number for number, key in enumerate(old_ids)}
    present = set(new_ids)
    run.out += [Remove(path, Key(key)) for key in old_ids if key not in present]
    stayed = [(number, key) for number, key in enumerate(new_ids) if key in old_positions]
    resting = longest_increasing([old_positions[key] for _, key in stayed])
    run.out += [Move(path, Key(key), number) for place, (number, key) in enumerate(stayed) if place not in resting]
    for number, key in enumerate(new_ids):
        if key not in old_positions:
            run.entering(tracker, new[number], (at, name, key, Key))
            run.out.append(Insert(path, number, new[number]))
    survivors = [(old[old_positions[key]], new[number], (at, name, key, Key)) for number, key in stayed]
    run.staying(tracker, survivors)
    return survivors


def arrange_values(at: Place, name: str, old: list[Node], new: list[Any], tracker: Tracker, run: Comparison) -> Stayed:
    """What leaves and enters an array of value objects; gives those whose inside may have changed."""
    path, common = (*path_of(at), name), min(len(old), len(new))
    paired = [(old[number], new[number], (at, name, number, int)) for number in range(common)]
    if len(old) == len(new) and not tracker.info.frozen:
        return paired
    if any(differs(node, item, place, tracker, run) for node, item, place in paired):
        for number, item in enumerate(new):
            run.entering(tracker, item, (at, name, number, int))
        run.out.append(Replace(path, list(new)))
        return []
    run.out += [Remove(path, number) for number in range(common, len(old))]
    for number in range(common, len(new)):
        run.entering(tracker, new[number], (at, name, number, int))
        run.out.append(Insert(path, number, new[number]))
    return []


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

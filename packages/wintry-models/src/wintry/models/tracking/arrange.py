"""What became of the children of an object: those that stay, move, come in and leave.

Children are matched by id. Those that stay keep their order as far as possible: the longest run that is still in order
stays put, the others move. Value items have no identity: they are matched by position while only the end of the list or
the inside of its items has changed; otherwise the array is replaced. What lies before the first difference of the two
walks, or behind the last, is not looked at.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from wintry.models.errors import DuplicateChild
from wintry.models.same import same_leaf
from wintry.models.tracking.changes import Insert, Key, Move, Place, Remove, Replace, path_of
from wintry.models.tracking.comparison import Comparison, Stayed
from wintry.models.tracking.snapshot import END

if TYPE_CHECKING:
    from wintry.models.tracking.diff import Tracker


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

"""Where items go in a list that is stored with positions.

Positions are integers with gaps. What stays in order keeps its position; what is new or moved gets one between its
neighbours; only where no integer is left between them is the whole list numbered again. `place` is pure: from the stored
list and the changes to it, the new list with a position for every item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wintry.models import Model

from .layout import GAP
from .statements import Row


@dataclass(slots=True)
class ArrayEdit:
    """What happens to one array: keys are encoded, positions are places in the old or new list."""

    removed: set[Row] = field(default_factory=set)
    removed_places: set[int] = field(default_factory=set)
    moved: dict[Row, int] = field(default_factory=dict)
    inserted: dict[int, Model] = field(default_factory=dict)

    def edges(self, length: int) -> tuple[list[Model], list[Model]] | None:
        """What is put in front and what behind, if that is all that needs positions; `length` of the new list."""
        if self.moved or self.removed_places:
            return None
        front = 0
        while front in self.inserted:
            front += 1
        back = length
        while back > front and back - 1 in self.inserted:
            back -= 1
        if front + length - back < len(self.inserted):
            return None
        if front == length:  # the list held nothing before, or nothing of it is left
            front = 0
            back = 0
        return [self.inserted[place] for place in range(front)], [self.inserted[place] for place in range(back, length)]


@dataclass(slots=True)
class Placed:
    """An item of the new list: a stored row by its key, or a new object."""

    item: Row | Model
    position: int
    stored_at: int | None
    """The position it is stored with; None for a new object."""


def place(stored: Sequence[tuple[Row, int]], edit: ArrayEdit, *, afresh: bool) -> tuple[list[Placed], list[Row]]:
    """The new list with positions, and the keys of the rows that go.

    `stored` are the keys and positions of the rows, in order. `afresh`: rows are keyed by their positions, so that none
    that was in use may be used again.
    """
    gone = [key for at, (key, _) in enumerate(stored) if key in edit.removed or at in edit.removed_places]
    leaving = {*gone, *edit.moved}
    where = dict(stored)
    items: list[tuple[Any, int | None]] = [(key, position) for key, position in stored if key not in leaving]
    entering: list[tuple[int, Any]] = [*((index, key) for key, index in edit.moved.items()), *edit.inserted.items()]
    for index, item in sorted(entering, key=lambda entry: entry[0]):
        items.insert(index, (item, None))
    positions = _between([position for _, position in items])
    if positions is None:
        first = max(where.values(), default=0) if afresh else 0
        positions = [first + GAP * (number + 1) for number in range(len(items))]
    return [
        Placed(item, position, where.get(item) if isinstance(item, tuple) else None)
        for (item, _), position in zip(items, positions, strict=True)
    ], gone


def _between(known: list[int | None]) -> list[int] | None:
    """`known` with its gaps filled in order; None where one is too narrow."""
    filled: list[int] = []
    start = 0
    while start < len(known):
        position = known[start]
        if position is not None:
            filled.append(position)
            start += 1
            continue
        end = start
        while end < len(known) and known[end] is None:
            end += 1
        count = end - start
        low = filled[-1] if filled else None
        high = known[end] if end < len(known) else None
        if high is None:
            filled += [(low or 0) + GAP * (number + 1) for number in range(count)]
        elif low is None:
            filled += [high - GAP * (count - number) for number in range(count)]
        elif (step := (high - low) // (count + 1)) > 0:
            filled += [low + step * (number + 1) for number in range(count)]
        else:
            return None
        start = end
    return filled

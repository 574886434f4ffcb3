"""What the rooms of this backend hand to a dialect: statements as text with their values, and what may go wrong.

A statement that changes rows travels in a `Step`: one text and the rows of values that it runs with. All steps of one
write travel together, so that a driver with a costly way to its database goes there once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .layout import Node

Row: TypeAlias = "tuple[Any, ...]"


@dataclass(slots=True, eq=False)
class Step:
    """`text` run once for each of `rows`, all in order; `guarded`: every run must change exactly one row."""

    text: str
    node: Node
    columns: tuple[str, ...] = ()
    """The columns that the first values of each row are stored in."""
    guarded: bool = False
    rows: list[Row] = field(default_factory=list)


class Refused(Exception):
    """The database did not do `step` for its row number `place`; `cause` is the driver's error, if it gave one."""

    def __init__(self, step: Step, place: int, cause: Exception | None = None) -> None:
        super().__init__(step.text, place, cause)
        self.step = step
        self.place = place
        self.cause = cause

"""What a method name says: the tree of one reading.

The language has no brackets, and `and` binds tighter than `or`; so a condition is a disjunction of conjunctions, two
tuples deep. Paths stand here as they are written, across arrays; `plan.py` cuts them there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from wintry.models.info import FieldInfo

    from .operators import Operator

Path: TypeAlias = "tuple[FieldInfo, ...]"
"""Fields from a Model to a value."""

Verb: TypeAlias = Literal["find", "count", "exists", "delete"]
"""What a query does."""


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison.

    `excluded` is a `not_` before the path: no row, and of an array no element, may fulfil it. `negated` is a `_not`
    after the path: the complement for the one value, or the one element, that is compared. `suffix` is what follows
    the path, as written.
    """

    path: Path
    operator: Operator
    excluded: bool = False
    negated: bool = False
    suffix: str = ""

    @property
    def field(self) -> FieldInfo:
        """The field whose value is compared."""
        return self.path[-1]

    @property
    def name(self) -> str:
        """The path as written in a method name."""
        return "__".join(step.name for step in self.path)

    def __str__(self) -> str:
        operator = self.operator.value.replace("_", " ")
        words = ["not"] * self.excluded + [".".join(step.name for step in self.path)] + ["not"] * self.negated
        return " ".join([*words, operator])


@dataclass(frozen=True, slots=True)
class Key:
    """One key to sort by."""

    path: Path
    descending: bool = False

    def __str__(self) -> str:
        return f"{'.'.join(step.name for step in self.path)} {'desc' if self.descending else 'asc'}"


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a method name.

    `word` is the verb as written and `verb` what it means; `limit` is the number of `first_N` (1 for a bare `first`);
    `single` says `_one`, `locked` says `_for_update`, and `groups` is None without `_by_`.
    """

    word: str
    verb: Verb
    limit: int | None = None
    single: bool = False
    groups: tuple[tuple[Term, ...], ...] | None = None
    order: tuple[Key, ...] = ()
    locked: bool = False

    @property
    def terms(self) -> tuple[Term, ...]:
        """The comparisons in the order in which they are written."""
        return tuple(term for group in self.groups or () for term in group)

    def __str__(self) -> str:
        parts = [self.word]
        if self.limit is not None:
            parts.append(f"first {self.limit}")
        if self.groups is not None:
            texts = [" and ".join(f"[{term}]" for term in group) for group in self.groups]
            parts.append("by " + " or ".join(texts))
        if self.order:
            parts.append("order by " + ", ".join(str(key) for key in self.order))
        if self.locked:
            parts.append("for update")
        return " ".join(parts)

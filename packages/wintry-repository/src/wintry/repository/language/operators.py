"""The comparisons of the language: one table of names, aliases and arity.

`Operator` is the closed set that every backend compiles. `SPELLINGS` maps what may follow a path in a method name,
words joined by `_`, to the operator that it means. Words that begin with `not` stand in the table only where the
operator is a member of the set (`not_in`, `not_null`); any other negation is the parser's `not`, the exact complement
of the rest. The camel-case spellings of older grammars (`lowerThan`, `NotEqualTo`) are matched by `spelling` without
regard to case and to the humps between the words.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import Final


class Operator(Enum):
    """How a stored value is compared with the arguments. The value is the operator's own name in a method name."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    IN = "in"
    NOT_IN = "not_in"
    BETWEEN = "between"
    NULL = "null"
    NOT_NULL = "not_null"

    @property
    def arity(self) -> int:
        """How many arguments it takes: two for `between`, none for `null`, one iterable for `in`."""
        return _ARITY.get(self, 1)

    @property
    def ordered(self) -> bool:
        """Whether it compares by order: False for a None in the row, refused for a None argument."""
        return self in _ORDERED

    @property
    def absence(self) -> bool:
        """Whether it asks for nothing but None; of a list, whether the list itself is None."""
        return self in (Operator.NULL, Operator.NOT_NULL)

    @property
    def many(self) -> bool:
        """Whether its argument is an iterable of values."""
        return self in _MANY

    @property
    def complement(self) -> Operator | None:
        """The operator that is true exactly where this one is false, if there is one."""
        return _COMPLEMENT.get(self)


_ARITY: Final = {Operator.BETWEEN: 2, Operator.NULL: 0, Operator.NOT_NULL: 0}
_ORDERED: Final = frozenset({Operator.LT, Operator.LTE, Operator.GT, Operator.GTE, Operator.BETWEEN})
_MANY: Final = frozenset({Operator.IN, Operator.NOT_IN})
_COMPLEMENT: Final = {
    Operator.EQ: Operator.NE,
    Operator.NE: Operator.EQ,
    Operator.IN: Operator.NOT_IN,
    Operator.NOT_IN: Operator.IN,
    Operator.NULL: Operator.NOT_NULL,
    Operator.NOT_NULL: Operator.NULL,
}

_ALIASES: Final[dict[Operator, tuple[str, ...]]] = {
    Operator.EQ: ("eq", "equals", "equal", "equal_to", "exact", "is"),
    Operator.NE: ("ne", "neq", "not", "is_not", "not_equal", "not_equals", "not_equal_to"),
    Operator.LT: ("lt", "less_than", "lower_than", "before"),
    Operator.LTE: ("lte", "le", "less_than_equal", "less_than_or_equal", "less_than_or_equal_to", "lower_than_equal"),
    Operator.GT: ("gt", "greater_than", "after"),
    Operator.GTE: ("gte", "ge", "greater_than_equal", "greater_than_or_equal", "greater_than_or_equal_to"),
    Operator.IN: ("in", "in_list", "is_in"),
    Operator.NOT_IN: ("not_in", "not_in_list", "is_not_in"),
    Operator.BETWEEN: ("between", "range", "in_range", "is_between"),
    Operator.NULL: ("null", "is_null", "isnull", "none", "is_none"),
    Operator.NOT_NULL: ("not_null", "is_not_null", "notnull", "not_none", "is_not_none"),
}

SPELLINGS: Final = MappingProxyType({name: operator for operator, names in _ALIASES.items() for name in names})
"""What may stand after a path in a method name, words joined by `_`: the operator that it means."""

_SQUASHED: Final = {name.replace("_", ""): operator for name, operator in SPELLINGS.items()}


def spelling(word: str) -> Operator | None:
    """The operator that `word` spells, in snake case or in any camel case; None for any other word."""
    return SPELLINGS.get(word) or _SQUASHED.get(word.lower())

"""The values that a query is called with, checked before any backend sees them.

A field of a leaf type can only hold what the contract of stored values allows, and comparing it with anything else has
no meaning that all stores share; so an argument of another type, out of range, naive in time or carrying a NUL is
refused here, with the same words on every backend. None is a value like any other, except where an order is asked.
The generated methods test the common case inline (`quick_test`) and come here only for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Final, TypeAlias

from ..errors import InvalidArgument

Value: TypeAlias = Any

MAX_INT: Final = 2**63 - 1
MIN_INT: Final = -(2**63)

_QUICK: Final[Mapping[type, str]] = {
    str: "{type_of}({0}) is not {type} or not {0}.isprintable()",
    int: f"{{type_of}}({{0}}) is not {{type}} or not {MIN_INT} <= {{0}} <= {MAX_INT}",
    bool: "{type_of}({0}) is not {type}",
    date: "{type_of}({0}) is not {type}",
}
"""Tests of the leaf types that one expression can decide. `type_of` is the name of `type`, whatever shadows it."""


def quick_test(leaf: type, bind: Callable[[object, str], str]) -> Callable[[str], str] | None:
    """Makes, of the name of a value, an expression that is true where it must go through `one`; None: always.

    `bind` gives the name under which the code reaches an object.
    """
    pattern = _QUICK.get(leaf)
    if pattern is None:
        return None
    return partial(pattern.format, type=bind(leaf, leaf.__name__), type_of=bind(type, "type"))


def one(value: Value, type: type, place: str, *, optional: bool) -> Value:
    """`value` as the exact `type`, a time in UTC, or None. Raises `InvalidArgument` naming `place`."""
    if value is None:
        if optional:
            return None
        raise InvalidArgument(f"{place}: None has no order; give a {type.__name__}")
    reason = _reason(value, type)
    if reason is not None:
        raise InvalidArgument(f"{place}: {reason}")
    if type is float:
        return float(value)
    if type is datetime:
        return value.astimezone(UTC)  # an instant: elsewhere Python compares what the clocks of a zone show
    return str.__str__(value) if type is str else value


def many(values: Iterable[Value], type: type, place: str) -> tuple[Value, ...]:
    """Each of `values`, in a tuple without repetitions. Raises `InvalidArgument` naming `place`."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidArgument(f"{place}: an iterable of {type.__name__} is wanted, not {_shown(values)}")
    return tuple(dict.fromkeys(one(value, type, place, optional=True) for value in values))


def pair(values: Iterable[Value], type: type, place: str) -> tuple[Value, Value]:
    """The two ends of a range. Raises `InvalidArgument` naming `place`."""
    ends = tuple(values) if isinstance(values, Iterable) and not isinstance(values, (str, bytes)) else ()
    if len(ends) != 2:
        raise InvalidArgument(f"{place}: a pair (from, to) is wanted, not {_shown(values)}")
    low, high = (one(end, type, place, optional=False) for end in ends)
    return low, high


def _reason(value: Value, type: type) -> str | None:
    """Why `value` is not one that a field of `type` can hold; None where it is."""
    if type is int:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"an int is wanted, not {_shown(value)}"
        return None if MIN_INT <= value <= MAX_INT else f"{_shown(value)} is out of the range of 64 bits"
    if type is float:
        if isinstance(value, bool) or not isinstance(value, (float, int)):
            return f"a float is wanted, not {_shown(value)}"
        try:
            return None if math.isfinite(value) else f"{value} is not finite"
        except OverflowError:
            return f"{_shown(value)} is out of the range of a float"
    if type is date:
        if not isinstance(value, date) or isinstance(value, datetime):
            return f"a date is wanted, not {_shown(value)}"
        return None
    if not isinstance(value, type):
        return f"a {type.__name__} is wanted, not {_shown(value)}"
    if isinstance(value, str):
        return _text_reason(value)
    if isinstance(value, datetime):
        return _moment_reason(value)
    return None


def _moment_reason(value: datetime) -> str | None:
    if value.utcoffset() is None:
        return f"a datetime with a time zone is wanted, not {_shown(value)}"
    try:
        value.astimezone(UTC)
    except OverflowError:
        return f"{value.isoformat()} is out of range in UTC"
    return None


def _text_reason(value: str) -> str | None:
    if "\0" in value:
        return "text cannot hold a NUL"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "text cannot hold half of a surrogate pair"
    return None


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 1000:  # from some length on Python refuses to write it out
        return f"a number of {value.bit_length()} bits ({type(value).__name__})"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__})"

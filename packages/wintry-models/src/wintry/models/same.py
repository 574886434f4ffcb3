"""Structural equality, deep and exact.

`==` of an entity asks for its id and `==` of Python holds `True`, `1` and `1.0` equal; neither tells whether two
aggregates hold the same state. `same` does: equal types at every place, equal values at every leaf, Models compared
field by field, stored fields only. Instants are equal whatever their zones; floats are equal with their sign, and NaN
is the same as NaN. The generated comparison of `tracking` uses `same_leaf` for its leaves, so that the two cannot differ.
"""

from __future__ import annotations

from math import copysign, isnan
from typing import Any


def same(a: Any, b: Any) -> bool:
    """Whether `a` and `b` are of one type and structure and hold the same values at every depth."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    info = type(a).__dict__.get("__wintry_info__")
    if info is not None:
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in info.fields)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(key in b and same(value, b[key]) for key, value in a.items())
    return same_leaf(a, b)


def same_leaf(a: Any, b: Any) -> bool:
    """The same for scalars."""
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return (a == b and copysign(1, a) == copysign(1, b)) or (isnan(a) and isnan(b))
    return bool(a == b)

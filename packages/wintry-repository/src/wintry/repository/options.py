"""Options of connections, checked.

An option comes from code as what it is, or from a settings file or the environment as text. Each checker takes both,
and says the name, what is wanted and what it was given.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from .errors import ConfigurationError

N = TypeVar("N", int, float)


def number(name: str, value: Any, least: N) -> N:
    """`value` as a number of the type of `least`, and not below it. Raises `ConfigurationError`.

    A number may be text, as it is where it comes from the environment.
    """
    kind = type(least)
    try:
        found = kind(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    kinds = int if kind is int else (int, float)
    if isinstance(found, bool) or not isinstance(found, kinds) or not math.isfinite(found) or found < least:
        raise ConfigurationError(f"{name} is a number of at least {least}, not {value!r}")
    return kind(found)

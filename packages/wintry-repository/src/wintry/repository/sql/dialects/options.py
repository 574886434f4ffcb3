"""Connection options, checked."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from ...errors import ConfigurationError

N = TypeVar("N", int, float)


def number(name: str, value: Any, least: N) -> N:
    """`value` as a number of the type of `least`, and not below it. Raises `ConfigurationError`."""
    kinds = int if isinstance(least, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value < least:
        raise ConfigurationError(f"{name} is a number of at least {least}, not {value!r}")
    return type(least)(value)

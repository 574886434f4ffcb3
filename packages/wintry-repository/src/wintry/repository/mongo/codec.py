"""Scalars in BSON: what is written of each type, and what comes back.

Each type has one BSON type, so that no comparison meets two: ints are 64 bits wide, a date is the midnight that begins
it in UTC. BSON's own date ends at milliseconds; an instant is therefore a document of its date and of the microseconds
that are left over. MongoDB compares documents field by field, so that these are ordered, found and kept apart as
instants are; `at.date` is there for whoever reads along.

Dates come from the driver without a zone (the backend's codec options say so).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Final

from bson.int64 import Int64


def midnight(value: date) -> datetime:
    """A date as it is stored."""
    return datetime(value.year, value.month, value.day)


def day(value: datetime) -> date:
    """The date that is stored."""
    return value.date()


def moment(value: datetime) -> dict[str, Any]:
    """An aware datetime as it is stored."""
    instant = value.astimezone(UTC).replace(tzinfo=None)
    rest = instant.microsecond % 1000
    return {"date": instant.replace(microsecond=instant.microsecond - rest), "us": rest}


def instant(value: Any) -> datetime:
    """The datetime that is stored, in UTC; a plain date of the store, as others write it, is one too."""
    try:
        found: datetime = value["date"]
    except TypeError:
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC)
        raise
    return found.replace(microsecond=found.microsecond + value["us"], tzinfo=UTC)


ENCODERS: Final = MappingProxyType[type, Callable[[Any], Any]]({int: Int64, date: midnight, datetime: moment})
"""What makes the stored value; a type that is not here is stored as it is."""

DECODERS: Final = MappingProxyType[type, Callable[[Any], Any]]({int: int, date: day, datetime: instant})
"""What makes a Python value of a stored one; a type that is not here comes as it is."""

LOWEST: Final = MappingProxyType[type, Any](
    {
        str: "",
        int: Int64(-(2**63)),
        float: float("-inf"),
        bool: False,
        date: datetime(1, 1, 1),
        datetime: {},
    }
)
"""A stored value that no other of its type comes before; null does."""


def encoder(kind: type | None) -> Callable[[Any], Any]:
    """What makes the stored value of one that is not None."""
    return _itself if kind is None else ENCODERS.get(kind, _itself)


def decoder(kind: type | None) -> Callable[[Any], Any]:
    """What makes a Python value of one that is not null."""
    return _itself if kind is None else DECODERS.get(kind, _itself)


def _itself(value: Any) -> Any:
    return value

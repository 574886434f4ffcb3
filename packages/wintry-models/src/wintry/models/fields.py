"""What a class body says of its fields beyond their annotations.

The specifiers make ordinary dataclass fields; what they say goes into the field's metadata, where `info` finds it.
`RequiredId`, `Id` and `Field` are known to type checkers as field specifiers. `Array` and `Transient` are not: a checker
that takes a call for a specifier calls the field required unless a default is among the arguments, so these two pose as
plain default values.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import MISSING, field
from typing import Any, TypeVar, cast, overload
from uuid import UUID

from wintry.models.info import METADATA, FieldOptions

T = TypeVar("T")


def RequiredId(*, unique: bool = False) -> Any:
    """An identity field that must be given. Several of them are a composite identity, in declared order.

    `unique=True`: unique over all aggregates of the store, not only in its parent.
    """
    return field(metadata={METADATA: FieldOptions(is_id=True, unique=unique)})


def Id(*, default_factory: Callable[[], T], unique: bool = False) -> T:
    """An identity field that `default_factory` fills where it is not given: `Id(default_factory=AutoString)`."""
    options = FieldOptions(is_id=True, unique=unique)
    return field(default_factory=default_factory, metadata={METADATA: options})


def Array() -> list[Any]:
    """A list that the object owns, empty by default. Its Models are children: stored and deleted with the object."""
    return cast(list[Any], field(default_factory=list, metadata={METADATA: FieldOptions(array=True)}))


@overload
def Field(*, default: T, index: bool = False, unique: bool = False) -> T: ...
@overload
def Field(*, default_factory: Callable[[], T], index: bool = False, unique: bool = False) -> T: ...
@overload
def Field(*, index: bool = False, unique: bool = False) -> Any: ...
def Field(*, default: Any = MISSING, default_factory: Any = MISSING, index: bool = False, unique: bool = False) -> Any:
    """A stored field with options: `index=True` asks the store for an index, `unique=True` for uniqueness over all
    aggregates."""
    options = FieldOptions(unique=unique, index=index)
    return field(default=default, default_factory=default_factory, metadata={METADATA: options})


@overload
def Transient() -> list[Any]: ...
@overload
def Transient(*, default: T) -> T: ...
@overload
def Transient(*, default_factory: Callable[[], T]) -> T: ...
def Transient(*, default: Any = MISSING, default_factory: Any = MISSING) -> Any:
    """A field of any type that is not stored, compared, copied or serialised, such as pending events: an empty list
    unless `default` or `default_factory` says otherwise."""
    if default is MISSING and default_factory is MISSING:
        default_factory = list
    options = FieldOptions(stored=False)
    metadata = {METADATA: options}
    return field(default=default, default_factory=default_factory, repr=False, compare=False, metadata=metadata)


def AutoUUID() -> UUID:
    """A new UUID of version 7: unique across processes, ordered by time to the quarter of a microsecond."""
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = rest * 4096 // 1_000_000  # the 12 bits after the version: RFC 9562, 6.2, method 3
    random = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random)


def AutoString() -> str:
    """The 32 hexadecimal digits of `AutoUUID()`."""
    return AutoUUID().hex

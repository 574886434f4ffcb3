"""How a unit of work is misused, and the names of what a store can refuse.

    UnitError                (RepositoryError)  a unit is used in a way that cannot work
    ├── NotEntered                              a method of a running unit, called on the object that was injected
    ├── UnitClosed                              a unit, or a repository of it, used after its block was left
    ├── ConcurrentUnitUse                       a task uses a unit that another one entered
    ├── ForeignObject                           an object that this unit does not hold, or that another unit does
    ├── LockTooLate                             a locked load that is not the first call of its unit
    ├── ReadOnlyUnit                            a write in a unit that was opened with `read_only=True`
    └── SeveralBackends                         repositories of several backends without `allow_multi=True`
    UncommittedChanges       (UserWarning)      a block was left with changes and without `commit()`

All that a store refuses (`Conflict`, `AlreadyExists`, `UnitAborted` …) is the tree of `wintry.repository.errors`; its
names are handed on here, so that one import serves.
"""

from __future__ import annotations

import asyncio

from wintry.repository.errors import (
    AlreadyExists,
    ConcurrentModification,
    Conflict,
    DefinitionError,
    NotFound,
    PreconditionFailed,
    RepositoryError,
    StoreError,
    UnitAborted,
    UnitTimeout,
    Unreachable,
    Unsupported,
)

__all__ = [
    "AlreadyExists",
    "ConcurrentModification",
    "ConcurrentUnitUse",
    "Conflict",
    "DefinitionError",
    "ForeignObject",
    "LockTooLate",
    "NotEntered",
    "NotFound",
    "PreconditionFailed",
    "ReadOnlyUnit",
    "RepositoryError",
    "SeveralBackends",
    "StoreError",
    "UncommittedChanges",
    "UnitAborted",
    "UnitClosed",
    "UnitError",
    "UnitTimeout",
    "Unreachable",
    "Unsupported",
]


class UnitError(RepositoryError):
    """A unit of work is used in a way that cannot work."""


class NotEntered(UnitError):
    """The injected object has no transaction: the object that `async with` gives has."""

    def __init__(self, unit_class: str, method: str) -> None:
        super().__init__(
            f"{unit_class}.{method}() was called on the object that opens units, which has no transaction itself: "
            f"write `async with <it> as uow:` and call `uow.{method}()`"
        )


class UnitClosed(UnitError):
    """The block of the unit was left; what it loaded stays readable, and nothing more can be loaded or stored."""


class ConcurrentUnitUse(UnitError):
    """A task uses a unit that another one entered, and may be in the middle of. `owner` entered it, `user` asks."""

    def __init__(self, owner: asyncio.Task[object], user: asyncio.Task[object]) -> None:
        super().__init__(
            f"task {user.get_name()!r} uses a unit of work that task {owner.get_name()!r} entered: a unit is one "
            "transaction of one task, so await its calls one after another (`asyncio.gather` starts a task for each, "
            "`asyncio.wait_for` may; `asyncio.timeout` does not), or open a unit in each task"
        )
        self.owner = owner
        self.user = user


class ForeignObject(UnitError):
    """An object that this unit does not hold was given to it as one of its own."""


class LockTooLate(UnitError):
    """A unit that has asked the store for something already cannot lock any more."""

    def __init__(self, asked: str) -> None:
        super().__init__(
            f"{asked} is to be locked, but this unit has begun already: what it has read may be older than the lock, and "
            "two units that lock one after another may wait for each other. Let the locked load be the first call of "
            "the unit; several aggregates are locked together by one query, such as `find_by_sku_in_for_update`"
        )


class ReadOnlyUnit(UnitError):
    """The unit was opened with `read_only=True` and cannot write."""


class SeveralBackends(UnitError):
    """One unit is one transaction on one backend unless `allow_multi=True` gives that up."""


class UncommittedChanges(UserWarning):
    """A block was left with changes and without `commit()`: they were rolled back."""

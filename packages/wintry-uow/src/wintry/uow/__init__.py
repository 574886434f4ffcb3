"""A unit of work: identity map, minimal statements, versions, rollback, retry.

`UnitOfWork` is what an application holds: repositories that commit together. `async with` opens a unit of it. `Unit` is
the running one, for hooks and for libraries that bring units of their own.
"""

from wintry.repository import collecting

from .errors import (
    AlreadyExists,
    ConcurrentModification,
    ConcurrentUnitUse,
    Conflict,
    DefinitionError,
    ForeignObject,
    LockTooLate,
    NotEntered,
    NotFound,
    PreconditionFailed,
    ReadOnlyUnit,
    RepositoryError,
    SeveralBackends,
    StoreError,
    UncommittedChanges,
    UnitAborted,
    UnitClosed,
    UnitError,
    UnitTimeout,
    Unreachable,
    Unsupported,
)
from .hooks import UnitHook, use_hooks
from .scope import UnitOfWork
from .transactional import transactional
from .unit import Options, Unit, current_unit

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
    "Options",
    "PreconditionFailed",
    "ReadOnlyUnit",
    "RepositoryError",
    "SeveralBackends",
    "StoreError",
    "UncommittedChanges",
    "Unit",
    "UnitAborted",
    "UnitClosed",
    "UnitError",
    "UnitHook",
    "UnitOfWork",
    "UnitTimeout",
    "Unreachable",
    "Unsupported",
    "collecting",
    "current_unit",
    "transactional",
    "use_hooks",
]

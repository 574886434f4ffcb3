"""Repositories whose method names are the queries, with one meaning on every store."""

from wintry.models import collecting

from .connections import Backends
from .errors import (
    AlreadyExists,
    AmbiguousQueryName,
    ConcurrentModification,
    ConfigurationError,
    Conflict,
    DefinitionError,
    InvalidArgument,
    MultipleFound,
    NotFound,
    PreconditionFailed,
    RepositoryError,
    StoreError,
    UnitAborted,
    UnitTimeout,
    Unreachable,
    Unsupported,
)
from .query import query
from .repository import Repository

__all__ = (
    "AlreadyExists",
    "AmbiguousQueryName",
    "Backends",
    "ConcurrentModification",
    "ConfigurationError",
    "Conflict",
    "DefinitionError",
    "InvalidArgument",
    "MultipleFound",
    "NotFound",
    "PreconditionFailed",
    "Repository",
    "RepositoryError",
    "StoreError",
    "UnitAborted",
    "UnitTimeout",
    "Unreachable",
    "Unsupported",
    "collecting",
    "query",
)

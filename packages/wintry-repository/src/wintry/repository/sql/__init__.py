"""The SQL backend: aggregates in tables, through SQLAlchemy Core. A database is one room in `dialects`.

Public: `table(Product, backend)` and `metadata(backend)` for SQL of one's own beside the repositories (Alembic's
`target_metadata`, `select` on the running transaction's connection), the backend and its execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from .backend import SqlBackend, open_backend
from .layout import walk
from .schema import SchemaMismatch
from .session import SqlExecution

if TYPE_CHECKING:
    from wintry.models import Model

    from ..backend import Backend

__all__ = ["SchemaMismatch", "SqlBackend", "SqlExecution", "metadata", "open_backend", "table"]


def table(model: type[Model], backend: Backend, *path: str) -> sa.Table:
    """The table of the root `model` on `backend`, or of its array at `path`: `table(Product, backend, "batches")`.

    Raises `TypeError` for a backend that is not SQL, `LookupError` for a path that leads to no array of Models.
    """
    for node in walk(_sql(backend).layout(model)):
        if node.path == path:
            return node.table
    raise LookupError(f"{model.__name__} has no array at {'.'.join(path)!r}")


def metadata(backend: Backend) -> sa.MetaData:
    """The `MetaData` of `backend`. Raises `TypeError` for a backend that is not SQL."""
    return _sql(backend).metadata


def _sql(backend: Backend) -> SqlBackend:
    if isinstance(backend, SqlBackend):
        return backend
    raise TypeError(f"backend {backend.name!r} is {backend.kind}: it has no tables")

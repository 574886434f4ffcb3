"""Where SQL databases differ, for the journal and the queue.

SQLite lets one writer in at a time, and a transaction that writes sees all that was committed before it. On PostgreSQL
writers run beside one another. There the small transactions of this library see what is committed at each statement
(READ COMMITTED), a claim passes over rows that another one has in its hands, and where an order has to be that of the
commits, a lock that ends with the transaction is held. Units keep the isolation that they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from wintry.repository.backend import Backend
from wintry.repository.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class SqlDialect:
    """What one database says differently.

    `clock`: milliseconds since the epoch, one value for a statement. `serial`: one writer at a time. `isolation`: of
    small transactions. `skip_locked`: behind the query for rows to be claimed. `lock`: takes the lock `:name` until the
    transaction ends; None where there is nothing to lock out.
    """

    clock: str
    serial: bool
    isolation: str | None
    skip_locked: str
    lock: str | None


DIALECTS: Final[Mapping[str, SqlDialect]] = MappingProxyType(
    {
        "sqlite": SqlDialect(
            clock="CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            serial=True,
            isolation=None,
            skip_locked="",
            lock=None,
        ),
        "postgresql": SqlDialect(
            clock="CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)",
            serial=False,
            isolation="read committed",
            skip_locked="FOR UPDATE OF item SKIP LOCKED",
            lock="SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))",
        ),
    }
)


def dialect_of(backend: Backend) -> SqlDialect:
    """How the database of `backend` says it. Raises `ConfigurationError`."""
    found = DIALECTS.get(backend.kind)
    if found is None:
        known = " and ".join(DIALECTS)
        raise ConfigurationError(f"the bus stores nothing on {backend.kind} (backend {backend.name!r}): {known} do")
    return found

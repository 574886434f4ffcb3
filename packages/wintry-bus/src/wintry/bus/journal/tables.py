"""The tables of the journal on a SQL backend, and statements for them.

They stand in the backend's `metadata`, so that `create_schema` makes them with the rest. Times are whole milliseconds
since the epoch by the database's clock. Every column that is searched has an index over the rows that are open alone:
what is done costs nothing, however much of it is kept.

Statements are SQL text with `:names`, the same for every database but for what `dialects.py` says. `Statements` has
SQLAlchemy turn each into the driver's own form, once, and keeps it; the type of a value is that of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from wintry.repository.sql import SqlBackend, SqlExecution

from .dialects import dialect_of
from .names import DELIVERIES, DUTIES, GROUPS, INBOX, JOURNAL, MESSAGES, OUTGOING

_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""An ascending number that the database gives; SQLite knows only INTEGER for it."""
_KINDS: Final[Mapping[str, tuple[sa.types.TypeEngine[Any], str]]] = {
    "text": (sa.Text(), "channel correlation error headers id key lane name owner parent prefix status target type"),
    "number": (
        sa.BigInteger(),
        "abandoned after age attempts delay due grace group lease limit number seq since version",
    ),
    "small": (sa.Integer(), "first length"),
    "bytes": (sa.LargeBinary(), "body result"),
}
_TYPES: Final = {name: type for type, names in _KINDS.values() for name in names.split()}
"""Types of values by the name that they have in statements, less the number behind it."""


def declare_effects(metadata: sa.MetaData) -> None:
    """The tables that every backend has: what was handled here, and messages on their way to the journal."""
    if INBOX in metadata.tables:
        return
    sa.Table(
        INBOX,
        metadata,
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("result", sa.LargeBinary),
        sa.Index(f"{INBOX}_at", "at"),
    )
    sa.Table(
        OUTGOING,
        metadata,
        sa.Column("seq", _NUMBER, primary_key=True),
        *_contents(),
        sa.Column("due", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )


def declare_journal(metadata: sa.MetaData) -> None:
    """The tables of the journal's own backend, besides those that every backend has."""
    if JOURNAL in metadata.tables:
        return
    sa.Table(
        JOURNAL,
        metadata,
        sa.Column("seq", _NUMBER, primary_key=True),
        *_contents(),
        *_lease(),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("done_at", sa.BigInteger),
        sa.Index(f"{JOURNAL}_message", "id", "target", unique=True),
        *_open_indexes(JOURNAL, "lane"),
        _partial(f"{JOURNAL}_done", ("done_at",), "status = 'done'"),
        _partial(f"{JOURNAL}_dead", ("seq",), "status IN ('parked', 'held')"),
        sqlite_autoincrement=True,
    )
    declare_duties(metadata)


def declare_duties(metadata: sa.MetaData) -> None:
    """The leases of what one process does for all: retention."""
    if DUTIES not in metadata.tables:
        sa.Table(
            DUTIES,
            metadata,
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("owner", sa.Text, nullable=False),
            sa.Column("until", sa.BigInteger, nullable=False),
        )


def declare_queue(metadata: sa.MetaData) -> None:
    """The tables of the database transport: messages, who listens, and what each group has still to be given."""
    if MESSAGES in metadata.tables:
        return
    sa.Table(
        MESSAGES,
        metadata,
        sa.Column("seq", _NUMBER, primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Index(f"{MESSAGES}_message", "channel", "id", unique=True),
        sa.Index(f"{MESSAGES}_channel", "channel", "seq"),
        sa.Index(f"{MESSAGES}_age", "created_at"),
        sqlite_autoincrement=True,
    )
    sa.Table(
        GROUPS,
        metadata,
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Index(f"{GROUPS}_name", "channel", "name", unique=True),
        sqlite_autoincrement=True,
    )
    sa.Table(
        DELIVERIES,
        metadata,
        sa.Column("seq", _NUMBER, primary_key=True),
        sa.Column("message", sa.BigInteger, nullable=False),
        sa.Column("group_number", sa.BigInteger, nullable=False),
        sa.Column("lane", sa.Text),
        *_lease(),
        sa.Index(f"{DELIVERIES}_message", "message"),
        *_open_indexes(DELIVERIES, "group_number", "lane", scope=("group_number",)),
        sqlite_autoincrement=True,
    )
    declare_duties(metadata)


def _contents() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("parent_id", sa.Text),
        sa.Column("lane", sa.Text),
        sa.Column("headers", sa.Text, nullable=False),
    ]


def _lease() -> list[sa.Column[Any]]:
    return [
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("error", sa.Text),
    ]


def _open_indexes(table: str, *lane: str, scope: tuple[str, ...] = ()) -> list[sa.Index]:
    return [
        _partial(f"{table}_pending", (*scope, "due", "seq"), "status = 'pending'"),
        _partial(f"{table}_lanes", (*lane, "seq"), "status IN ('pending', 'held')"),
    ]


def _partial(name: str, columns: tuple[str, ...], condition: str) -> sa.Index:
    where = sa.text(condition)
    return sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)


class Statement:
    """SQL in the driver's form, and the order in which it wants its values."""

    __slots__ = ("_names", "text")

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text = text
        self._names = names

    async def fetch(self, execution: SqlExecution, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows that it gives."""
        return await execution.fetch(self.text, tuple([values[name] for name in self._names]))

    async def change(self, execution: SqlExecution, values: Mapping[str, Any]) -> int:
        """How many rows it has changed."""
        return await execution.change(self.text, tuple([values[name] for name in self._names]))


class Statements:
    """The statements of one backend, each prepared once. In a text `{now}` stands for the database's clock."""

    def __init__(self, backend: SqlBackend) -> None:
        self.dialect = dialect_of(backend)
        self._compiler = backend.dialect.compiler
        self._prepared: dict[str, Statement] = {}

    def __call__(self, text: str) -> Statement:
        found = self._prepared.get(text)
        if found is None:
            clause = sa.text(text.replace("{now}", self.dialect.clock))
            values = [sa.bindparam(name, type_=_TYPES[name.rstrip("0123456789")]) for name in clause.compile().params]
            compiled = clause.bindparams(*values).compile(dialect=self._compiler)
            names = tuple(compiled.positiontup or ())
            found = self._prepared[text] = Statement(str(compiled), names)
        return found


def places(name: str, count: int) -> str:
    """`:name0, :name1 …`, for a list of values."""
    return ", ".join(f":{name}{number}" for number in range(count))


def placed(name: str, values: Any) -> dict[str, Any]:
    """The values for `places`."""
    return {f"{name}{number}": value for number, value in enumerate(values)}

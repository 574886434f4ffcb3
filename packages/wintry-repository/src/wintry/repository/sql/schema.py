"""The schema in the database: creates what is missing, alters nothing, and says what differs.

Everything in the backend's `MetaData` belongs to it: the tables of the bound roots, and what others put there (a
journal's). `create` makes missing tables and indexes under the dialect's lock for writers; a table that is there and
lacks a column, or has one that cannot be filled, stops it with the whole list of differences.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from ..errors import ConfigurationError


class SchemaMismatch(ConfigurationError):
    """Tables in the database are not what the Models need; `differences` holds one line each."""

    def __init__(self, database: str, differences: Iterable[str]) -> None:
        self.differences = tuple(differences)
        lines = "".join(f"\n  {line}" for line in self.differences)
        super().__init__(f"{database}: tables differ from the Models, migrate them first:{lines}")


def create(connection: sa.Connection, metadata: sa.MetaData) -> None:
    """Create what is missing, in the transaction of `connection`. Raises `SchemaMismatch` where a table differs."""
    differences = [line for line in diff(connection, metadata) if not line.endswith(" is missing")]
    if differences:
        raise SchemaMismatch(str(connection.engine.url), differences)
    metadata.create_all(connection, checkfirst=True)
    inspector = sa.inspect(connection)
    for table in metadata.sorted_tables:
        there = {index["name"] for index in inspector.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in there:
                index.create(connection)


def diff(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    """What the database lacks or has otherwise, one line each: tables, columns, keys and indexes of `metadata`."""
    inspector = sa.inspect(connection)
    names = set(inspector.get_table_names())
    found: list[str] = []
    for table in metadata.sorted_tables:
        if table.name in names:
            found += _differences(inspector, table, connection.dialect)
        else:
            found.append(f"table {table.name} is missing")
    return found


def _differences(inspector: sa.Inspector, table: sa.Table, dialect: sa.Dialect) -> Iterable[str]:
    stored: dict[str, Any] = {column["name"]: column for column in inspector.get_columns(table.name)}
    for column in table.columns:
        place = f"{table.name}.{column.name}"
        there = stored.pop(column.name, None)
        if there is None:
            yield f"column {place} does not exist"
            continue
        wanted, has = (_type_name(kind, dialect) for kind in (column.type, there["type"]))
        if has is not None and wanted != has:
            yield f"column {place} is {has}, not {wanted}"
        if there["nullable"] != column.nullable and not column.primary_key:
            yield f"column {place} {'may' if there['nullable'] else 'may not'} be null, unlike its field"
    for name, there in stored.items():
        if not there["nullable"] and there["default"] is None:
            yield f"column {table.name}.{name} belongs to no field, is not nullable and has no default"
    key = inspector.get_pk_constraint(table.name)["constrained_columns"]
    if set(key) != {column.name for column in table.primary_key}:
        wanted_key = ", ".join(column.name for column in table.primary_key)
        yield f"the primary key of {table.name} is ({', '.join(key)}), not ({wanted_key})"
    there_indexes = {index["name"] for index in inspector.get_indexes(table.name)}
    for index in sorted(table.indexes, key=lambda each: str(each.name)):
        if index.name not in there_indexes:
            yield f"index {index.name} is missing"


def _type_name(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> str | None:
    """The type as DDL says it; None for one that SQLAlchemy does not know by that name."""
    return None if isinstance(kind, sa.types.NullType) else kind.compile(dialect=dialect)

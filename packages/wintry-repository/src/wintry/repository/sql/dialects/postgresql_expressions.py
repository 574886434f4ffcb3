"""What PostgreSQL says in its own way: arrays are arrays of records, lists of scalars are jsonb, the rest is native.

`array(select row(…))` nests to any depth and arrives in binary, so that dates, times and floats are themselves at once
(asyncpg writes the first and the last date that Python has as PostgreSQL's infinities, which sort like them). The items
of a jsonb list are read as text; dates and times in it are compared as text, whose order is theirs.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..statements import Row
from .protocol import Bind, Column, Condition, Convert
from .sqlite_expressions import FROM_TEXTS, TEXTS, scalars

_NAMES: Final[Mapping[type, sa.types.TypeEngine[Any]]] = MappingProxyType(
    {str: sa.Text(), int: sa.BigInteger(), float: sa.Double(), bool: sa.Boolean(), date: sa.Date()}
)


def _type(kind: type) -> sa.types.TypeEngine[Any]:
    return _NAMES.get(kind) or sa.TIMESTAMP(timezone=True)


def _aware(value: datetime) -> datetime:
    """asyncpg reads infinity as a time without a zone."""
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


class PostgreSQLExpressions:
    """`Expressions` of PostgreSQL."""

    returns_guards = True

    def encoder(self, kind: type) -> Convert | None:
        """Columns are native."""
        return None

    def item_encoder(self, kind: type) -> Convert | None:
        """Dates and times in jsonb are text."""
        return TEXTS.get(kind)

    def parameter(self, kind: type, *, item: bool) -> sa.types.TypeEngine[Any]:
        """The column's type, without its collation; text for what is text in jsonb."""
        return sa.Text() if item and kind in TEXTS else _type(kind)

    def decoder(self, kind: type, *, nested: bool = False) -> Convert | None:
        """Records carry native values to any depth."""
        return _aware if kind is datetime else None

    def scalars_decoder(self, kind: type, *, nested: bool) -> Convert | None:
        """A list of scalars is what SQLAlchemy makes of jsonb: a list since 2.1, before that its text."""
        from_text, each = scalars(kind), float if kind is float else FROM_TEXTS.get(kind)

        def decode(stored: Any) -> Any:
            if isinstance(stored, str):
                return from_text(stored)
            return stored if each is None else [each(value) for value in stored]

        return decode

    def array_decoder(self, *, nested: bool) -> Convert | None:
        """An array of records is a list already."""
        return None

    def nested(self, column: Column, kind: type) -> Column:
        """As it is."""
        return column

    def nested_scalars(self, column: Column) -> Column:
        """As it is."""
        return column

    def array(
        self, values: Sequence[Column], belongs: Sequence[Condition], parent: sa.Table, *, nested: bool
    ) -> Column:
        """An array of records."""
        rows = sa.select(sa.func.row(*values)).where(*belongs).correlate(parent)
        return sa.func.array(rows.scalar_subquery())

    def items(self, column: Column, kind: type, name: str) -> tuple[sa.FromClause, Column]:
        """`jsonb_array_elements_text`, cast to what has another order than its text."""
        items = sa.func.jsonb_array_elements_text(column).table_valued("value", name=name)
        if kind in (int, float, bool):
            return items, sa.cast(items.c.value, _type(kind))
        return items, sa.collate(items.c.value, "C")

    def same(self, value: Column, argument: sa.BindParameter[Any]) -> Condition:
        """What `IS NOT DISTINCT FROM` says, in words that an index is used for."""
        return sa.or_(value == argument, sa.and_(value.is_(None), argument.is_(None)))

    def among(self, value: Column, kind: type, name: str, bind: Bind, *, item: bool) -> Condition:
        """The values travel as one array."""
        encode = self.item_encoder(kind) if item else None

        def given(values: Any) -> list[Any]:
            return values if encode is None else [encode(each) for each in values]

        element = sa.Text() if encode is not None else _type(kind)
        listed = sa.cast(bind(f"list_{name}", given), postgresql.ARRAY(element))
        return value == sa.any_(listed)

    def flag(self, argument: sa.BindParameter[Any]) -> Condition:
        """A boolean."""
        return sa.cast(argument, sa.Boolean())

    def keys(self, key: Sequence[sa.Column[Any]], kinds: Sequence[type]) -> Condition:
        """One array for each column of the key."""
        arrays = [
            sa.cast(sa.bindparam(f"ids_{place}", type_=sa.types.NullType()), postgresql.ARRAY(_type(kind)))
            for place, kind in enumerate(kinds)
        ]
        if len(key) == 1:
            return key[0] == sa.any_(arrays[0])
        names = [f"id_{place}" for place in range(len(key))]
        given = sa.func.unnest(*arrays).table_valued(*names, name="given").render_derived()
        return sa.tuple_(*key).in_(sa.select(*(given.c[name] for name in names)).select_from(given).correlate(None))

    def keys_row(self, keys: Sequence[Row], kinds: Sequence[type]) -> Row:
        """These arrays."""
        return tuple([key[place] for key in keys] for place in range(len(kinds)))

    def order(self, column: Column, *, descending: bool, optional: bool) -> Column:
        """Where nothing can be None, an index is in this order."""
        ordered = column.desc() if descending else column.asc()
        if not optional:
            return ordered
        return ordered.nulls_last() if descending else ordered.nulls_first()

    def parked(self, column: sa.Column[Any], argument: sa.BindParameter[Any]) -> Column:
        """Written as text, since no Python value stands for most of them."""
        return sa.cast(sa.cast(argument, sa.Text()), column.type)

    def parking(self, kind: type, number: int) -> str:
        """Dates and times beyond Python's last one; else a value that nobody guesses."""
        if kind is date:
            return f"{20_000 + number}-01-01"
        if kind is datetime:
            return f"{20_000 + number}-01-01 00:00:00+00"
        if kind is int:
            return str(secrets.randbits(63) - 2**63)
        if kind is float:
            return repr(-1e300 * (1 + secrets.randbelow(2**52) / 2**52))
        return f"\x01{secrets.token_hex(16)}"

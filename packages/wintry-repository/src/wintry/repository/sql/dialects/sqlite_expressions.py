"""What SQLite says in its own way: arrays and lists are JSON, made and read by its functions.

What JSON cannot carry exactly goes through a function of the connection (floats) or is text in the table already
(dates, times).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa

from ..statements import Row
from .protocol import Bind, Column, Condition, Convert


def moment(value: datetime) -> str:
    """The stored form of an aware datetime."""
    return value.astimezone(UTC).isoformat(timespec="microseconds")


TEXTS: Final[Mapping[type, Convert]] = MappingProxyType({date: date.isoformat, datetime: moment})
"""How what is no JSON is written as text, in the order of its values."""

FROM_TEXTS: Final[Mapping[type, Convert]] = MappingProxyType(
    {date: date.fromisoformat, datetime: datetime.fromisoformat}
)


def scalars(kind: type) -> Convert:
    """The decoder of a list of values that is stored as JSON; floats are text in it, to the last bit."""
    decode = float if kind is float else FROM_TEXTS.get(kind)
    if decode is None:
        return json.loads
    each = decode
    return lambda text: [each(value) for value in json.loads(text)]


class SQLiteExpressions:
    """`Expressions` of SQLite."""

    returns_guards = False

    def encoder(self, kind: type) -> Convert | None:
        """Dates and times are text."""
        return TEXTS.get(kind)

    item_encoder = encoder

    def parameter(self, kind: type, *, item: bool) -> None:
        """Parameters have the type of what they are bound to."""

    def decoder(self, kind: type, *, nested: bool = False) -> Convert | None:
        """Inside JSON floats are text too."""
        if nested and kind is float:
            return float
        return bool if kind is bool else FROM_TEXTS.get(kind)

    def scalars_decoder(self, kind: type, *, nested: bool) -> Convert | None:
        """Inside JSON it is a list already."""
        if not nested:
            return scalars(kind)
        each = float if kind is float else self.decoder(kind)
        return None if each is None else lambda values: [each(value) for value in values]

    def array_decoder(self, *, nested: bool) -> Convert | None:
        """One JSON text holds all that is below a root."""
        return None if nested else json.loads

    def nested(self, column: Column, kind: type) -> Column:
        """SQLite writes fifteen digits of a float into JSON."""
        return sa.func.wintry_digits(column) if kind is float else column

    def nested_scalars(self, column: Column) -> Column:
        """Text that is JSON goes in as JSON."""
        return sa.func.json(column)

    def array(
        self, values: Sequence[Column], belongs: Sequence[Condition], parent: sa.Table, *, nested: bool
    ) -> Column:
        """A JSON array of JSON arrays."""
        row = sa.func.json_array(*values)
        array = sa.select(sa.func.json_group_array(row)).where(*belongs).correlate(parent).scalar_subquery()
        return sa.func.json(array) if nested else array

    def items(self, column: Column, kind: type, name: str) -> tuple[sa.FromClause, Column]:
        """`json_each`."""
        items = sa.func.json_each(column).table_valued("value", name=name)
        return items, self._read(items.c.value, kind)

    def _read(self, value: Column, kind: type) -> Column:
        return sa.func.wintry_real(value) if kind is float else value

    def same(self, value: Column, argument: sa.BindParameter[Any]) -> Condition:
        """`IS`."""
        return value.is_(argument)

    def among(self, value: Column, kind: type, name: str, bind: Bind, *, item: bool) -> Condition:
        """The values travel as one JSON array."""
        encode = repr if kind is float else self.encoder(kind)

        def given(values: Any) -> str:
            return json.dumps(values if encode is None else [encode(each) for each in values], ensure_ascii=False)

        listed = sa.func.json_each(bind(f"list_{name}", given)).table_valued("value", name=f"given_{name}")
        return value.in_(sa.select(self._read(listed.c.value, kind)).select_from(listed).correlate(None))

    def flag(self, argument: sa.BindParameter[Any]) -> Condition:
        """Booleans are numbers."""
        return argument == sa.literal_column("1")

    def keys(self, key: Sequence[sa.Column[Any]], kinds: Sequence[type]) -> Condition:
        """One JSON array of keys."""
        given = sa.func.json_each(sa.bindparam("ids", type_=sa.types.NullType())).table_valued("value", name="given")
        items = [
            self._read(sa.func.json_extract(given.c.value, sa.literal_column(f"'$[{place}]'")), kind)
            for place, kind in enumerate(kinds)
        ]
        of: Column = key[0] if len(key) == 1 else sa.tuple_(*key)
        return of.in_(sa.select(*items).select_from(given).correlate(None))

    def keys_row(self, keys: Sequence[Row], kinds: Sequence[type]) -> Row:
        """That array as text."""
        listed = [
            [repr(value) if kind is float else value for value, kind in zip(key, kinds, strict=True)] for key in keys
        ]
        return (json.dumps(listed, ensure_ascii=False),)

    def order(self, column: Column, *, descending: bool, optional: bool) -> Column:
        """Said also where it goes without saying."""
        return column.desc().nulls_last() if descending else column.asc().nulls_first()

    def parked(self, column: sa.Column[Any], argument: sa.BindParameter[Any]) -> Column:
        """Columns take values of any type."""
        return argument

    def parking(self, kind: type, number: int) -> Any:
        """Text with a NUL."""
        return f"\0{number}"

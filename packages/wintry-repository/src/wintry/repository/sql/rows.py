"""Objects as rows: generated encoders, and the prebuilt statements that change the rows of one table.

A `TableWriter` knows its table by heart: `row(object, parent_key, last)` gives the values of one row in the order of the
table's columns (`last` is a child's position, a root's version), `arrays` reaches the lists of an object that have
tables of their own, and the texts of all statements are made once. Values in rows and keys are always encoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

import sqlalchemy as sa

from wintry.models.source import Source, variable

from . import names
from .dialects.protocol import Expressions
from .layout import GAP, Children, Embedded, Leaf, Node, Scalars, Shape
from .statements import Row

Key: TypeAlias = Row
"""The primary key of a row: encoded values in the order of the columns."""


class TableWriter:
    """How rows of one table are written."""

    def __init__(self, node: Node, compiler: sa.Dialect, say: Expressions) -> None:
        self.node = node
        self.table = node.table
        self.columns = tuple(column.name for column in node.table.columns)
        self.unique = frozenset(column.name for index in node.table.indexes if index.unique for column in index.columns)
        self._compiler = compiler
        self._say = say
        self._encoder = say.encoder
        self.row: Callable[[Any, Key, int], Row] = _row_function(node, say)
        self.arrays = tuple(_arrays(node.shape, ()))
        places = [self.columns.index(column.name) for column in node.key]
        self.key_of_row: Callable[[Row], Key] = _picker(places)
        self.update = lru_cache(maxsize=None)(self._update)

    def key(self, id: Any) -> Key:
        """The own part of a key: an id as `ModelInfo.id_of` gives it, encoded."""
        fields = self.node.info.identity
        values = (id,) if len(fields) == 1 else id
        return tuple(self._encode(field.leaf, value) for field, value in zip(fields, values, strict=True))

    def _encode(self, kind: type | None, value: Any) -> Any:
        encode = None if kind is None else self._encoder(kind)
        return value if encode is None or value is None else encode(value)

    def changed(self, shape: Shape, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        """Columns and encoded values for the field `name` of `shape`, whose new value is `value`."""
        member = shape.members[name]
        match member:
            case Leaf(column=column, type=kind):
                yield column.name, self._encode(kind, value)
            case Scalars(column=column, type=kind):
                yield column.name, None if value is None else as_json(value, kind, self._say)
            case Embedded(flag=flag, shape=inner):
                if flag is not None:
                    yield flag.name, None if value is None else True
                for each in inner.members:
                    yield from self.changed(inner, each, None if value is None else getattr(value, each))
            case Children():
                pass  # rows of other tables

    @cached_property
    def insert(self) -> str:
        """Insert one whole row."""
        return self._text(sa.insert(self.table))

    @cached_property
    def append(self) -> str:
        """Insert a row behind its siblings: its values but the position, then the parent's key."""
        return self._beside(sa.func.max, GAP)

    @cached_property
    def prepend(self) -> str:
        """Insert a row in front of its siblings: values as in `append`."""
        return self._beside(sa.func.min, -GAP)

    def _beside(self, edge: Callable[[Any], sa.ColumnElement[Any]], distance: int) -> str:
        siblings = self.table.alias("siblings")
        mine = (siblings.c[column.name] == self._bind(f"of{column.name}") for column in self.node.parent_key)
        at = sa.func.coalesce(edge(siblings.c[names.POSITION]), sa.literal_column("0")) + sa.literal_column(
            str(distance)
        )
        values: dict[str, Any] = {name: self._bind(f"v_{name}") for name in self.columns[:-1]}
        values[names.POSITION] = sa.select(at).where(*mine).scalar_subquery()
        return self._text(sa.insert(self.table).inline().values(values))  # inline: nobody asks for the position

    @cached_property
    def delete(self) -> str:
        """Delete the row of a key."""
        return self._text(sa.delete(self.table).where(*self._by(self.node.key)))

    @cached_property
    def delete_guarded(self) -> str:
        """Delete the root of a key at a version."""
        return self._text(self._telling(sa.delete(self.table).where(*self._by((*self.node.key, *self._version)))))

    @cached_property
    def delete_all(self) -> str:
        """Delete the rows of a parent's key."""
        return self._text(sa.delete(self.table).where(*self._by(self.node.parent_key)))

    @cached_property
    def version(self) -> str:
        """The version of the root of a key."""
        return self._text(sa.select(*self._version).where(*self._by(self.node.key)))

    @cached_property
    def positions(self) -> str:
        """The keys and positions of the rows of a parent's key, in order."""
        own = self.node.key[len(self.node.parent_key) :]
        position = self.table.c[names.POSITION]
        return self._text(sa.select(*own, position).where(*self._by(self.node.parent_key)).order_by(position))

    def _update(self, columns: tuple[str, ...], *, guarded: bool = False) -> str:
        """Set `columns` in the row of a key; `guarded`: of a root, at a version."""
        where = [*self._by(self.node.key), *(self._by(self._version) if guarded else ())]
        values = {self.table.c[name]: self._bind(f"v_{name}") for name in columns}
        statement = sa.update(self.table).where(*where).ordered_values(*values.items())
        return self._text(self._telling(statement) if guarded else statement)

    def _telling(self, statement: sa.Update | sa.Delete) -> sa.ClauseElement:
        return statement.returning(*self.node.key) if self._say.returns_guards else statement

    def kind(self, column: str) -> type:
        """The Python type of a field's `column`."""
        return _kinds(self.node.shape)[column]

    def park(self, column: str) -> str:
        """Set `column` in the row of a key to a value of `parking`."""
        at = self.table.c[column]
        value = self._say.parked(at, self._bind(f"v_{column}"))
        return self._text(sa.update(self.table).where(*self._by(self.node.key)).values({at: value}))

    @property
    def _version(self) -> tuple[sa.Column[Any], ...]:
        return (self.table.c[names.VERSION],)

    def _by(self, columns: Iterable[sa.Column[Any]]) -> list[sa.ColumnElement[bool]]:
        return [column == self._bind(f"by_{column.name}") for column in columns]

    @staticmethod
    def _bind(name: str) -> sa.BindParameter[Any]:
        return sa.bindparam(name, type_=sa.types.NullType())

    def _text(self, statement: sa.ClauseElement) -> str:
        return str(statement.compile(dialect=self._compiler))


def as_json(values: list[Any], kind: type, say: Expressions) -> str:
    """A list of scalars as it is stored."""
    encode = repr if kind is float else say.item_encoder(kind)
    return json.dumps(values if encode is None else [encode(value) for value in values], ensure_ascii=False)


def _picker(places: Sequence[int]) -> Callable[[Row], Row]:
    if len(places) == 1:
        place = places[0]
        return lambda row: (row[place],)
    return itemgetter(*places)


def _arrays(shape: Shape, path: tuple[str, ...]) -> Iterator[tuple[Node, Callable[[Any], Sequence[Any]]]]:
    """The child tables of the objects of one shape, and what reaches their lists; nested Models are looked through."""
    for name, member in shape.members.items():
        if isinstance(member, Children):
            yield member.node, _reach((*path, name))
        elif isinstance(member, Embedded):
            yield from _arrays(member.shape, (*path, name))


def _reach(path: tuple[str, ...]) -> Callable[[Any], Sequence[Any]]:
    if len(path) == 1:
        return attrgetter(path[0])

    def through(obj: Any) -> Sequence[Any]:
        for name in path:
            if obj is None:
                return ()
            obj = getattr(obj, name)
        found: Sequence[Any] = obj
        return found

    return through


def _row_function(node: Node, say: Expressions) -> Callable[[Any, Key, int], Row]:
    """Generate `row(object, parent_key, last)`."""
    source = Source(f"{node.info.name} to a row of {node.table.name}")
    obj, parent_key, last = (source.fresh(name) for name in (variable(node.info.name), "parent_key", "last"))
    values: list[str] = []
    name = source.fresh(f"row_of_{node.table.name}")
    with source.block(f"def {name}({obj}, {parent_key}, {last}):"):
        _emit_values(source, node.shape, obj, say, values)
        source.line(f"return (*{parent_key}, {', '.join([*values, last])})")
    return source.compiled(name)[0]


def _emit_values(source: Source, shape: Shape, obj: str, say: Expressions, values: list[str]) -> None:
    """Lines and expressions for the stored values of `obj`, whose nested Models are known to be there or None."""
    for name, member in shape.members.items():
        match member:
            case Leaf(type=kind):
                values.append(_encoded(source, say.encoder(kind), kind, f"{obj}.{name}", bool(member.column.nullable)))
            case Scalars(type=kind):
                values.append(_encoded(source, _json_encoder(kind, say), kind, f"{obj}.{name}", True))
            case Embedded(flag=flag, shape=inner):
                nested, inner_values = source.fresh(name), list[str]()
                source.line(f"{nested} = {obj}.{name}")
                if flag is None:
                    _emit_values(source, inner, nested, say, values)
                    continue
                there = source.fresh(f"{name}_columns")
                with source.block(f"if {nested} is None:"):
                    source.line(f"{there} = {source.bind((None,) * (_width(inner) + 1), f'no_{name}')}")
                with source.block("else:"):
                    _emit_values(source, inner, nested, say, inner_values)
                    source.line(f"{there} = ({', '.join(['True', *inner_values])},)")
                values.append(f"*{there}")
            case Children():
                pass


def _kinds(shape: Shape) -> dict[str, type]:
    found: dict[str, type] = {}
    for member in shape.members.values():
        if isinstance(member, Leaf):
            found[member.column.name] = member.type
        elif isinstance(member, Embedded):
            found |= _kinds(member.shape)
    return found


def _json_encoder(kind: type, say: Expressions) -> Callable[[list[Any]], str]:
    return lambda values: as_json(values, kind, say)


def _encoded(source: Source, encode: Callable[[Any], Any] | None, kind: type, value: str, nullable: bool) -> str:
    if encode is None:
        return value
    encoded = f"{source.bind(encode, f'{kind.__name__}_to_column')}({value})"
    return f"(None if {value} is None else {encoded})" if nullable else encoded


def _width(shape: Shape) -> int:
    """How many columns a nested shape takes, without its own flag."""
    width = 0
    for member in shape.members.values():
        if isinstance(member, Embedded):
            width += _width(member.shape) + (member.flag is not None)
        elif not isinstance(member, Children):
            width += 1
    return width

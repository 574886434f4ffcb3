"""Reads aggregates: the columns of one SELECT, and generated code that makes objects of its rows.

One statement loads any number of whole aggregates. A root's row carries each of its arrays as a JSON text, made by a
correlated subquery: an array of rows, each its position followed by its values, arrays below it nested in their place.
SQLite does not promise an order inside `json_group_array`, so rows are sorted by position after decoding. What JSON
cannot carry exactly goes through a function of the connection (floats) or is text in the table already (dates).

The code that turns a row into objects is generated per root (`Reader.source` shows it): it calls each Model's trusted
constructor with values in the order of its fields, so loaded objects are made like hand-written ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import sqlalchemy as sa

from wintry.models.source import Source, variable

from .layout import Children, Embedded, Leaf, Node, Scalars, Shape, walk
from .statements import Row

if TYPE_CHECKING:
    from wintry.models import Model

    from .session import SqlExecution

Loaded: TypeAlias = "tuple[Model, int]"
"""An aggregate and its version."""

_first: Final = itemgetter(0)


def in_order(rows: list[Any]) -> list[Any]:
    """`rows` of one array, sorted by their positions."""
    rows.sort(key=_first)
    return rows


_DECODERS: Final[dict[type, Callable[[Any], Any]]] = {
    bool: bool,
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
}
"""How a stored value becomes a Python value; what is not here is one already. In JSON, floats are text as well."""


def scalars(kind: type) -> Callable[[str], list[Any]]:
    """The decoder of a list of values that is stored as JSON."""
    decode = float if kind is float else _DECODERS.get(kind)
    if decode is None:
        return json.loads
    each = decode
    return lambda text: [each(value) for value in json.loads(text)]


class Reader:
    """How the aggregates of one root are read. `columns` go into the SELECT, `restore` takes its rows."""

    def __init__(self, root: Node) -> None:
        assert root.version is not None, "a root has a version"
        self.root = root
        self.columns: tuple[sa.ColumnElement[Any], ...] = (root.version, *_expressions(root, root.shape, nested=False))
        writer = _Writer(root)
        self.restore: Callable[[Row], Loaded] = writer.compile()
        self.source = writer.text

    def all(self, rows: Sequence[Row]) -> list[Loaded]:
        """The aggregates of `rows`, in their order."""
        restore = self.restore
        return [restore(row) for row in rows]


def _expressions(node: Node, shape: Shape, *, nested: bool) -> list[sa.ColumnElement[Any]]:
    """What is selected for `shape` in the table of `node`; `nested`: inside a JSON array."""
    found: list[sa.ColumnElement[Any]] = []
    for member in shape.members.values():
        match member:
            case Leaf(column=column, type=kind):
                found.append(sa.func.wintry_digits(column) if nested and kind is float else column)
            case Scalars(column=column):
                found.append(sa.func.json(column) if nested else column)
            case Embedded(flag=flag, shape=inner):
                if flag is not None:
                    found.append(flag)
                found += _expressions(node, inner, nested=nested)
            case Children(node=child):
                array = _array(node, child)
                found.append(sa.func.json(array) if nested else array)
    return found


def _array(parent: Node, child: Node) -> sa.ScalarSelect[Any]:
    """The rows of `child` that belong to a row of `parent`, as JSON."""
    row = sa.func.json_array(child.position, *_expressions(child, child.shape, nested=True))
    belongs = (mine == theirs for mine, theirs in zip(child.parent_key, parent.key, strict=True))
    return sa.select(sa.func.json_group_array(row)).where(*belongs).correlate(parent.table).scalar_subquery()


class _Writer:
    """Writes the functions that make objects: one for each array, and one for the root."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.out = Source(f"{root.info.name} from rows of {root.table.name}")
        self.names: dict[Node, str] = {}
        self.text = ""

    def compile(self) -> Callable[[Row], Loaded]:
        out = self.out
        for node in reversed(walk(self.root)[1:]):
            name = self.names[node] = out.fresh(f"read_{'_'.join(node.path)}")
            made = self._object(node.shape, _Places(1), nested=True)
            with out.block(f"def {name}(rows):"):
                out.line(f"return [{made} for r in {out.bind(in_order, 'in_order')}(rows)]")
        made = self._object(self.root.shape, _Places(1), nested=False)
        name = out.fresh(f"read_{variable(self.root.info.name)}")
        with out.block(f"def {name}(r):"):
            out.line(f"return {made}, r[0]")
        self.text = out.text
        return out.compiled(name)[0]

    def _object(self, shape: Shape, places: _Places, *, nested: bool) -> str:
        values = []
        for member in shape.members.values():
            if isinstance(member, Embedded):
                values.append(self._embedded(member, places, nested=nested))
            else:
                values.append(self._value(member, places.take(), nested=nested))
        new = self.out.bind(shape.info.restore, f"new_{shape.info.name}")
        return f"{new}({', '.join(values)})"

    def _embedded(self, member: Embedded, places: _Places, *, nested: bool) -> str:
        flag = places.take() if member.flag is not None else None
        made = self._object(member.shape, places, nested=nested)
        return made if flag is None else f"({made} if {flag} is not None else None)"

    def _value(self, member: Leaf | Scalars | Children, place: str, *, nested: bool) -> str:
        match member:
            case Children(node=node):
                return f"{self.names[node]}({place if nested else self._call(json.loads, 'loads', place)})"
            case Scalars(type=kind) if nested:
                decode = float if kind is float else _DECODERS.get(kind)
                made = place if decode is None else f"[{self._call(decode, decode.__name__, 'v')} for v in {place}]"
            case Scalars(type=kind):
                made = self._call(scalars(kind), f"list_of_{kind.__name__}", place)
            case Leaf(type=kind):
                decode = float if nested and kind is float else _DECODERS.get(kind)
                made = place if decode is None else self._call(decode, f"{kind.__name__}_of", place)
        if made == place or not member.column.nullable:
            return made
        return f"({made} if {place} is not None else None)"

    def _call(self, function: Callable[..., Any], name: str, argument: str) -> str:
        return f"{self.out.bind(function, name)}({argument})"


class _Places:
    """Hands out the places of a row, one after the other."""

    def __init__(self, first: int) -> None:
        self._next = first

    def take(self) -> str:
        place = self._next
        self._next += 1
        return f"r[{place}]"


def decoder(kind: type) -> Callable[[Any], Any]:
    """What makes a Python value of a stored one."""
    return _DECODERS.get(kind, _itself)


def _itself(value: Any) -> Any:
    return value


class Loader:
    """Aggregates of one root by id."""

    def __init__(
        self, reader: Reader, compiler: sa.Dialect, encoder: Callable[[type], Callable[[Any], Any] | None]
    ) -> None:
        self._reader = reader
        key = reader.root.key
        kinds = [field.leaf for field in reader.root.info.identity]
        self._encoders = [None if kind is None else encoder(kind) for kind in kinds]
        self._floats = [kind is float for kind in kinds]
        select = sa.select(*reader.columns)
        binds = [sa.bindparam(f"id_{place}", type_=sa.types.NullType()) for place in range(len(key))]
        single = select.where(*(column == bind for column, bind in zip(key, binds, strict=True)))
        self._single = f"{single.compile(dialect=compiler)} /* {reader.root.info.name} by id */"
        self._many = f"{select.where(self._among(key)).compile(dialect=compiler)} /* {reader.root.info.name} by ids */"

    def _among(self, key: tuple[sa.Column[Any], ...]) -> sa.ColumnElement[bool]:
        given = sa.func.json_each(sa.bindparam("ids", type_=sa.types.NullType())).table_valued("value", name="given")
        items: list[sa.ColumnElement[Any]] = [
            sa.func.json_extract(given.c.value, sa.literal_column(f"'$[{place}]'")) for place in range(len(key))
        ]
        items = [sa.func.wintry_real(item) if real else item for item, real in zip(items, self._floats, strict=True)]
        of = key[0] if len(key) == 1 else sa.tuple_(*key)
        return of.in_(sa.select(*items).select_from(given).correlate(None))

    async def load(self, execution: SqlExecution, ids: Sequence[Any]) -> list[Loaded]:
        """The aggregates of `ids` that are there, in their order."""
        if len(ids) == 1:
            return self._reader.all(await execution.fetch(self._single, self._key(ids[0])))
        if not ids:
            return []
        keys = [self._key(id) for id in ids]
        listed = [
            [repr(value) if real else value for value, real in zip(key, self._floats, strict=True)] for key in keys
        ]
        rows = await execution.fetch(self._many, (json.dumps(listed, ensure_ascii=False),))
        id_of = self._reader.root.info.id_of
        found = {id_of(loaded[0]): loaded for loaded in self._reader.all(rows)}
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    def _key(self, id: Any) -> Row:
        values = (id,) if len(self._encoders) == 1 else id
        return tuple(
            [value if encode is None else encode(value) for value, encode in zip(values, self._encoders, strict=True)]
        )

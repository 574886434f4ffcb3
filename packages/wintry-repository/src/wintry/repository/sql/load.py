"""Reads aggregates: the columns of one SELECT, and generated code that makes objects of its rows.

One statement loads any number of whole aggregates. A root's row carries each of its arrays as one value, made by a
correlated subquery: an array of rows, each its position followed by its values, arrays below it nested in their place.
What that value is, and how it becomes a list, is the dialect's (`Expressions`): JSON on SQLite, records on PostgreSQL.
Its rows come in any order, and are sorted by position after decoding.

The code that turns a row into objects is generated per root (`Reader.source` shows it): it calls each Model's trusted
constructor with values in the order of its fields, so loaded objects are made like hand-written ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import sqlalchemy as sa

from wintry.models.source import Source, variable

from .layout import Children, Embedded, Leaf, Node, Scalars, Shape, walk
from .statements import Row

if TYPE_CHECKING:
    from wintry.models import Model

    from .dialects.protocol import Expressions
    from .session import SqlExecution

Loaded: TypeAlias = "tuple[Model, int]"
"""An aggregate and its version."""

_first: Final = itemgetter(0)


def in_order(rows: list[Any]) -> list[Any]:
    """`rows` of one array, sorted by their positions."""
    rows.sort(key=_first)
    return rows


class Reader:
    """How the aggregates of one root are read. `columns` go into the SELECT, `restore` takes its rows."""

    def __init__(self, root: Node, say: Expressions) -> None:
        assert root.version is not None, "a root has a version"
        self.root = root
        values = _expressions(say, root, root.shape, nested=False)
        self.columns: tuple[sa.ColumnElement[Any], ...] = (root.version, *values)
        writer = _Writer(root, say)
        self.restore: Callable[[Row], Loaded] = writer.compile()
        self.source = writer.text

    def all(self, rows: Sequence[Row]) -> list[Loaded]:
        """The aggregates of `rows`, in their order."""
        restore = self.restore
        return [restore(row) for row in rows]


def _expressions(say: Expressions, node: Node, shape: Shape, *, nested: bool) -> list[sa.ColumnElement[Any]]:
    """What is selected for `shape` in the table of `node`; `nested`: inside an array."""
    found: list[sa.ColumnElement[Any]] = []
    for member in shape.members.values():
        match member:
            case Leaf(column=column, type=kind):
                found.append(say.nested(column, kind) if nested else column)
            case Scalars(column=column):
                found.append(say.nested_scalars(column) if nested else column)
            case Embedded(flag=flag, shape=inner):
                if flag is not None:
                    found.append(flag)
                found += _expressions(say, node, inner, nested=nested)
            case Children(node=child):
                found.append(_array(say, node, child, nested=nested))
    return found


def _array(say: Expressions, parent: Node, child: Node, *, nested: bool) -> sa.ColumnElement[Any]:
    """The rows of `child` that belong to a row of `parent`, each with its position in front."""
    assert child.position is not None, "a child has a position"
    values = [child.position, *_expressions(say, child, child.shape, nested=True)]
    belongs = [mine == theirs for mine, theirs in zip(child.parent_key, parent.key, strict=True)]
    return say.array(values, belongs, parent.table, nested=nested)


class _Writer:
    """Writes the functions that make objects: one for each array, and one for the root."""

    def __init__(self, root: Node, say: Expressions) -> None:
        self.root = root
        self.say = say
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
                rows = self._call(self.say.array_decoder(nested=nested), "rows_of", place)
                return f"{self.names[node]}({rows})"
            case Scalars(type=kind):
                decode = self.say.scalars_decoder(kind, nested=nested)
                made = self._call(decode, f"list_of_{kind.__name__}", place)
            case Leaf(type=kind):
                made = self._call(self.say.decoder(kind, nested=nested), f"{kind.__name__}_of", place)
        if made == place or not member.column.nullable:
            return made
        return f"({made} if {place} is not None else None)"

    def _call(self, function: Callable[..., Any] | None, name: str, argument: str) -> str:
        return argument if function is None else f"{self.out.bind(function, name)}({argument})"


class _Places:
    """Hands out the places of a row, one after the other."""

    def __init__(self, first: int) -> None:
        self._next = first

    def take(self) -> str:
        place = self._next
        self._next += 1
        return f"r[{place}]"


class Loader:
    """Aggregates of one root by id."""

    def __init__(self, reader: Reader, compiler: sa.Dialect, say: Expressions) -> None:
        self._reader = reader
        self._say = say
        key = reader.root.key
        self._kinds = [field.leaf for field in reader.root.info.identity if field.leaf is not None]
        self._encoders = [say.encoder(kind) for kind in self._kinds]
        select = sa.select(*reader.columns)
        binds = [sa.bindparam(f"id_{place}", type_=sa.types.NullType()) for place in range(len(key))]
        single = select.where(*(column == bind for column, bind in zip(key, binds, strict=True)))
        many = select.where(say.keys(key, self._kinds))
        locked: sa.Select[Any] = (
            sa.select(sa.literal_column("1")).where(say.keys(key, self._kinds)).order_by(*key).with_for_update()
        )
        self._lock = f"{locked.compile(dialect=compiler)} /* {reader.root.info.name} locked */"
        self._single = f"{single.compile(dialect=compiler)} /* {reader.root.info.name} by id */"
        self._many = f"{many.compile(dialect=compiler)} /* {reader.root.info.name} by ids */"

    async def lock(self, execution: SqlExecution, ids: Sequence[Any]) -> None:
        """Lock the roots of `ids` that are there, in the order of their keys, so that no two wait for each other."""
        if ids:
            await execution.fetch(self._lock, self._say.keys_row([self._key(id) for id in ids], self._kinds))

    async def load(self, execution: SqlExecution, ids: Sequence[Any]) -> list[Loaded]:
        """The aggregates of `ids` that are there, in their order."""
        if len(ids) == 1:
            return self._reader.all(await execution.fetch(self._single, self._key(ids[0])))
        if not ids:
            return []
        rows = await execution.fetch(self._many, self._say.keys_row([self._key(id) for id in ids], self._kinds))
        id_of = self._reader.root.info.id_of
        found = {id_of(loaded[0]): loaded for loaded in self._reader.all(rows)}
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    def _key(self, id: Any) -> Row:
        values = (id,) if len(self._encoders) == 1 else id
        return tuple(
            [value if encode is None else encode(value) for value, encode in zip(values, self._encoders, strict=True)]
        )

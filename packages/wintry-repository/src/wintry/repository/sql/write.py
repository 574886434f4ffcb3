"""Stores operations on aggregates: from objects and change sets to the fewest statements, in an order that always fits.

A flush gathers rows per statement over all operations and sends them together: the roots first, each deleted or updated
only at the version that is expected, then what leaves (rows below go with their parent), changes in rows that stay, and
new rows, parents before children. What a row gives up of unique values is so free before another row takes it; where
several rows of a table change such a value, they are parked first on values that nothing else can have.

A list mostly grows at its end: then its new rows find their position in the INSERT itself. Only where something is put
between stored rows, or moves, are the positions of that one list read first. What is written is what the objects were
when the flush began: before it waits for positions it sets apart what is still to be read from them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, assert_never

from wintry.models import Model, info, tracking
from wintry.models.tracking import ChangeSet

from ..backend import Delete, Insert, Operation, Update
from ..errors import AlreadyExists, ConcurrentModification, StoreError
from .arrays import ArrayEdit, place
from .layout import GAP, Children, Embedded, Leaf, Node, Shape, walk
from .rows import Key, TableWriter
from .statements import Refused, Row, Step

if TYPE_CHECKING:
    from .backend import SqlBackend
    from .dialects.protocol import Expressions
    from .session import SqlExecution


class AggregateWriter:
    """The tables of one root, ready to be written."""

    def __init__(self, root: Node, backend: SqlBackend) -> None:
        self.root = root
        compiler, say = backend.dialect.compiler, backend.dialect.expressions
        self.tables = {node: TableWriter(node, compiler, say) for node in walk(root)}
        self.top = self.tables[root]


class Flush:
    """One `write`: statements by phase, filled operation by operation."""

    def __init__(self, backend: SqlBackend, execution: SqlExecution) -> None:
        self._backend = backend
        self._execution = execution
        self._gone: dict[str, Step] = {}
        self._guards: dict[str, Step] = {}
        self._deletes: dict[str, Step] = {}
        self._updates: dict[str, Step] = {}
        self._inserts: dict[str, Step] = {}
        self._moves: dict[str, Step] = {}
        self._sets: dict[TableWriter, dict[Key, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
        self._claims: dict[tuple[TableWriter, str], list[Key]] = defaultdict(list)
        self._changes: list[_Changes] = []

    def add(self, operation: Operation) -> None:
        """Add the statements for `operation`. Raises `InvalidValue`, `SharedChild`, `DuplicateChild`."""
        match operation:
            case Insert(obj):
                about = info(type(obj))
                about.check(obj)
                self._whole(self._backend.writer(type(obj)), obj)
            case Update(obj, changes):
                changes.check()
                self._changes.append(_Changes(self, self._backend.writer(type(obj)), operation))
            case Delete(model, id, expected):
                top = self._backend.writer(model).top
                key = top.key(id)
                if expected is None:
                    self.step(self._gone, top, top.delete).rows.append(key)
                else:
                    self.step(self._gone, top, top.delete_guarded, guarded=True).rows.append((*key, expected))
            case _:
                assert_never(operation)

    @staticmethod
    def step(
        phase: dict[str, Step], table: TableWriter, text: str, columns: tuple[str, ...] = (), *, guarded: bool = False
    ) -> Step:
        """The step of a phase for one text."""
        step = phase.get(text)
        if step is None:
            step = phase[text] = Step(text, table.node, columns, guarded)
        return step

    def _whole(self, writer: AggregateWriter, obj: Model) -> None:
        top = writer.top
        row = top.row(obj, (), 1)
        self.step(self._inserts, top, top.insert, top.columns).rows.append(row)
        self.below(writer, top, obj, top.key_of_row(row))

    def below(self, writer: AggregateWriter, table: TableWriter, obj: Any, key: Key) -> None:
        """Insert the rows of all arrays of a new `obj`, whose own row has `key`."""
        for node, reach in table.arrays:
            if items := reach(obj):
                self.items(writer, writer.tables[node], items, key)

    def items(self, writer: AggregateWriter, table: TableWriter, items: Sequence[Any], parent_key: Key) -> None:
        """Insert a whole array and what is below it."""
        rows = self.step(self._inserts, table, table.insert, table.columns).rows
        make, position = table.row, 0
        for item in items:
            position += GAP
            row = make(item, parent_key, position)
            rows.append(row)
            if table.arrays:
                self.below(writer, table, item, table.key_of_row(row))

    def one(
        self, writer: AggregateWriter, table: TableWriter, text: str, item: Any, parent_key: Key, position: int = 0
    ) -> None:
        """Insert one item, at `position` or, with the texts `append` and `prepend`, where they put it."""
        row = table.row(item, parent_key, position)
        key = table.key_of_row(row)
        values = row if text == table.insert else (*row[:-1], *parent_key)
        self.step(self._inserts, table, text, table.columns[:-1]).rows.append(values)
        self.below(writer, table, item, key)

    def delete(self, table: TableWriter, key: Key) -> None:
        """Delete the row of `key` and what is below it."""
        self.step(self._deletes, table, table.delete).rows.append(key)

    def delete_all(self, table: TableWriter, parent_key: Key) -> None:
        """Delete all rows of a parent."""
        self.step(self._deletes, table, table.delete_all).rows.append(parent_key)

    def set(self, table: TableWriter, key: Key, columns: dict[str, Any]) -> None:
        """Change columns of the row of `key`."""
        self._sets[table][key].update(columns)
        self._claim(table, key, columns)

    def _claim(self, table: TableWriter, key: Key, columns: Iterable[str]) -> None:
        for column in columns:
            if column in table.unique:
                self._claims[table, column].append(key)

    def move(self, table: TableWriter, key: Key, position: int) -> None:
        """Change the position of a row that is keyed by it, after everything else has used the old key."""
        column = table.columns[-1]
        self.step(self._moves, table, table.update((column,)), (column,)).rows.append((position, *key))

    def bump(self, top: TableWriter, key: Key, update: Update, columns: dict[str, Any]) -> None:
        """Guard a root by its version and store the next one, with the changes of its own row."""
        names = (*columns, top.columns[-1])
        step = self.step(self._guards, top, top.update(names, guarded=True), names, guarded=True)
        step.rows.append((*columns.values(), update.becomes, *key, update.expected))
        self._claim(top, key, columns)

    async def positions(self, table: TableWriter, parent_key: Key) -> list[tuple[Row, int]]:
        """Keys (their own part) and positions of a stored array, in order."""
        for changes in self._changes:
            changes.set_apart()
        rows = await self._execution.fetch(table.positions, parent_key)
        return [(row[:-1], row[-1]) for row in rows]

    async def run(self) -> None:
        """Send everything. Raises `ConcurrentModification`, `AlreadyExists`."""
        for changes in self._changes:
            await changes.add()
        for table, rows in self._sets.items():
            for key, columns in rows.items():
                names = tuple(columns)
                self.step(self._updates, table, table.update(names), names).rows.append((*columns.values(), *key))
        inserts = sorted(self._inserts.values(), key=lambda step: len(step.node.path))  # parents first
        steps = [
            *self._parked(),
            *self._gone.values(),
            *self._guards.values(),
            *self._deletes.values(),
            *self._updates.values(),
            *inserts,
            *self._moves.values(),
        ]
        if not steps:
            return
        try:
            await self._execution.apply(steps)
        except Refused as refused:
            error = await self._error(refused)
            self._execution.abort(error)
            raise error from refused.cause

    def _parked(self) -> Iterable[Step]:
        """Steps that take unique values out of the way where several rows change them."""
        for (table, column), keys in self._claims.items():
            if len(keys) > 1:
                parking, kind = self._backend.dialect.expressions.parking, table.kind(column)
                rows = [(parking(kind, number), *key) for number, key in enumerate(keys)]
                yield Step(table.park(column), table.node, (column,), rows=rows)

    async def _error(self, refused: Refused) -> Exception:
        step, dialect = refused.step, self._backend.dialect
        if refused.cause is None:
            return await self._modified(step, step.rows[refused.place])
        taken = dialect.taken(refused.cause)
        if taken is None or not 0 <= refused.place < len(step.rows):
            return dialect.translate(refused.cause)
        return _already(dialect.expressions, step, taken[1], step.rows[refused.place])

    async def _modified(self, step: Step, row: Row) -> Exception:
        """The error for a root that is not at the version that its guard expects."""
        top = self._backend.writer(step.node.info.cls).top
        key, expected = row[-1 - len(step.node.key) : -1], row[-1]
        found = await self._execution.fetch(top.version, key)
        id = _id(self._backend.dialect.expressions, step.node, key)
        return ConcurrentModification(step.node.info.cls, id, expected, found[0][0] if found else None)


class _Changes:
    """The statements for the change set of one aggregate."""

    def __init__(self, flush: Flush, writer: AggregateWriter, update: Update) -> None:
        self._flush = flush
        self._writer = writer
        self._obj = update.object
        self._update = update
        self._key = writer.top.key(info(type(update.object)).id_of(update.object))
        self._root: dict[str, Any] = {}
        self._edits: dict[tracking.Path, ArrayEdit] = {}
        self._sets: list[tuple[tracking.Path, Any]] = []
        self._lengths: dict[tracking.Path, int] | None = None
        self._places: dict[tracking.Path, list[Row | None]] = {}
        self._sort(update.changes)

    def _sort(self, changes: ChangeSet) -> None:
        for operation in changes:
            match operation:
                case tracking.Set(path, value) | tracking.Replace(path, value):
                    self._sets.append((path, value))
                case tracking.Insert(path, index, item):
                    self._edit(path).inserted[index] = item
                case tracking.Remove(path, tracking.Key(id)):
                    self._edit(path).removed.add(self._table(path).key(id))
                case tracking.Remove(path, int(place)):
                    self._edit(path).removed_places.add(place)
                case tracking.Move(path, tracking.Key(id), index):
                    self._edit(path).moved[self._table(path).key(id)] = index

    def set_apart(self) -> None:
        """Need the object no more: others may change it while the store is waited for."""
        if self._lengths is None:
            self._lengths = {path: self._length(path) for path in self._edits}
            self._sets = [(path, _apart(value)) for path, value in self._sets]
            for edit in self._edits.values():
                edit.inserted = {place: item.copy() for place, item in edit.inserted.items()}

    async def add(self) -> None:
        """Add the statements to the flush."""
        entered = {path[:at] for path in (*self._edits, *(path for path, _ in self._sets)) for at in _items(path)}
        for path, edit in self._edits.items():  # an outer array stands before those in its items
            await self._rearrange(path, edit, numbered=path in entered)
        for path, value in self._sets:
            await self._set(path, value)
        self._flush.bump(self._writer.top, self._key, self._update, self._root)

    def _edit(self, path: tracking.Path) -> ArrayEdit:
        return self._edits.setdefault(path, ArrayEdit())

    async def _set(self, path: tracking.Path, value: Any) -> None:
        table, shape = self._place(path[:-1])
        key = await self._key_at(path[:-1])
        name = path[-1]
        assert isinstance(name, str), "a value is set in a field"
        member = shape.members[name]
        if isinstance(member, Children):
            self._renew(member.node, value, key)
            return
        columns = dict(table.changed(shape, name, value))
        if table is self._writer.top:
            self._root.update(columns)
        elif columns:
            self._flush.set(table, key, columns)
        if isinstance(member, Embedded):
            self._renew_nested(member.shape, value, key)

    def _renew(self, node: Node, items: Sequence[Any], parent_key: Key) -> None:
        table = self._writer.tables[node]
        self._flush.delete_all(table, parent_key)
        if items:
            self._flush.items(self._writer, table, items, parent_key)

    def _renew_nested(self, shape: Shape, value: Any, key: Key) -> None:
        """The arrays of a nested Model that is replaced as a whole."""
        for name, member in shape.members.items():
            inner = None if value is None else getattr(value, name)
            if isinstance(member, Children):
                self._renew(member.node, inner or (), key)
            elif isinstance(member, Embedded):
                self._renew_nested(member.shape, inner, key)

    def _place(self, path: tracking.Path) -> tuple[TableWriter, Shape]:
        """The table that the object or array at `path` is stored in, and the shape of what is there."""
        table, shape = self._writer.top, self._writer.root.shape
        for part in path:
            if isinstance(part, str):
                member = shape.members[part]
                if isinstance(member, Children):
                    table, shape = self._writer.tables[member.node], member.node.shape
                else:
                    assert isinstance(member, Embedded), "a path goes through Models"
                    shape = member.shape
        return table, shape

    def _table(self, path: tracking.Path) -> TableWriter:
        return self._place(path)[0]

    async def _key_at(self, path: tracking.Path) -> Key:
        """The key of the row that the object at `path` is stored in; of an array, the key of its parent."""
        key = self._key
        for at, part in enumerate(path):
            if isinstance(part, tracking.Key):
                key = (*key, *self._table(path[:at]).key(part.id))
            elif isinstance(part, int):
                own = (await self._stored_places(path[:at], key))[part]
                assert own is not None, "what is new has no changes of its own"
                key = (*key, *own)
        return key

    async def _stored_places(self, path: tracking.Path, parent_key: Key) -> list[Row | None]:
        """The own keys that the items of the new list at `path` are stored with; None for a new item."""
        places = self._places.get(path)
        if places is None:
            stored = await self._flush.positions(self._table(path), parent_key)
            places = self._places[path] = [own for own, _ in stored]
        return places

    async def _rearrange(self, path: tracking.Path, edit: ArrayEdit, *, numbered: bool) -> None:
        """Delete, insert and move the items of one array; `numbered`: other changes speak of its items by place."""
        flush, writer, table = self._flush, self._writer, self._table(path)
        parent_key = await self._key_at(path)
        by_position = table.node.keyed_by_position
        edges = None if numbered or (by_position and table.arrays) else edit.edges(self._length(path))
        if edges is not None:
            for own in edit.removed:
                flush.delete(table, (*parent_key, *own))
            front, back = edges
            for item in reversed(front):
                flush.one(writer, table, table.prepend, item, parent_key)
            for item in back:
                flush.one(writer, table, table.append, item, parent_key)
            return
        stored = await flush.positions(table, parent_key)
        placed, gone = place(stored, edit, afresh=by_position)
        self._places[path] = [None if isinstance(each.item, Model) else each.item for each in placed]
        for own in gone:
            flush.delete(table, (*parent_key, *own))
        for each in placed:
            if isinstance(each.item, Model):
                flush.one(writer, table, table.insert, each.item, parent_key, each.position)
            elif each.position != each.stored_at:
                key = (*parent_key, *each.item)
                if by_position:
                    flush.move(table, key, each.position)
                else:
                    flush.set(table, key, {table.columns[-1]: each.position})

    def _length(self, path: tracking.Path) -> int:
        """The length of the new list at `path`."""
        if self._lengths is not None:
            return self._lengths[path]
        found: Any = self._obj
        for part in path:
            if isinstance(part, str):
                found = getattr(found, part)
            elif isinstance(part, int):
                found = found[part]
            else:
                id = part.id
                found = next(item for item in found if info(type(item)).id_of(item) == id)
        return len(found)


def _apart(value: Any) -> Any:
    """`value`, without what others could change."""
    if isinstance(value, list):
        return [_apart(item) for item in value]
    return value.copy() if isinstance(value, Model) else value


def _items(path: tracking.Path) -> Iterable[int]:
    """Where in `path` an item is meant by its place in the list."""
    return (at for at, part in enumerate(path) if isinstance(part, int))


def _id(say: Expressions, node: Node, key: Row) -> Any:
    """The id that an encoded key of a root stands for."""
    kinds = (field.leaf for field in node.info.identity)
    values = tuple(_decoded(say, kind, value) for kind, value in zip(kinds, key, strict=True))
    return values[0] if len(values) == 1 else values


def _decoded(say: Expressions, kind: type | None, value: Any) -> Any:
    decode = None if kind is None or value is None else say.decoder(kind)
    return value if decode is None else decode(value)


def _already(say: Expressions, step: Step, columns: tuple[str, ...], row: Row) -> Exception:
    """The error for a row whose values in `columns` are taken."""
    node, values = step.node, dict(zip(step.columns, row, strict=False))
    root = node
    while root.parent is not None:
        root = root.parent
    if {column.name for column in node.key} == set(columns):
        own = [column.name for column in node.key[len(node.parent_key) :]]
    else:
        own = list(columns)
    fields: list[str] = []
    found: list[Any] = []
    for name, leaf in _leaves(node.shape, node.path):
        if leaf.column.name in own:
            fields.append(".".join(name))
            found.append(_decoded(say, leaf.type, values.get(leaf.column.name)))
    if not fields:
        return StoreError(f"{root.info.name}: {', '.join(columns)} of {node.table.name} must be unique")
    return AlreadyExists(root.info.cls, ", ".join(fields), found[0] if len(found) == 1 else tuple(found))


def _leaves(shape: Shape, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Leaf]]:
    found: list[tuple[tuple[str, ...], Leaf]] = []
    for name, member in shape.members.items():
        if isinstance(member, Leaf):
            found.append(((*path, name), member))
        elif isinstance(member, Embedded):
            found += _leaves(member.shape, (*path, name))
    return found

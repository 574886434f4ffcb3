"""Where each field of an aggregate is stored: the tree of tables and columns behind a root.

A `Node` is a table: the root's, or that of one array of Models below it. Its `Shape` says, field by field, where the
values of one Model lie: in a column (`Leaf`), in a column as JSON (`Scalars`), in prefixed columns of the same table
(`Embedded`, a nested Model) or in a table of their own (`Children`). Everything else in this backend walks this tree.

A child's primary key is its parent's key followed by its own identity, so ids are local to the parent and the rows of
one parent lie side by side; an item without identity has its position in that place. Positions are integers with
gaps, unique among the children of one parent and ordered like the list. Deleting a row deletes what is below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from wintry.models import FieldInfo, Model, ModelInfo, info

from ..errors import DefinitionError, Unsupported
from . import names

Types: TypeAlias = "Mapping[type, sa.types.TypeEngine[Any]]"
"""The column type of each Python type, as a dialect has it."""

GAP: Final = 1 << 20
"""The distance of two neighbours in a list that was written as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A value in a column of its own."""

    field: FieldInfo
    column: sa.Column[Any]
    type: type


@dataclass(frozen=True, slots=True, eq=False)
class Scalars:
    """A list of values of one type, as JSON in one column."""

    field: FieldInfo
    column: sa.Column[Any]
    type: type


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A nested Model in the columns of its owner's table; `flag` is null where it is None."""

    field: FieldInfo
    flag: sa.Column[Any] | None
    shape: Shape


@dataclass(slots=True, eq=False)
class Children:
    """An array of Models in a table of its own, which is known once the owner's table is."""

    field: FieldInfo
    node: Node = attribute(init=False)


Member: TypeAlias = Leaf | Scalars | Embedded | Children


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The stored fields of one Model, by name, in declared order."""

    info: ModelInfo
    members: dict[str, Member]


@dataclass(slots=True, eq=False)
class Node:
    """A table. `parent_key` are the columns that point to `parent.key`; `key` is the whole primary key."""

    info: ModelInfo
    table: sa.Table
    path: tuple[str, ...]
    parent: Node | None
    parent_key: tuple[sa.Column[Any], ...]
    key: tuple[sa.Column[Any], ...]
    version: sa.Column[Any] | None
    position: sa.Column[Any] | None
    shape: Shape
    children: list[Node] = attribute(default_factory=list)

    @property
    def keyed_by_position(self) -> bool:
        """Whether the items have no identity of their own."""
        return self.parent is not None and not self.info.identity


def lay_out(model: type[Model], metadata: sa.MetaData, types: Types, table_options: Mapping[str, Any]) -> Node:
    """Put the tables of the aggregate whose root is `model` into `metadata`.

    Raises `DefinitionError` where names clash, `Unsupported` for a Model that has no finite tree of tables.
    """
    about = info(model)
    if not about.is_entity:
        raise DefinitionError(about.place, "it has no identity and cannot be found again", "give it a RequiredId()")
    before = set(metadata.tables)
    try:
        return _Builder(model, metadata, types, table_options).node(about, (), None, (model,))
    except BaseException:
        for name in set(metadata.tables) - before:
            metadata.remove(metadata.tables[name])
        raise


class _Builder:
    """One walk over a root's tree."""

    def __init__(
        self, root: type[Model], metadata: sa.MetaData, types: Types, table_options: Mapping[str, Any]
    ) -> None:
        self.root = root
        self.metadata = metadata
        self.types = types
        self.table_options = table_options
        self.waiting: list[tuple[Children, tuple[str, ...], ModelInfo, tuple[type, ...]]] = []

    def node(self, about: ModelInfo, path: tuple[str, ...], parent: Node | None, above: tuple[type, ...]) -> Node:
        """The table for `about` at `path`, and those below it."""
        columns: list[sa.Column[Any]] = []
        parent_key = self._parent_key(parent)
        columns += parent_key
        waiting, self.waiting = self.waiting, []
        shape = self._shape(about, "", path, False, columns, above)
        below, self.waiting = self.waiting, waiting
        version = position = None
        if parent is None:
            columns.append(version := sa.Column(names.VERSION, self.types[int], nullable=False))
            name = names.root_table(about.cls)
        else:
            columns.append(position := sa.Column(names.POSITION, self.types[int], nullable=False))
            name = names.child_table(self.root, path)
        own = [member.column for each in about.identity if isinstance(member := shape.members[each.name], Leaf)]
        key = (*parent_key, *own) if own or position is None else (*parent_key, position)
        table = self._table(name, about, columns, key, parent, parent_key)
        node = Node(about, table, path, parent, parent_key, key, version, position, shape)
        self._indexes(node)
        for children, child_path, child, child_above in below:
            children.node = self.node(child, child_path, node, child_above)
            node.children.append(children.node)
        return node

    def _shape(
        self,
        about: ModelInfo,
        prefix: str,
        path: tuple[str, ...],
        optional: bool,
        columns: list[sa.Column[Any]],
        above: tuple[type, ...],
    ) -> Shape:
        """Columns for the fields of `about`; its arrays wait until their parent's table exists."""
        members: dict[str, Member] = {}
        for each in about.fields:
            nullable = optional or each.optional
            if each.leaf is not None:
                kind = list if each.is_array else each.leaf
                column = sa.Column(names.nested(prefix, each.name), self.types[kind], nullable=nullable)
                columns.append(column)
                members[each.name] = (Scalars if each.is_array else Leaf)(each, column, each.leaf)
                continue
            model = each.model
            assert model is not None, "a field holds scalars or Models"
            self._finite(model, above, path, each)
            if each.is_array:
                members[each.name] = children = Children(each)
                self.waiting.append((children, (*path, each.name), info(model), (*above, model)))
                continue
            flag = None
            if each.optional:
                columns.append(flag := sa.Column(names.flag(prefix, each.name), self.types[bool], nullable=True))
            inner_path, inner_prefix = (*path, each.name), f"{prefix}{each.name}_"
            inner = self._shape(info(model), inner_prefix, inner_path, nullable, columns, (*above, model))
            members[each.name] = Embedded(each, flag, inner)
        return Shape(about, members)

    def _finite(self, model: type[Model], above: tuple[type, ...], path: tuple[str, ...], each: FieldInfo) -> None:
        if model in above:
            place = ".".join((self.root.__name__, *path, each.name))
            raise Unsupported(place, f"{model.__name__} contains itself, which needs endlessly many tables")

    def _parent_key(self, parent: Node | None) -> tuple[sa.Column[Any], ...]:
        """Columns like the parent's key; what the parent has from above keeps its name."""
        if parent is None:
            return ()
        inherited = len(parent.parent_key)
        return tuple(
            sa.Column(
                column.name if place < inherited else names.parent_key(self.root, parent.path, column.name),
                column.type,
                nullable=False,
            )
            for place, column in enumerate(parent.key)
        )

    def _table(
        self,
        name: str,
        about: ModelInfo,
        columns: list[sa.Column[Any]],
        key: tuple[sa.Column[Any], ...],
        parent: Node | None,
        parent_key: tuple[sa.Column[Any], ...],
    ) -> sa.Table:
        place = ".".join((self.root.__name__, *(parent.path if parent else ())))
        if name in self.metadata.tables:
            raise DefinitionError(
                place, f"it needs the table {name!r}, and there is one already", "rename one of the two"
            )
        seen: set[str] = set()
        for column in columns:
            if column.name.lower() in seen:
                raise DefinitionError(
                    place, f"two fields need the column {column.name!r} of {name!r}", "rename one of them"
                )
            seen.add(column.name.lower())
        constraints: list[sa.Constraint] = [sa.PrimaryKeyConstraint(*key)]
        if parent is not None:
            constraints.append(
                sa.ForeignKeyConstraint(
                    parent_key,
                    parent.key,
                    ondelete="CASCADE",
                    onupdate="CASCADE" if _moves(parent) else None,
                )
            )
        options = self.table_options if parent is not None else {}
        return sa.Table(name, self.metadata, *columns, *constraints, **options)

    def _indexes(self, node: Node) -> None:
        for member in _leaves(node.shape):
            unique = member.field.unique and not (node.parent is None and node.key == (member.column,))
            if unique or member.field.index:
                name = names.index(node.table.name, member.column.name, unique=unique)
                sa.Index(name, member.column, unique=unique)


def _moves(node: Node) -> bool:
    """Whether a key of `node` can change: only positions do."""
    return node.keyed_by_position or (node.parent is not None and _moves(node.parent))


def _leaves(shape: Shape) -> list[Leaf]:
    found: list[Leaf] = []
    for member in shape.members.values():
        if isinstance(member, Leaf):
            found.append(member)
        elif isinstance(member, Embedded):
            found += _leaves(member.shape)
    return found


def walk(node: Node) -> list[Node]:
    """`node` and every table below it, parents first."""
    found = [node]
    for child in node.children:
        found += walk(child)
    return found

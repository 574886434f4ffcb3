"""Compiles plans: from the normalised condition to one statement of fixed text, prebuilt.

SQLAlchemy writes the text once; a call only puts its values in order and sends both to the driver. SQL's third truth value
never shows: every comparison is built so that it is TRUE exactly where the contract says so (`IS` where both sides may
be NULL), `and` and `or` keep that, and a complement is `IS NOT TRUE` of the whole. An array's condition is one
`EXISTS` over its table; where that table can be searched by an index and the root cannot, it is the equivalent
`key IN (SELECT …)` instead, which SQLite begins with. The values of an `in` travel as one parameter, so the text
does not depend on their number; a query that an empty one makes false is answered without the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, assert_never

import sqlalchemy as sa

from ..backend import Execution
from ..errors import Unsupported
from ..language.operators import Operator
from ..language.tree import Path
from ..plan import Always, And, Compare, Expr, Not, Or, Parameter, QueryPlan, Some, settled, walk
from .dialects.protocol import Condition, Convert, Expressions
from .layout import Children, Embedded, Leaf, Node, Scalars, Shape
from .load import Reader
from .session import SqlExecution

Values = tuple[Any, ...]


class SqlQuery:
    """A prebuilt statement. `text` is what runs; `run` gives what the verb gives."""

    def __init__(
        self, plan: QueryPlan, text: str, binders: tuple[Callable[[Values], Any], ...], reader: Reader
    ) -> None:
        self.plan = plan
        self.text = text
        self._binders = binders
        self._reader = reader
        self._folds = any(isinstance(node, Compare) and node.operator.many for node in _nodes(plan))

    async def run(self, execution: Execution, values: Values) -> Any:
        """Run it in `execution` with `values` in the order of the plan's parameters."""
        assert isinstance(execution, SqlExecution), "an execution of this backend"
        verb = self.plan.verb
        if self._folds and self.plan.where is not None and settled(self.plan.where, values) is False:
            return [] if verb == "find" else False if verb == "exists" else 0
        row = tuple([bind(values) for bind in self._binders])
        if verb == "delete":
            return await execution.change(self.text, row)
        rows = await execution.fetch(self.text, row)
        if verb == "find":
            return self._reader.all(rows)
        return rows[0][0] if verb == "count" else bool(rows)


def compile_plan(plan: QueryPlan, reader: Reader, compiler: sa.Dialect, say: Expressions) -> SqlQuery:
    """The statement for `plan` on the tables of `reader.root`. Raises `Unsupported`."""
    builder = _Builder(plan, reader.root, say)
    compiled = builder.statement(reader).compile(dialect=compiler)
    text = f"{compiled} /* {plan.label} */".replace("\n", " ")
    names: list[str] = getattr(compiled, "positiontup", None) or []
    constants = compiled.params or {}
    return SqlQuery(
        plan, text, tuple(builder.binders.get(name) or _constant(constants[name]) for name in names), reader
    )


def _constant(value: Any) -> Callable[[Values], Any]:
    return lambda values: value


@dataclass(frozen=True, slots=True)
class _Scope:
    """The element that paths start at: its shape, and the table or alias that its columns are read from."""

    shape: Shape
    node: Node
    source: sa.FromClause
    item: sa.ColumnElement[Any] | None = None
    """The element itself, for a list of scalars."""

    def column(self, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        """`column` of the layout, read from this scope's source."""
        return self.source.c[column.name]

    def key(self, columns: Iterable[sa.Column[Any]]) -> list[sa.ColumnElement[Any]]:
        """Several of them."""
        return [self.column(column) for column in columns]


class _Builder:
    """The statement of one plan, and what its parameters are bound with."""

    def __init__(self, plan: QueryPlan, root: Node, say: Expressions) -> None:
        self.plan = plan
        self.say = say
        self.binders: dict[str, Callable[[Values], Any]] = {}
        self.root = _Scope(root.shape, root, root.table)
        self._aliases = 0

    def statement(self, reader: Reader) -> sa.ClauseElement:
        """The statement of the plan's verb."""
        plan, table = self.plan, self.root.node.table
        where = self._where()
        match plan.verb:
            case "find":
                select = sa.select(*reader.columns).select_from(table).where(*where).order_by(*self._order())
                return select if plan.limit is None else select.limit(_number(plan.limit))
            case "count":
                if plan.limit is None:
                    return sa.select(sa.func.count()).select_from(table).where(*where)
                some = sa.select(_number(1)).select_from(table).where(*where).limit(_number(plan.limit))
                return sa.select(sa.func.count()).select_from(some.subquery())
            case "exists":
                return sa.select(_number(1)).select_from(table).where(*where).limit(_number(1))
            case "delete":
                if plan.limit is None:
                    return sa.delete(table).where(*where)
                key = self.root.key(self.root.node.key)
                first = sa.select(*key).where(*where).order_by(*self._order()).limit(_number(plan.limit))
                return sa.delete(table).where(_tuple(key).in_(first))
            case _:
                assert_never(plan.verb)

    def _where(self) -> tuple[Condition, ...]:
        where = self.plan.where
        return () if where is None else (self._condition(where, self.root, leads=True),)

    def _order(self) -> list[sa.ColumnElement[Any]]:
        keys: list[sa.ColumnElement[Any]] = []
        for order in self.plan.order:
            column = self._value(order.path, self.root)
            if column is None:
                raise Unsupported(
                    self.plan.label, f"there is no order by {_dotted(order.path)}, which is no single value"
                )
            optional = any(field.optional for field in order.path)
            keys.append(self.say.order(column, descending=order.descending, optional=optional))
        return keys

    def _condition(self, expression: Expr, scope: _Scope, *, leads: bool) -> Condition:
        """`expression` about the element of `scope`; `leads`: the rows of `scope` may be found through it."""
        match expression:
            case And(items):
                led = leads and not any(_searchable(item, scope.node) for item in items if not isinstance(item, Some))
                return sa.and_(*(self._condition(item, scope, leads=led) for item in items))
            case Or(items):
                return sa.or_(*(self._condition(item, scope, leads=leads) for item in items))
            case Not(item):
                return _is_not_true(self._condition(item, scope, leads=False))
            case Always(value):
                return sa.true() if value else sa.false()
            case Compare():
                return self._compare(expression, scope)
            case Some(path, where):
                return self._some(path, where, scope, leads=leads)
            case _:
                assert_never(expression)

    def _some(self, path: Path, where: Expr, scope: _Scope, *, leads: bool) -> Condition:
        member = _member(path, scope.shape)
        self._aliases += 1
        if isinstance(member, Scalars):
            return self._some_scalar(member, where, scope)
        if not isinstance(member, Children):
            raise Unsupported(self.plan.label, f"{_dotted(path)} is no list")
        child = member.node
        alias = child.table.alias(f"{path[-1].name}_{self._aliases}")
        inner = _Scope(child.shape, child, alias)
        parent, own = inner.key(child.parent_key), scope.key(scope.node.key)
        if leads and _searchable(where, child):
            condition = self._condition(where, inner, leads=True)
            return _tuple(own).in_(sa.select(*parent).select_from(alias).where(condition))
        condition = self._condition(where, inner, leads=False)
        belongs = (mine == theirs for mine, theirs in zip(parent, own, strict=True))
        found = sa.select(_number(1)).select_from(alias).where(*belongs, condition)
        return sa.exists(found.correlate_except(alias))

    def _some_scalar(self, member: Scalars, where: Expr, scope: _Scope) -> Condition:
        name = f"{member.field.name}_{self._aliases}"
        items, item = self.say.items(scope.column(member.column), member.type, name)
        inner = _Scope(scope.shape, scope.node, scope.source, item)
        condition = self._condition(where, inner, leads=False)
        return sa.exists(sa.select(_number(1)).select_from(items).where(condition).correlate_except(items))

    def _value(self, path: Path, scope: _Scope) -> sa.ColumnElement[Any] | None:
        """The column at the end of `path`; of a nested Model, the flag that says it is there; None if it always is."""
        if not path:
            return scope.item
        shape, flag = scope.shape, None
        for field in path:
            member = shape.members[field.name]
            if isinstance(member, Embedded):
                shape, flag = member.shape, flag if member.flag is None else member.flag
            elif isinstance(member, Leaf | Scalars):
                return scope.column(member.column)
        return None if flag is None else scope.column(flag)

    def _compare(self, compare: Compare, scope: _Scope) -> Condition:
        value = self._value(compare.path, scope)
        operator, parameters = compare.operator, compare.parameters
        if value is None:
            return sa.false() if operator is Operator.NULL else sa.true()
        match operator:
            case Operator.EQ:
                argument = self._bind(parameters[0], compare)
                both = compare.optional and parameters[0].optional
                return self.say.same(value, argument) if both else value == argument
            case Operator.NE:
                argument = self._bind(parameters[0], compare)
                return value.is_distinct_from(argument)
            case Operator.LT:
                return value < self._bind(parameters[0], compare)
            case Operator.LTE:
                return value <= self._bind(parameters[0], compare)
            case Operator.GT:
                return value > self._bind(parameters[0], compare)
            case Operator.GTE:
                return value >= self._bind(parameters[0], compare)
            case Operator.BETWEEN:
                low, high = (self._bind(parameter, compare) for parameter in parameters)
                return value.between(low, high)
            case Operator.IN:
                return self._among(value, compare)
            case Operator.NOT_IN:
                return _is_not_true(self._among(value, compare))
            case Operator.NULL:
                return value.is_(None)
            case Operator.NOT_NULL:
                return value.is_not(None)
            case _:
                assert_never(operator)

    def _among(self, value: sa.ColumnElement[Any], compare: Compare) -> Condition:
        index = compare.parameters[0].index

        def bind(name: str, convert: Convert) -> sa.BindParameter[Any]:
            return self._parameter(name, lambda values: convert([each for each in values[index] if each is not None]))

        found = self.say.among(value, compare.type, str(index), bind, item=not compare.path)
        if not compare.optional:
            return found
        none = self.say.flag(self._parameter(f"none_{index}", lambda values: None in values[index]))
        return sa.or_(found, sa.and_(value.is_(None), none))

    def _bind(self, parameter: Parameter, compare: Compare) -> sa.BindParameter[Any]:
        index = parameter.index
        item = not compare.path
        encode = (self.say.item_encoder if item else self.say.encoder)(compare.type)
        kind = self.say.parameter(compare.type, item=item)
        if encode is None:
            return self._parameter(f"value_{index}", lambda values: values[index], kind)
        convert = encode

        def encoded(values: Values) -> Any:
            value = values[index]
            return None if value is None else convert(value)

        return self._parameter(f"value_{index}", encoded, kind)

    def _parameter(
        self, name: str, binder: Callable[[Values], Any], kind: sa.types.TypeEngine[Any] | None = None
    ) -> sa.BindParameter[Any]:
        self.binders[name] = binder
        return sa.bindparam(name, type_=kind or sa.types.NullType())


def _nodes(plan: QueryPlan) -> Iterable[Expr]:
    return () if plan.where is None else walk(plan.where)


def _member(path: Path, shape: Shape) -> Leaf | Scalars | Embedded | Children:
    for field in path[:-1]:
        member = shape.members[field.name]
        assert isinstance(member, Embedded), "a path crosses no array"
        shape = member.shape
    return shape.members[path[-1].name]


def _searchable(expression: Expr, node: Node) -> bool:
    """Whether rows of `node` that fulfil `expression` can be found by an index instead of by reading all of them."""
    match expression:
        case And(items):
            return any(_searchable(item, node) for item in items)
        case Or(items):
            return all(_searchable(item, node) for item in items)
        case Compare(path=path, operator=Operator.EQ | Operator.IN) if path:
            member = _member(path, node.shape)
            return isinstance(member, Leaf) and (member.column is node.key[0] or _indexed(node, member.column))
        case Some(path, where):
            member = _member(path, node.shape)
            return isinstance(member, Children) and _searchable(where, member.node)
        case _:
            return False


def _indexed(node: Node, column: sa.Column[Any]) -> bool:
    return any(column is next(iter(index.columns), None) for index in node.table.indexes)


def _is_not_true(condition: Condition) -> Condition:
    return sa.type_coerce(condition, sa.Boolean()).is_not(sa.true())


def _tuple(columns: list[sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
    return columns[0] if len(columns) == 1 else sa.tuple_(*columns)


def _number(value: int) -> sa.ColumnElement[Any]:
    return sa.literal_column(str(value))


def _dotted(path: Path) -> str:
    return ".".join(field.name for field in path)

"""Compiles plans: from the normalised condition to a generated function that puts values into a filter.

The filter's form is fixed when the plan is compiled; a call only fills its slots (`MongoQuery.source` shows it), so that
a value is compared and never read as an operator. MongoDB's own logic is the contract's once three things are kept: a
comparison of a field says its operator, a complement is `$nor` of the whole (never `$not`, `$lt` and the like turned
round), and whatever is said of one element of an array stands in one `$elemMatch`.

An equality on an indexed field of an array's elements is said twice, in its `$elemMatch` and as a dotted term beside
it: only by the latter does the server see that a partial index serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

from wintry.models.source import Source, variable

from ..errors import Unsupported
from ..language.operators import Operator
from ..plan import Always, And, Compare, Expr, Not, Or, Parameter, QueryPlan, Some, settled, walk
from .codec import ENCODERS
from .documents import ID, Documents

if TYPE_CHECKING:
    from ..backend import Execution
    from ..language.tree import Path
    from .session import MongoExecution

Values: TypeAlias = tuple[Any, ...]
Pairs: TypeAlias = list[tuple[str, str]]
"""The keys of a filter and the source of their values."""

_ORDERED = {Operator.LT: "$lt", Operator.LTE: "$lte", Operator.GT: "$gt", Operator.GTE: "$gte"}
_OPPOSITE = {
    Operator.LT: Operator.GTE,
    Operator.GTE: Operator.LT,
    Operator.GT: Operator.LTE,
    Operator.LTE: Operator.GT,
}
_ID_ALONE: dict[str, Any] = {"projection": {ID: 1}}


class MongoQuery:
    """A compiled plan. `source` is the generated function; `run` gives what the verb gives."""

    def __init__(self, plan: QueryPlan, documents: Documents) -> None:
        self.plan = plan
        self._documents = documents
        builder = _Builder(plan, documents)
        self.filter: Callable[[Values], dict[str, Any]] = builder.compile()
        self.source = builder.out.text
        self.sort = [(documents.dotted(key.path), -1 if key.descending else 1) for key in plan.order]
        nodes = () if plan.where is None else tuple(walk(plan.where))
        self._folds = any(isinstance(node, Compare) and node.operator.many for node in nodes)

    async def run(self, execution: Execution, values: Values) -> Any:
        """Run it in `execution` with `values` in the order of the plan's parameters."""
        own: MongoExecution = execution  # type: ignore[assignment]  # a backend gets executions of its own alone
        plan, label = self.plan, self.plan.label
        if self._folds and plan.where is not None and settled(plan.where, values) is False:
            return [] if plan.verb == "find" else False if plan.verb == "exists" else 0
        query, name = self.filter(values), self._documents.name
        collection = own.collection(name)
        match plan.verb:
            case "find":
                decode = self._documents.decode
                return [decode(row) for row in await own.find(name, query, label, self.sort, plan.limit or 0)]
            case "count":
                return await own.run(lambda session: collection.count_documents(query, session=session, comment=label))
            case "exists":
                found = await own.run(
                    lambda session: collection.find_one(query, **_ID_ALONE, session=session, comment=label)
                )
                return found is not None
            case "delete":
                own.writing()
                done = await own.run(lambda session: collection.delete_many(query, session=session, comment=label))
                return done.deleted_count
            case _:
                assert_never(plan.verb)


class _Builder:
    """The filter of one plan, as source."""

    def __init__(self, plan: QueryPlan, documents: Documents) -> None:
        self.plan = plan
        self.documents = documents
        self.out = Source(f"{plan.label} as a filter")

    def compile(self) -> Callable[[Values], dict[str, Any]]:
        """The function from values to the filter. Raises `Unsupported`."""
        name = self.out.fresh(f"filter_{variable(self.plan.model.__name__)}")
        where = [] if self.plan.where is None else self.pairs(self.plan.where, root=True)
        with self.out.block(f"def {name}(v):"):
            self.out.line(f"return {_text(where)}")
        return self.out.compiled(name)[0]

    def pairs(self, expression: Expr, *, root: bool) -> Pairs:
        """The filter for `expression`, whose paths start at the root or at an element."""
        match expression:
            case Always(value):
                return [] if value else [("$nor", "[{}]")]
            case And(items):
                every = [self.pairs(item, root=root) for item in items]
                flat = [pair for pairs in every for pair in pairs]
                return flat if len({key for key, _ in flat}) == len(flat) else [("$and", _list(every))]
            case Or(items):
                return [("$or", _list([self.pairs(item, root=root) for item in items]))]
            case Not(item):
                return [("$nor", _list([self.pairs(item, root=root)]))]
            case Compare(path):
                return [(self._dotted(path, root=root), _text(self._operators(expression)))]
            case Some(path, where):
                return self._some(path, where, root=root)
            case _:
                assert_never(expression)

    def _some(self, path: Path, where: Expr, *, root: bool) -> Pairs:
        dotted = self._dotted(path, root=root)
        inner = self.pairs(where, root=False) if path[-1].model is not None else self._scalar(where)
        if not inner:  # any element at all
            return [(f"{dotted}.0", "{'$exists': True}")]
        found = [(dotted, f"{{'$elemMatch': {_text(inner)}}}")]
        if root:
            found += dict(self._beside(dotted, where)).items()
        return found

    def _beside(self, dotted: str, where: Expr) -> Iterator[tuple[str, str]]:
        """Equalities on indexed fields that every element that fulfils `where` fulfils."""
        match where:
            case And(items):
                for item in items:
                    yield from self._beside(dotted, item)
            case Some(path, inner):
                yield from self._beside(f"{dotted}.{self._dotted(path, root=False)}", inner)
            case Compare(path, Operator.EQ) if path and (path[-1].unique or path[-1].index):
                yield f"{dotted}.{self._dotted(path, root=False)}", _text(self._operators(where))
            case _:
                pass

    def _dotted(self, path: Path, *, root: bool) -> str:
        return self.documents.dotted(path) if root else ".".join(field.name for field in path)

    def _scalar(self, where: Expr) -> Pairs:
        """Operators that one scalar of a list fulfils together; none for anything. Raises `Unsupported`."""
        match where:
            case Compare():
                return self._operators(where)
            case Not(Compare(operator=operator) as compare) if operator in _OPPOSITE:
                # An element is never None: the other order is the complement.
                opposite = Compare(compare.path, _OPPOSITE[operator], compare.type, False, compare.parameters)
                return self._operators(opposite)
            case Not(item):
                return [("$not", _text(self._scalar(item)))]
            case And(items):
                return self._together([self._scalar(item) for item in items])
            case Always(True):
                return []
            case _:
                raise self._unsupported()

    def _together(self, every: Sequence[Pairs]) -> Pairs:
        """All of several operators; one that is there already goes behind two `$not`, which have a room of their own."""
        found = dict[str, str]()
        rest = list[Pairs]()
        for pairs in sorted(every, key=lambda pairs: "$not" not in dict(pairs)):
            if found.keys() & dict(pairs).keys():
                rest.append(pairs)
            else:
                found.update(pairs)
        if rest:
            if "$not" in found:
                raise self._unsupported()
            found["$not"] = f"{{'$not': {_text(self._together(rest))}}}"
        return list(found.items())

    def _unsupported(self) -> Unsupported:
        reason = "MongoDB cannot ask this of one and the same value of a list of scalars"
        return Unsupported(self.plan.label, reason, "make it a list of Models with one field")

    def _operators(self, compare: Compare) -> Pairs:
        values = [self._value(parameter) for parameter in compare.parameters]
        match compare.operator:
            case Operator.EQ:
                return [("$eq", values[0])]
            case Operator.NE:
                return [("$ne", values[0])]
            case Operator.IN:
                return [("$in", values[0])]
            case Operator.NOT_IN:
                return [("$nin", values[0])]
            case Operator.NULL:
                return [("$eq", "None")]
            case Operator.NOT_NULL:
                return [("$ne", "None")]
            case Operator.BETWEEN:
                return [("$gte", values[0]), ("$lte", values[1])]
            case Operator.LT | Operator.LTE | Operator.GT | Operator.GTE:
                return [(_ORDERED[compare.operator], values[0])]
            case _:
                assert_never(compare.operator)

    def _value(self, parameter: Parameter) -> str:
        """The slot of a parameter."""
        slot = f"v[{parameter.index}]"
        if parameter.many:
            return f"[{self._encoded(parameter, 'x')} for x in {slot}]"
        return self._encoded(parameter, slot)

    def _encoded(self, parameter: Parameter, value: str) -> str:
        encode = float if parameter.type is float else ENCODERS.get(parameter.type)
        if encode is None:
            return value
        made = f"{self.out.bind(encode, encode.__name__)}({value})"
        return f"(None if {value} is None else {made})" if parameter.optional else made


def _text(pairs: Pairs) -> str:
    return f"{{{', '.join(f'{key!r}: {value}' for key, value in pairs)}}}"


def _list(every: Sequence[Pairs]) -> str:
    return f"[{', '.join(_text(pairs) for pairs in every)}]"

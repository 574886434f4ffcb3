"""The query that a backend compiles: a method name after parsing, normalised.

The tree of a plan is small on purpose, so that a backend is a total function over seven nodes. A path never crosses
an array: an array is `Some(path to it, what one of its elements fulfils)`, and the terms of one And-group on one array
stand in one `Some`, since they speak of the same element. The logic has two values: `Not` is the exact complement,
None equals None and only None, and a comparison by order is False for a None in the row. Where an object on the way of
a path is None, the value at its end is None.

Values come as one tuple, in the order of `QueryPlan.parameters`; they are checked before they arrive.

`normalise` makes a plan of a bound reading. It cuts the paths at arrays and gathers the terms of each And-group by
array; a `not_` before a path keeps its term out of these groups, since it speaks of all elements; a `_not` after it
goes into the operator where that has a complement; what can be known without a row (`null` of a field that is never
None) is folded away. `null` of a path that ends in a list speaks of the list, and of no element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from wintry.models import info
from wintry.models.kinds import ArrayOf, Leaf

from .language.operators import Operator
from .language.signature import Binding, Result, Source
from .language.tree import Path, Term, Verb

if TYPE_CHECKING:
    from wintry.models import Model


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value that a query takes at each call.

    `index` is its place in the tuple of values, `name` the keyword of the method, `type` the Python type of one value.
    With `many` it is a tuple of values (for `in`), possibly empty. `optional` says whether None may come.
    """

    index: int
    name: str
    type: type
    many: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class And:
    """All of `items` (at least two)."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of `items` (at least two)."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The exact complement of `item`."""

    item: Expr


@dataclass(frozen=True, slots=True)
class Always:
    """The same for every row."""

    value: bool


@dataclass(frozen=True, slots=True)
class Compare:
    """The value at the end of `path`, compared with the parameters; the empty path is the element of an array itself.

    `type` is the Python type of that value, or of the items of a list; a nested Model and a list have only `null` and
    `not_null`. `optional` says whether the
    value can be None: its field, or an object on the way, is optional.
    """

    path: Path
    operator: Operator
    type: type
    optional: bool
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Some:
    """At least one element of the array at the end of `path` fulfils `where`, whose paths start at the element."""

    path: Path
    where: Expr


Expr: TypeAlias = And | Or | Not | Always | Compare | Some


@dataclass(frozen=True, slots=True)
class Order:
    """One key to sort by: code points for text, None first ascending and last descending."""

    path: Path
    descending: bool = False


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A query in its normal form.

    `label` names it for errors, comments and logs ("ProductRepository.get_by_sku"). `order` is a total order for
    `find`: the fields of the identity are its last keys; it is empty for the other verbs. `limit` counts roots. With
    `locked` the roots that it finds are locked before they are loaded; a backend runs the same query either way.
    """

    label: str
    model: type[Model]
    verb: Verb
    where: Expr | None = None
    order: tuple[Order, ...] = ()
    limit: int | None = None
    parameters: tuple[Parameter, ...] = ()
    locked: bool = False


def walk(expression: Expr) -> Iterator[Expr]:
    """`expression` and every node in it, a node before what it holds."""
    yield expression
    match expression:
        case And(items) | Or(items):
            for item in items:
                yield from walk(item)
        case Not(item):
            yield from walk(item)
        case Some(_, where):
            yield from walk(where)
        case Always() | Compare():
            pass


def normalise(binding: Binding, model: type[Model], label: str) -> QueryPlan:
    """The plan of a reading that fits its signature."""
    reading = binding.reading
    parameters: list[Parameter] = []
    sources = {id(source.term): _parameters(source, parameters) for source in binding.sources}
    where: Expr | None = None
    if reading.groups is not None:
        where = either([_group([(term, sources.get(id(term), ())) for term in terms]) for terms in reading.groups])
    order: tuple[Order, ...] = ()
    limit = reading.limit
    if reading.verb == "find":
        order = total_order(model, [Order(key.path, key.descending) for key in reading.order])
        if limit is None and binding.result in (Result.ONE, Result.OPTIONAL):
            limit = 2  # the second one only tells that there is more than one
    return QueryPlan(label, model, reading.verb, where, order, limit, tuple(parameters), reading.locked)


def total_order(model: type[Model], keys: Sequence[Order] = ()) -> tuple[Order, ...]:
    """`keys`, and the fields of the identity that are not among them, ascending."""
    given = {key.path[0].name for key in keys if len(key.path) == 1}
    return (*keys, *(Order((field,)) for field in info(model).identity if field.name not in given))


def both(items: Sequence[Expr]) -> Expr:
    """All of `items`, without what is always true."""
    rest = [item for item in items if item != Always(True)]
    if Always(False) in rest:
        return Always(False)
    return rest[0] if len(rest) == 1 else And(tuple(rest)) if rest else Always(True)


def either(items: Sequence[Expr]) -> Expr:
    """One of `items`, without what is never true."""
    rest = [item for item in items if item != Always(False)]
    if Always(True) in rest:
        return Always(True)
    return rest[0] if len(rest) == 1 else Or(tuple(rest)) if rest else Always(False)


def negation(item: Expr) -> Expr:
    """The complement of `item`, inside its operator where that has one."""
    match item:
        case Always(value):
            return Always(not value)
        case Not(inner):
            return inner
        case Compare(operator=operator) if operator.complement is not None:
            return Compare(item.path, operator.complement, item.type, item.optional, item.parameters)
        case _:
            return Not(item)


def some(path: Path, where: Expr) -> Expr:
    """An element that fulfils `where`; none does where nothing can."""
    return where if where == Always(False) else Some(path, where)


def settled(expression: Expr, values: Sequence[object]) -> bool | None:
    """What `expression` is for every row, where the empty lists among `values` settle that; else None."""
    match expression:
        case Always(value):
            return value
        case Compare(operator=Operator.IN | Operator.NOT_IN, parameters=(parameter,)):
            return expression.operator is Operator.NOT_IN if not values[parameter.index] else None
        case Not(item):
            known = settled(item, values)
            return None if known is None else not known
        case And(items) | Or(items):
            decisive = isinstance(expression, Or)
            known_items = [settled(item, values) for item in items]
            if decisive in known_items:
                return decisive
            return None if None in known_items else not decisive
        case Some(_, where):
            return False if settled(where, values) is False else None
        case _:
            return None


def _parameters(source: Source, parameters: list[Parameter]) -> tuple[Parameter, ...]:
    """The parameters of one term, added to those of the query."""
    operator = source.term.operator
    names = [f"{source.names[0]}[{end}]" for end in (0, 1)] if source.pair else list(source.names)
    made = tuple(
        Parameter(len(parameters) + place, name, source.type, operator.many, optional=not operator.ordered)
        for place, name in enumerate(names)
    )
    parameters.extend(made)
    return made


def _group(terms: Sequence[tuple[Term, tuple[Parameter, ...]]]) -> Expr:
    """The terms between two `or`."""
    together = [(term.path, term, parameters) for term, parameters in terms if not term.excluded]
    apart = [negation(_conjunction([(term.path, term, parameters)])) for term, parameters in terms if term.excluded]
    return both([_conjunction(together), *apart])


def _conjunction(terms: Sequence[tuple[Path, Term, tuple[Parameter, ...]]]) -> Expr:
    """All of the terms, whose paths begin here; those behind one array speak of the same element of it."""
    items: list[Expr] = []
    arrays: dict[tuple[str, ...], tuple[Path, list[tuple[Path, Term, tuple[Parameter, ...]]]]] = {}
    for path, term, parameters in terms:
        crossed = path[:-1] if term.operator.absence else path
        cut = next((place + 1 for place, field in enumerate(crossed) if isinstance(field.kind, ArrayOf)), 0)
        if cut:
            names = tuple(field.name for field in path[:cut])
            arrays.setdefault(names, (path[:cut], []))[1].append((path[cut:], term, parameters))
        else:
            items.append(_compare(path, term, parameters))
    items += [some(path, _conjunction(inner)) for path, inner in arrays.values()]
    return both(items)


def _compare(path: Path, term: Term, parameters: tuple[Parameter, ...]) -> Expr:
    kind = term.field.kind
    leaf = kind.item if isinstance(kind, ArrayOf) else kind
    optional = any(field.optional for field in path)
    item: Expr
    if not optional and term.operator.absence:
        item = Always(term.operator is Operator.NOT_NULL)
    else:
        type = leaf.type if isinstance(leaf, Leaf) else leaf.model
        item = Compare(path, term.operator, type, optional, parameters)
    return negation(item) if term.negated else item

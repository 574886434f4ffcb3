"""Plans → functions over rows: what a query means, in Python's own terms.

A condition becomes a function of a row and the values, one closure a node. This is the definition that the other
backends are held against, so it stays as plain as the contract: None equals None, an order with None is False, `Not`
is `not`, and a list is searched element by element.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

from ..language.operators import Operator
from ..plan import Always, And, Compare, Expr, Not, Or, QueryPlan, Some
from .load import Row, hydrate, reader
from .session import MemoryExecution
from .store import Stored

if TYPE_CHECKING:
    from wintry.models import Model

Values: TypeAlias = tuple[Any, ...]
Predicate: TypeAlias = Callable[[Any, Values], bool]

_ORDERED: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.LT: operator.lt,
    Operator.LTE: operator.le,
    Operator.GT: operator.gt,
    Operator.GTE: operator.ge,
}


class MemoryQuery:
    """A plan as a search through the rows of its Model."""

    def __init__(self, plan: QueryPlan) -> None:
        self.plan = plan
        self._fulfils = predicate(plan.where, plan.model) if plan.where is not None else None
        self._sort = [(reader(plan.model, key.path), key.descending) for key in plan.order]

    async def run(self, execution: MemoryExecution, values: Values) -> Any:
        """Run it on the view of `execution`."""
        plan = self.plan
        view = execution.view(plan.model)
        fulfils = self._fulfils
        found = [(id, stored) for id, stored in view.rows.items() if fulfils is None or fulfils(stored.row, values)]
        match plan.verb:
            case "count":
                return len(found)
            case "exists":
                return bool(found)
            case "delete":
                for id, _ in found:
                    execution.remove(plan.model, id)
                return len(found)
            case "find":
                return self._objects([stored for _, stored in found])
            case _:
                assert_never(plan.verb)

    def _objects(self, found: list[Stored]) -> Sequence[tuple[Model, int]]:
        for read, descending in reversed(self._sort):
            found.sort(key=partial(_rank, read), reverse=descending)
        return [(hydrate(self.plan.model, stored.row), stored.version) for stored in found[: self.plan.limit]]


def predicate(expression: Expr, model: type[Model]) -> Predicate:
    """The condition as a function of a row of `model` and the values."""
    match expression:
        case Always(value):
            return lambda row, values: value
        case And(items):
            inner = [predicate(item, model) for item in items]
            return lambda row, values: all(fulfils(row, values) for fulfils in inner)
        case Or(items):
            inner = [predicate(item, model) for item in items]
            return lambda row, values: any(fulfils(row, values) for fulfils in inner)
        case Not(item):
            positive = predicate(item, model)
            return lambda row, values: not positive(row, values)
        case Some(path, where):
            read = reader(model, path)
            element = predicate(where, path[-1].model or model)
            return lambda row, values: any(element(item, values) for item in read(row) or ())
        case Compare():
            return _comparison(expression, model)
        case _:
            assert_never(expression)


def _comparison(compare: Compare, model: type[Model]) -> Predicate:
    read = reader(model, compare.path)
    places = [parameter.index for parameter in compare.parameters]
    match compare.operator:
        case Operator.EQ:
            return lambda row, values: read(row) == values[places[0]]
        case Operator.NE:
            return lambda row, values: read(row) != values[places[0]]
        case Operator.IN:
            return lambda row, values: read(row) in values[places[0]]
        case Operator.NOT_IN:
            return lambda row, values: read(row) not in values[places[0]]
        case Operator.NULL:
            return lambda row, values: read(row) is None
        case Operator.NOT_NULL:
            return lambda row, values: read(row) is not None
        case Operator.BETWEEN:
            low, high = places
            return lambda row, values: (value := read(row)) is not None and values[low] <= value <= values[high]
        case Operator.LT | Operator.LTE | Operator.GT | Operator.GTE:
            holds = _ORDERED[compare.operator]
            return lambda row, values: (value := read(row)) is not None and holds(value, values[places[0]])
        case _:
            assert_never(compare.operator)


def _rank(read: Callable[[Row], Any], stored: Stored) -> tuple[bool, Any]:
    """A sort key that puts None before every value."""
    value = read(stored.row)
    return value is not None, value

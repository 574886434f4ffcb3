"""The query that a backend compiles: a method name after parsing, normalised.

The tree of a plan is small on purpose, so that a backend is a total function over seven nodes. A path never crosses
an array: an array is `Some(path to it, what one of its elements fulfils)`, and the terms of one And-group on one array
stand in one `Some`, since they speak of the same element. The logic has two values: `Not` is the exact complement,
None equals None and only None, and a comparison by order is False for a None in the row. Where an object on the way of
a path is None, the value at its end is None.

Values come as one tuple, in the order of `QueryPlan.parameters`; they are checked before they arrive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.models.info import FieldInfo

    from .language.operators import Operator

Path: TypeAlias = "tuple[FieldInfo, ...]"
"""Fields from the root, or from the element of the enclosing `Some`, to a value; () is the element itself."""

Verb: TypeAlias = Literal["find", "count", "exists", "delete"]


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
    """The value at the end of `path`, compared with the parameters.

    `type` is the Python type of that value; a nested Model has only `null` and `not_null`. `optional` says whether the
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
    `find`: the fields of the identity are its last keys; it is empty for the other verbs. `limit` counts roots.
    """

    label: str
    model: type[Model]
    verb: Verb
    where: Expr | None = None
    order: tuple[Order, ...] = ()
    limit: int | None = None
    parameters: tuple[Parameter, ...] = field(default=())

    def walk(self) -> Iterator[Expr]:
        """Every node of the condition, a node before what it holds."""
        if self.where is not None:
            yield from walk(self.where)


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

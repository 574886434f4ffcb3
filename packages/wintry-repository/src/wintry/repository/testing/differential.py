"""Random data × random queries: a backend, the memory backend and a plain evaluator must agree.

A query is drawn as a tree, rendered to a method name with a random spelling of each operator, and compiled as any other
name is. What it means is also told by `fits`, which walks the drawn tree over plain objects and shares nothing with the
compiler. The values are few, so that rows match, and are those that stores are known to disagree on. Needs hypothesis.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wintry.models import Model, info, same

from ..connections import Backends
from ..errors import AmbiguousQueryName
from ..language.operators import SPELLINGS, Operator
from .models import TWICE, Address, Line, Mark, Order, Parcel
from .queries import asking, stored

TEXTS: Final = ("", "a", "A", "ab", "%", "_", "\\", "é", "e\u0301", "ß", "😀", "\uffff", "'", "$x", "a\n")
INTS: Final = (0, 1, -1, 2, 2**53 + 1, 2**63 - 1, -(2**63))
FLOATS: Final = (0.0, -0.5, 0.1, 1.0, 1e300, 5e-324)
DATES: Final = (date(2026, 1, 1), date(2026, 1, 2), date(1, 1, 1), date(9999, 12, 31))
TIMES: Final = (
    *(
        datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC) + timedelta(microseconds=step)
        for step in (0, 1, 2_000_000)
    ),
    *TWICE,
    TWICE[1].astimezone(UTC),
)
POOLS: Final[dict[type, tuple[Any, ...]]] = {
    str: TEXTS,
    int: INTS,
    float: FLOATS,
    date: DATES,
    datetime: TIMES,
    bool: (False, True),
}
LISTS: Final = ("parcels", "lines", "marks", "words", "tags")
ABSENCE: Final = (Operator.NULL, Operator.NOT_NULL)
"""The operators that speak of a list itself, where a path ends in one that may be None."""
_ORDER: Final[dict[Operator, Callable[[Any, Any], bool]]] = {
    Operator.LT: operator.lt,
    Operator.LTE: operator.le,
    Operator.GT: operator.gt,
    Operator.GTE: operator.ge,
}


@dataclass(frozen=True)
class Drawn:
    """One comparison of a drawn query."""

    path: tuple[str, ...]
    operator: Operator
    spelling: str
    values: tuple[Any, ...]
    excluded: bool = False
    negated: bool = False

    @property
    def text(self) -> str:
        """The term in a method name, which is also the name of its parameter."""
        parts = ["__".join(self.path), *(["not"] * self.negated), *([self.spelling] if self.spelling else [])]
        return "not_" * self.excluded + "_".join(parts)


@dataclass(frozen=True)
class Asked:
    """A drawn query."""

    groups: tuple[tuple[Drawn, ...], ...]
    keys: tuple[tuple[tuple[str, ...], bool], ...]
    limit: int | None

    def name(self, verb: str) -> str:
        """The method name, with `verb`."""
        name = verb if self.limit is None or verb != "find" else f"{verb}_first_{self.limit}"
        name += "_by_" + "_or_".join("_and_".join(term.text for term in group) for group in self.groups)
        if self.keys and verb == "find":
            texts = [f"{'__'.join(path)}_{'desc' if descending else 'asc'}" for path, descending in self.keys]
            name += "_order_by_" + "_and_".join(texts)
        return name

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by the names of the parameters."""
        given = [(term.text, term.values) for group in self.groups for term in group if term.operator.arity]
        return {name: values[0] if len(values) == 1 else values for name, values in given}

    def answer(self, data: Sequence[Order]) -> list[Order]:
        """What it finds among `data`."""
        found = sorted((order for order in data if self.fits(order)), key=lambda order: order.id)
        for path, descending in reversed(self.keys):
            found.sort(key=lambda order, path=path: _none_first(_value(order, path)), reverse=descending)  # type: ignore[misc]
        return found[: self.limit]

    def fits(self, order: Order) -> bool:
        """Whether `order` is one that it finds, limit aside."""
        return any(
            _together(order, [(term.path, term) for term in group if not term.excluded])
            and all(not _together(order, [(term.path, term)]) for term in group if term.excluded)
            for group in self.groups
        )


def differential(url: str, *, profile: settings | None = None, **options: Any) -> None:
    """Compare the store at `url`, opened with `options`, with the memory backend and the evaluator.

    The store must be empty and is emptied after each example; how many there are says `profile`, by default hypothesis's
    current one. Raises AssertionError with the smallest example found.
    """
    with asyncio.Runner() as runner:
        backends = Backends(default={"url": url, **options}, oracle="memory://differential-oracle")
        runner.run(backends.open())
        try:

            @given(data=data(), asked=queries())
            def compare(data: list[Order], asked: Asked) -> None:
                runner.run(_compared(backends, data, asked))

            (profile or settings())(compare)()
        finally:
            runner.run(backends.close())


async def _compared(backends: Backends, data: list[Order], asked: Asked) -> None:
    expected = asked.answer(data)
    total = sum(asked.fits(order) for order in data)
    for name in ("oracle", "default"):
        try:
            find, count, delete = (
                _repository(backends, name, asked.name(verb), list(asked.arguments))
                for verb in ("find", "count", "delete")
            )
        except AmbiguousQueryName:
            assume(False)
        await find.create_many(entities=[order.copy() for order in data])
        try:
            found = await find.ask(**asked.arguments)
            assert [order.id for order in found] == [order.id for order in expected], (name, asked.name("find"))
            assert all(same(a, stored(b)) for a, b in zip(found, expected, strict=True)), (name, asked.name("find"))
            assert await count.ask(**asked.arguments) == total, (name, asked.name("count"))
            assert await delete.ask(**asked.arguments) == total, (name, asked.name("delete"))
            assert await find.count() == len(data) - total, (name, asked.name("delete"))
            assert await count.ask(**asked.arguments) == 0, (name, asked.name("delete"))
        finally:
            await find.delete_all()


def _repository(backends: Backends, backend: str, name: str, parameters: list[str]) -> Any:
    kind = asking(name, parameters, for_backend=backend)
    return kind(backends)


def _together(item: Any, terms: list[tuple[tuple[str, ...], Drawn]]) -> bool:
    """Whether `item` fulfils terms whose paths begin at it; those that go through one list speak of one element."""
    lists: dict[tuple[str, ...], list[tuple[tuple[str, ...], Drawn]]] = {}
    for path, term in terms:
        cut = _first_list(path[:-1] if term.operator in ABSENCE else path)
        if cut is None:
            if not _compares(_value(item, path), term):
                return False
        else:
            lists.setdefault(path[:cut], []).append((path[cut:], term))
    return all(any(_together(element, rest) for element in _value(item, path) or ()) for path, rest in lists.items())


def _first_list(path: tuple[str, ...]) -> int | None:
    return next((cut for cut, name in enumerate(path, 1) if name in LISTS), None)


def _compares(value: Any, term: Drawn) -> bool:
    values = [_instants(each) for each in term.values]
    match term.operator:
        case Operator.EQ:
            result = value == values[0]
        case Operator.NE:
            result = value != values[0]
        case Operator.IN:
            result = value in values[0]
        case Operator.NOT_IN:
            result = value not in values[0]
        case Operator.NULL:
            result = value is None
        case Operator.NOT_NULL:
            result = value is not None
        case Operator.BETWEEN:
            result = value is not None and values[0] <= value <= values[1]
        case _:
            result = value is not None and _ORDER[term.operator](value, values[0])
    return result is not term.negated


def _value(item: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if item is None:
            return None
        item = getattr(item, name)
    return _instants(item)


def _instants(value: Any) -> Any:
    """`value` with its times in UTC: elsewhere Python compares the clocks of one zone, and not the instants."""
    if isinstance(value, list) and value and not isinstance(value[0], Model):
        return [_instants(each) for each in value]
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _none_first(value: Any) -> tuple[bool, Any]:
    return value is not None, value


def _paths(model: type[Model], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type, bool]]:
    """Every path to a scalar: its names, its type, whether it goes through a list."""
    for field in info(model).fields:
        path = (*prefix, field.name)
        if field.leaf is not None:
            yield path, field.leaf, field.is_array
        elif field.model is not None:
            for rest, leaf, through in _paths(field.model, path):
                yield rest, leaf, through or field.is_array


PATHS: Final = tuple(_paths(Order))


@st.composite
def terms(draw: st.DrawFn) -> Drawn:
    """A comparison of any path, with any operator in any of its spellings."""
    path, leaf, _ = draw(st.sampled_from(PATHS))
    chosen = draw(st.sampled_from([each for each in Operator if each not in ABSENCE or path != ("words",)]))
    names = [name for name, meaning in SPELLINGS.items() if meaning is chosen]
    if leaf not in (date, datetime):
        names = [name for name in names if name not in ("before", "after")]
    spelling = draw(st.sampled_from([*names, ""] if chosen is Operator.EQ else names))
    negated = bool(spelling) and draw(st.booleans())
    one = st.sampled_from(POOLS[leaf])
    values: tuple[Any, ...]
    if chosen.many:
        values = (draw(st.lists(one | st.none(), max_size=3)),)
    elif chosen.ordered:
        values = tuple(draw(one) for _ in range(chosen.arity))
    else:
        values = tuple(draw(one | st.none()) for _ in range(chosen.arity))
    return Drawn(path, chosen, spelling, values, draw(st.booleans()), negated)


@st.composite
def queries(draw: st.DrawFn) -> Asked:
    """A query of up to four terms."""
    drawn = draw(st.lists(terms(), min_size=1, max_size=4, unique_by=lambda term: term.text))
    groups: list[list[Drawn]] = [[]]
    for number, term in enumerate(drawn):
        if number and draw(st.booleans()):
            groups.append([])
        groups[-1].append(term)
    sortable = [path for path, _, through in PATHS if not through]
    keys = draw(st.lists(st.tuples(st.sampled_from(sortable), st.booleans()), max_size=2, unique_by=lambda key: key[0]))
    limit = draw(st.none() | st.integers(1, 3))
    return Asked(tuple(tuple(group) for group in groups), tuple(keys), limit)


@st.composite
def data(draw: st.DrawFn) -> list[Order]:
    """Up to four aggregates, whose parcels have codes of their own."""
    codes = iter([*TEXTS, *(f"p{number}" for number in range(40))])
    ids = draw(st.lists(st.sampled_from(TEXTS), max_size=4, unique=True))
    return [_order(draw, id, codes) for id in ids]


def _order(draw: st.DrawFn, id: str, codes: Iterator[str]) -> Order:
    def one(leaf: type) -> Any:
        return draw(st.sampled_from(POOLS[leaf]))

    def maybe(leaf: type) -> Any:
        return draw(st.none() | st.sampled_from(POOLS[leaf]))

    def some() -> range:
        return range(draw(st.integers(0, 2)))

    return Order(
        id=id,
        number=one(int),
        note=maybe(str),
        weight=one(float),
        urgent=one(bool),
        placed=maybe(date),
        at=one(datetime),
        address=Address(city=one(str), zip=maybe(str)) if one(bool) else None,
        parcels=[
            Parcel(
                code=next(codes),
                due=maybe(date),
                fragile=one(bool),
                lines=[Line(number=number, sku=one(str), note=maybe(str), price=one(float)) for number in some()],
            )
            for _ in some()
        ],
        marks=[Mark(label=one(str), weight=maybe(int)) for _ in some()],
        words=[one(str) for _ in some()],
        tags=[one(str) for _ in some()] if one(bool) else None,
        not_before=maybe(date),
        order_by_date=one(int),
        terms_and_conditions=maybe(str),
        opt_in=one(bool),
    )

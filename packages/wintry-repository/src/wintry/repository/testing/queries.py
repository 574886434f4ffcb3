"""Queries with a hand-written opinion about their answer.

Each case is a method name, its arguments, and the same thing said in Python over the objects: a predicate, and a key
where the name sorts. Nothing of the compiler is used to tell what is right.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from wintry.models import same

from ..query import query
from ..repository import Repository
from .models import Order, orders

if TYPE_CHECKING:
    from ..connections import Backends

MARCH, APRIL, MAY = date(2026, 3, 1), date(2026, 4, 1), date(2026, 5, 1)
NOON = datetime(2026, 6, 1, 10, 30, 15, 123456, tzinfo=UTC)


@dataclass(frozen=True)
class QueryCase:
    """`name` called with `arguments` answers with the orders that fulfil `fits`, sorted by `key` and then by id."""

    line: str
    name: str
    arguments: Mapping[str, Any]
    fits: Callable[[Order], bool]
    key: Callable[[Order], Any] | None = None
    descending: bool = False
    limit: int | None = None

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={shown(value)}' for name, value in self.arguments.items())})"

    def expected(self) -> list[Order]:
        """The answer."""
        found = sorted((order for order in orders() if self.fits(order)), key=lambda order: order.id)
        if self.key is not None:
            found.sort(key=self.key, reverse=self.descending)
        return found[: self.limit]

    async def run(self, backends: Backends) -> None:
        """Ask a backend that is open and empty. Raises AssertionError where its answer is another."""
        repository = asking(self.name, self.arguments)(backends)
        await repository.create_many(entities=orders())
        found = await repository.ask(**self.arguments)
        expected = self.expected()
        ids = [order.id for order in found], [order.id for order in expected]
        assert ids[0] == ids[1], f"{self}: {ids[0]} instead of {ids[1]}"
        for order, wanted in zip(found, expected, strict=True):
            assert same(order, stored(wanted)), f"{self}: {order} instead of {wanted}"


def stored(order: Order) -> Order:
    """What a store gives back of `order`: times are in UTC."""
    return order.copy(at=order.at.astimezone(UTC))


def asking(name: str, parameters: Iterable[str], for_backend: str = "default") -> Callable[[Backends], Any]:
    """A repository class with one derived method, `ask`, whose name is read as `name`."""

    async def ask(self: Repository[Order, str], **values: Any) -> Any: ...

    named = [inspect.Parameter(parameter, inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    vars(ask)["__signature__"] = inspect.Signature([itself, *named])

    class Asking(Repository[Order, str], entity=Order, for_backend=for_backend):
        locals()["ask"] = query(name)(ask)

    return Asking


def _none_first(value: Any) -> tuple[bool, Any]:
    return value is not None, value


def shown(value: object) -> str:
    """A value, the same in every process: runs that are spread over processes compare the ids of their tests."""
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    text = repr(value)
    return type(value).__name__ if " object at 0x" in text else text


def _case(line: str, name: str, fits: Callable[[Order], bool], **arguments: Any) -> QueryCase:
    return QueryCase(line, name, arguments, fits)


def _sorted(
    line: str, name: str, key: Callable[[Order], Any], *, descending: bool = False, limit: int | None = None
) -> QueryCase:
    return QueryCase(line, name, {}, lambda order: True, key, descending, limit)


QUERIES: Final[tuple[QueryCase, ...]] = (
    # One value
    _case("REPO-030", "find_by_id", lambda o: o.id == "B", id="B"),
    _case("REPO-030", "find_by_id", lambda o: False, id=None),
    _case("REPO-030", "find_by_id_ne", lambda o: True, id_ne=None),
    _case("REPO-030", "find_by_number", lambda o: o.number == 2, number=2),
    _case("REPO-030", "find_by_number_eq", lambda o: o.number == 2**63 - 1, number_eq=2**63 - 1),
    _case("REPO-030", "find_by_note", lambda o: o.note == "plain", note="plain"),
    _case("REPO-030", "find_by_note_equals", lambda o: o.note is None, note_equals=None),
    _case("REPO-030", "find_by_note_ne", lambda o: o.note != "plain", note_ne="plain"),
    _case("REPO-030", "find_by_note_not", lambda o: o.note is not None, note_not=None),
    _case("REPO-030", "find_by_note_NotEqualTo", lambda o: o.note != "", note_NotEqualTo=""),
    _case("REPO-030", "find_by_urgent", lambda o: o.urgent is True, urgent=True),
    _case("REPO-030", "find_by_weight", lambda o: o.weight == 1.5, weight=1.5),
    _case("REPO-030", "find_by_weight_equal_to", lambda o: o.weight == 0, weight_equal_to=0),
    _case("REPO-030", "find_by_at", lambda o: o.at == NOON, at=NOON),
    _case("REPO-030", "find_by_placed", lambda o: o.placed == date(1, 1, 1), placed=date(1, 1, 1)),
    _case("REPO-030", "find_by_note_null", lambda o: o.note is None),
    _case("REPO-030", "find_by_note_is_not_null", lambda o: o.note is not None),
    _case("REPO-030", "find_by_number_null", lambda o: False),
    _case("REPO-030", "find_by_number_not_null", lambda o: True),
    # Order
    _case("REPO-031", "find_by_number_lt", lambda o: o.number < 2, number_lt=2),
    _case("REPO-031", "find_by_number_lowerThan", lambda o: o.number < 2, number_lowerThan=2),
    _case("REPO-031", "find_by_number_lte", lambda o: o.number <= 2, number_lte=2),
    _case("REPO-031", "find_by_number_greater_than", lambda o: o.number > 2, number_greater_than=2),
    _case("REPO-031", "find_by_number_gte", lambda o: o.number >= 2, number_gte=2),
    _case("REPO-031", "find_by_weight_lt", lambda o: o.weight < 0.5, weight_lt=0.5),
    _case(
        "REPO-031", "find_by_placed_before", lambda o: o.placed is not None and o.placed < APRIL, placed_before=APRIL
    ),
    _case("REPO-031", "find_by_placed_after", lambda o: o.placed is not None and o.placed > APRIL, placed_after=APRIL),
    _case("REPO-031", "find_by_at_gte", lambda o: o.at >= NOON, at_gte=NOON),
    _case("REPO-031", "find_by_at_before", lambda o: o.at < NOON, at_before=NOON),
    _case("REPO-031", "find_by_note_lt", lambda o: o.note is not None and o.note < "plain", note_lt="plain"),
    _case("REPO-031", "find_by_note_gt", lambda o: o.note is not None and o.note > "Z", note_gt="Z"),
    _case(
        "REPO-010",
        "find_by_number_between",
        lambda o: 0 <= o.number <= 2,
        number_from=0,
        number_to=2,
    ),
    _case(
        "REPO-010",
        "find_by_note_between",
        lambda o: o.note is not None and "plain" <= o.note <= "zz",
        note_between=("plain", "zz"),
    ),
    # Complements
    _case("REPO-032", "find_by_not_note", lambda o: o.note != "plain", not_note="plain"),
    _case("REPO-032", "find_by_note_not_lt", lambda o: not (o.note is not None and o.note < "p"), note_not_lt="p"),
    _case(
        "REPO-032",
        "find_by_placed_not_between",
        lambda o: not (o.placed is not None and MARCH <= o.placed <= MAY),
        placed_not_between=(MARCH, MAY),
    ),
    _case(
        "REPO-032",
        "find_by_not_placed_after",
        lambda o: not (o.placed is not None and o.placed > APRIL),
        not_placed_after=APRIL,
    ),
    # Lists of values
    _case("REPO-033", "find_by_number_in", lambda o: o.number in (2, 10), number_in=[2, 10]),
    _case("REPO-033", "find_by_note_in", lambda o: o.note in ("plain", None), note_in={"plain", None}),
    _case("REPO-033", "find_by_weight_in", lambda o: o.weight in (1.5, 1e300), weight_in=(1.5, 1e300)),
    _case("REPO-033", "find_by_at_in", lambda o: o.at == NOON, at_in=[NOON]),
    _case("REPO-033", "find_by_placed_in", lambda o: o.placed in (None, date.min), placed_in=[date.min, None]),
    _case("REPO-033", "find_by_id_in", lambda o: False, id_in=[]),
    _case("REPO-033", "find_by_note_not_in", lambda o: o.note not in ("plain", "é"), note_not_in=("plain", "é")),
    _case(
        "REPO-033", "find_by_note_is_not_in", lambda o: o.note not in ("plain", None), note_is_not_in=["plain", None]
    ),
    _case("REPO-033", "find_by_id_not_in", lambda o: True, id_not_in=iter(())),
    # Several terms
    _case(
        "REPO-004",
        "find_by_number_or_urgent_and_note",
        lambda o: o.number == -3 or (o.urgent is True and o.note is None),
        number=-3,
        urgent=True,
        note=None,
    ),
    _case(
        "REPO-004",
        "find_by_number_gt_and_number_lt_or_note_null",
        lambda o: (0 < o.number < 10) or o.note is None,
        number_gt=0,
        number_lt=10,
    ),
    _case("REPO-033", "find_by_id_in_or_number", lambda o: o.number == 0, id_in=[], number=0),
    # Names that look like words of the language
    _case("REPO-007", "find_by_not_before", lambda o: o.not_before == date(2026, 2, 2), not_before=date(2026, 2, 2)),
    _case("REPO-007", "find_by_order_by_date_gt", lambda o: o.order_by_date > 0, order_by_date_gt=0),
    _case(
        "REPO-007",
        "find_by_terms_and_conditions_and_opt_in",
        lambda o: o.terms_and_conditions == "yes" and o.opt_in is False,
        terms_and_conditions="yes",
        opt_in=False,
    ),
    # Arrays
    _case("REPO-034", "find_by_parcels__code", lambda o: any(p.code == "p3" for p in o.parcels), parcels__code="p3"),
    _case(
        "REPO-034",
        "find_by_parcels__fragile_and_parcels__due",
        lambda o: any(p.fragile is True and p.due == MARCH for p in o.parcels),
        parcels__fragile=True,
        parcels__due=MARCH,
    ),
    _case(
        "REPO-034",
        "find_by_parcels__due_gt_and_parcels__due_lt",
        lambda o: any(p.due is not None and MARCH < p.due < date(2026, 6, 1) for p in o.parcels),
        parcels__due_gt=MARCH,
        parcels__due_lt=date(2026, 6, 1),
    ),
    _case(
        "REPO-034",
        "find_by_parcels__lines__sku_and_parcels__lines__note_and_parcels__fragile",
        lambda o: any(p.fragile and any(x.sku == "s" and x.note == "n" for x in p.lines) for p in o.parcels),
        parcels__lines__sku="s",
        parcels__lines__note="n",
        parcels__fragile=True,
    ),
    _case(
        "REPO-034",
        "find_by_parcels__fragile_and_parcels__lines__sku",
        lambda o: any(p.fragile and any(x.sku == "s" for x in p.lines) for p in o.parcels),
        parcels__fragile=True,
        parcels__lines__sku="s",
    ),
    _case(
        "REPO-034",
        "find_by_parcels__fragile_or_parcels__due",
        lambda o: any(p.fragile is False for p in o.parcels) or any(p.due == MAY for p in o.parcels),
        parcels__fragile=False,
        parcels__due=MAY,
    ),
    _case(
        "REPO-034",
        "find_by_marks__label_and_marks__weight_null",
        lambda o: any(m.label == "red" and m.weight is None for m in o.marks),
        marks__label="red",
    ),
    _case(
        "REPO-035",
        "find_by_parcels__fragile_ne",
        lambda o: any(p.fragile is not True for p in o.parcels),
        parcels__fragile_ne=True,
    ),
    _case(
        "REPO-035",
        "find_by_not_parcels__fragile",
        lambda o: not any(p.fragile is True for p in o.parcels),
        not_parcels__fragile=True,
    ),
    _case(
        "REPO-035",
        "find_by_parcels__due_not_after",
        lambda o: any(not (p.due is not None and p.due > APRIL) for p in o.parcels),
        parcels__due_not_after=APRIL,
    ),
    _case(
        "REPO-035",
        "find_by_not_parcels__lines__sku_in",
        lambda o: not any(x.sku in ("s",) for p in o.parcels for x in p.lines),
        not_parcels__lines__sku_in=["s"],
    ),
    _case("REPO-036", "find_by_words", lambda o: "x" in o.words, words="x"),
    _case("REPO-036", "find_by_words_ne", lambda o: any(w != "x" for w in o.words), words_ne="x"),
    _case("REPO-036", "find_by_tags", lambda o: "x" in (o.tags or ()), tags="x"),
    _case("REPO-036", "find_by_not_tags", lambda o: "x" not in (o.tags or ()), not_tags="x"),
    _case("REPO-036", "find_by_tags_null", lambda o: o.tags is None),
    _case("REPO-036", "find_by_tags_is_not_null", lambda o: o.tags is not None),
    _case("REPO-036", "find_by_not_tags_null", lambda o: o.tags is not None),
    _case(
        "REPO-036",
        "find_by_tags_not_null_and_not_tags",
        lambda o: o.tags is not None and "x" not in o.tags,
        not_tags="x",
    ),
    _case("REPO-036", "find_by_not_words", lambda o: "x" not in o.words, not_words="x"),
    # Objects held by value
    _case(
        "REPO-037",
        "find_by_address__city",
        lambda o: o.address is not None and o.address.city == "Köln",
        address__city="Köln",
    ),
    _case("REPO-037", "find_by_address__zip_null", lambda o: o.address is None or o.address.zip is None),
    _case("REPO-037", "find_by_address__city_null", lambda o: o.address is None),
    _case(
        "REPO-037",
        "find_by_address__city_ne",
        lambda o: (o.address.city if o.address else None) != "Köln",
        address__city_ne="Köln",
    ),
    _case("REPO-037", "find_by_address_null", lambda o: o.address is None),
    _case("REPO-037", "find_by_address_not_null", lambda o: o.address is not None),
    _case(
        "REPO-043",
        "find_by_note_exact",
        lambda o: o.note == "100% _ \\ ' \" $where",
        note_exact="100% _ \\ ' \" $where",
    ),
    # Sorting
    _sorted("REPO-038", "find_all_order_by_id", lambda o: o.id),
    _sorted("REPO-038", "find_order_by_id_desc", lambda o: o.id, descending=True),
    _sorted("REPO-039", "find_all_order_by_note", lambda o: _none_first(o.note)),
    _sorted("REPO-039", "find_all_order_by_placed_desc", lambda o: _none_first(o.placed), descending=True),
    _sorted(
        "REPO-039",
        "find_all_order_by_address__city",
        lambda o: _none_first(o.address.city if o.address else None),
    ),
    _sorted("REPO-005", "find_all_order_by_opt_in_desc_and_number_asc", lambda o: (not o.opt_in, o.number)),
    _sorted("REPO-005", "find_all_order_by_number_desc_weight_desc", lambda o: (-o.number, -o.weight)),
    _sorted("REPO-040", "find_all_order_by_urgent_number_desc", lambda o: (o.urgent, -o.number)),
    _sorted("REPO-040", "find_all_order_by_opt_in_and_weight", lambda o: (o.opt_in, o.weight)),
    _sorted("REPO-003", "find_first_3_order_by_number", lambda o: o.number, limit=3),
    _sorted("REPO-003", "find_top2_order_by_at_desc", lambda o: o.at, descending=True, limit=2),
    _sorted("REPO-003", "find_first_order_by_weight", lambda o: o.weight, limit=1),
)

"""The signature of a derived method: where values come from, what may come, what is given back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from typing import Annotated, Any, NewType

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wintry.models import Array, Model, RequiredId
from wintry.repository import (
    AmbiguousQueryName,
    Backends,
    DefinitionError,
    InvalidArgument,
    MultipleFound,
    NotFound,
    Repository,
    query,
)
from wintry.repository.testing.differential import Asked, queries
from wintry.repository.testing.queries import asking

pytestmark = pytest.mark.anyio

Sku = NewType("Sku", str)


class Colour(StrEnum):
    RED = "red"


class Part(Model):
    name: str = RequiredId()
    size: int = 0


class Item(Model):
    sku: str = RequiredId()
    qty: int = 0
    weight: float = 0.0
    fresh: bool = False
    sold: date | None = None
    seen: datetime | None = None
    parts: list[Part] = Array()


class Items(Repository[Item, str], entity=Item):
    @query
    async def find_by_qty_gte_and_qty_lt(self, *, qty_gte: int, qty_lt: int) -> list[Item]: ...
    @query
    async def find_by_sku_or_parts__name(self, *, sku: Annotated[str, "x"], parts__name: Sku) -> list[Item]: ...
    @query
    async def find_by_parts__size_between(self, size_from: int, size_to: int) -> list[Item]: ...
    @query("find_by_qty_between")
    async def within(self, qty: tuple[int, int]) -> list[Item]: ...
    @query
    async def find_by_sku_in(self, sku: Iterable[str]) -> Sequence[Item]: ...
    @query
    async def find_by_qty(self, qty: int) -> tuple[Item, ...]: ...
    @query
    async def get_by_qty(self, *, qty): ...  # type: ignore[no-untyped-def]  # without annotations
    @query("find_one_by_qty")
    async def lone(self, *, qty: int) -> Item: ...
    @query("get_first_by_qty_order_by_sku_desc")
    async def last(self, *, qty: int) -> Item | None: ...
    @query
    async def list_by_fresh(self, *, fresh: bool): ...  # type: ignore[no-untyped-def]  # without a return annotation
    @query
    async def delete_by_qty(self, *, qty: int): ...  # type: ignore[no-untyped-def]  # as above
    @query("delete_by_sku")
    async def drop(self, *, sku: str) -> None: ...
    @query
    async def find_by_weight_lt(self, *, weight: float) -> list[Item]: ...
    @query
    async def find_by_sold_before(self, *, sold: date) -> list[Item]: ...
    @query
    async def find_by_seen_after(self, *, seen: datetime) -> list[Item]: ...
    @query
    async def find_by_fresh(self, *, fresh: bool) -> list[Item]: ...
    @query
    async def find_by_sku(self, *, sku: str) -> list[Item]: ...


@pytest.fixture
async def items(backends: Backends) -> Items:
    items = Items(backends)
    await items.create_many(
        entities=[
            Item(sku="a", qty=1, parts=[Part(name="p", size=5)]),
            Item(sku="b", qty=2, fresh=True),
            Item(sku="c", qty=2),
        ]
    )
    return items


def skus(found: Iterable[Item]) -> str:
    return "".join(item.sku for item in found)


@pytest.mark.contract("REPO-009")
async def test_parameters_are_found_by_path_and_operator_path_or_field(items: Items) -> None:
    assert skus(await items.find_by_qty_gte_and_qty_lt(qty_gte=1, qty_lt=2)) == "a"
    assert skus(await items.find_by_sku_or_parts__name(sku="b", parts__name=Sku("p"))) == "ab"
    assert skus(await items.find_by_parts__size_between(5, 6)) == "a"


@pytest.mark.contract("REPO-010")
async def test_a_range_of_one_parameter_is_a_pair(items: Items) -> None:
    assert skus(await items.within((0, 1))) == "a"
    with pytest.raises(InvalidArgument, match=r"a pair \(from, to\) is wanted"):
        await items.within((0, 1, 2))  # type: ignore[arg-type]  # the fault


@pytest.mark.contract("REPO-011")
@pytest.mark.parametrize("given", [["a", "b"], ("a", "b"), {"a", "b"}, iter("ab"), {"a": 1, "b": 2}.keys()])
async def test_in_takes_any_iterable(given: Iterable[str], items: Items) -> None:
    assert skus(await items.find_by_sku_in(given)) == "ab"


@pytest.mark.contract("REPO-011")
async def test_in_takes_no_text(items: Items) -> None:
    with pytest.raises(InvalidArgument, match="an iterable of str is wanted, not 'ab'"):
        await items.find_by_sku_in("ab")


@pytest.mark.contract("REPO-033")
async def test_an_empty_in_asks_nobody(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items.backend, "execution", None)

    assert await items.find_by_sku_in([]) == []


@pytest.mark.contract("REPO-012", "REPO-014")
async def test_the_return_annotation_says_how_many(items: Items) -> None:
    assert type(await items.find_by_qty(1)) is tuple
    assert (await items.lone(qty=1)).sku == "a"
    with pytest.raises(NotFound, match=r"Items.lone\(qty=7\): no Item fits"):
        await items.lone(qty=7)
    with pytest.raises(MultipleFound, match=r"Items.lone\(qty=2\): more than one Item fits"):
        await items.lone(qty=2)
    last = await items.last(qty=2)
    assert last is not None
    assert last.sku == "c"


@pytest.mark.contract("REPO-013", "REPO-014")
async def test_without_a_return_annotation_the_verb_says(items: Items) -> None:
    assert await items.get_by_qty(qty=7) is None
    assert (await items.get_by_qty(qty=1)).sku == "a"
    with pytest.raises(MultipleFound):
        await items.get_by_qty(qty=2)
    assert skus(await items.list_by_fresh(fresh=False)) == "ac"
    assert await items.delete_by_qty(qty=2) == 2
    assert await items.drop(sku="a") is None  # type: ignore[func-returns-value]  # that it is None is the point


@pytest.mark.contract("REPO-041")
@pytest.mark.parametrize(
    ("method", "values", "reason"),
    [
        ("find_by_qty_gte_and_qty_lt", {"qty_gte": True, "qty_lt": 1}, "an int is wanted, not True (bool)"),
        ("find_by_qty_gte_and_qty_lt", {"qty_gte": "1", "qty_lt": 1}, "an int is wanted, not '1' (str)"),
        ("find_by_qty_gte_and_qty_lt", {"qty_gte": 2**63, "qty_lt": 1}, "is out of the range of 64 bits"),
        ("find_by_qty_gte_and_qty_lt", {"qty_gte": None, "qty_lt": 1}, "None has no order; give a int"),
        ("find_by_weight_lt", {"weight": float("nan")}, "nan is not finite"),
        ("find_by_weight_lt", {"weight": "x"}, "a float is wanted"),
        ("find_by_sold_before", {"sold": datetime(2026, 1, 1, tzinfo=UTC)}, "a date is wanted"),
        ("find_by_seen_after", {"seen": datetime(2026, 1, 1)}, "a datetime with a time zone is wanted"),
        ("find_by_seen_after", {"seen": date(2026, 1, 1)}, "a datetime is wanted"),
        ("find_by_seen_after", {"seen": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))}, "range in UTC"),
        ("find_by_fresh", {"fresh": 1}, "a bool is wanted, not 1 (int)"),
        ("find_by_sku", {"sku": "a\0"}, "text cannot hold a NUL"),
        ("find_by_sku", {"sku": "\ud800"}, "half of a surrogate pair"),
        ("find_by_sku", {"sku": b"a"}, "a str is wanted"),
    ],
)
async def test_values_that_a_field_never_holds(method: str, values: dict[str, Any], reason: str, items: Items) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await getattr(items, method)(**values)

    assert reason in str(caught.value)
    assert f"Items.{method}" in str(caught.value)


@pytest.mark.contract("REPO-041")
async def test_values_of_a_wider_type_are_taken(items: Items) -> None:
    assert skus(await items.find_by_weight_lt(weight=1)) == "abc"
    assert await items.find_by_sku(sku=Colour.RED) == []
    assert await items.find_by_sku(sku="line\nbreak") == []


@pytest.mark.contract("REPO-009", "REPO-041")
async def test_fields_may_have_the_names_of_builtins(backends: Backends) -> None:
    class Thing(Model):
        id: str = RequiredId()
        type: str = ""
        int: str = ""

    class Things(Repository[Thing, str], entity=Thing):
        @query
        async def find_by_type_and_int(self, *, type: str, int: str) -> list[Thing]: ...
        @query
        async def find_by_id_or_type_in(self, *, id: str, type_in: list[str]) -> list[Thing]: ...

    things = Things(backends)
    await things.create(entity=Thing(id="1", type="a\n", int="\t"))
    assert [thing.id for thing in await things.find_by_type_and_int(type="a\n", int="\t")] == ["1"]
    assert [thing.id for thing in await things.find_by_id_or_type_in(id="", type_in=["a\n"])] == ["1"]
    with pytest.raises(InvalidArgument, match="a str is wanted"):
        await things.find_by_type_and_int(type=1, int="")  # type: ignore[arg-type]  # the point


@pytest.mark.contract("REPO-001")
async def test_a_call_with_wrong_keywords_fails_as_python_does(items: Items) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'skuu'"):
        await items.find_by_sku(skuu="a")  # type: ignore[call-arg]  # the fault
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'sku'"):
        await items.find_by_sku()  # type: ignore[call-arg]  # the fault


@pytest.mark.contract("REPO-009", "REPO-012")
@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("find_by_sku(self)", "no parameter gives the value of 'sku': give 'sku' (str)"),
        ("find_by_sku(self, *, sku: str, more: int)", "parameter 'more' belongs to no term of the name"),
        ("find_by_sku(self, *, sku: str, more: int = 1)", "parameter 'more' has a default, but belongs to no term"),
        ("find_by_sku(self, **values)", "*values says nothing about the query"),
        ("find_by_sku(self, *, sku: int)", "parameter 'sku' is int; 'sku' wants str"),
        ("find_by_qty(self, *, qty: bool)", "parameter 'qty' is bool; 'qty' wants int"),
        ("find_by_sold_before(self, *, sold: datetime)", "parameter 'sold' is datetime; 'sold' wants date"),
        ("find_by_sold_before(self, *, sold: date | None)", "'sold' wants date without None, which has no order"),
        ("find_by_sku_in(self, *, sku: str)", "parameter 'sku' is str; 'sku' wants an iterable of str"),
        ("find_by_qty_in(self, *, qty: list[str])", "'qty' wants an iterable of int"),
        ("find_by_qty_between(self, *, qty: tuple[str, str])", "'qty' wants a pair of int"),
        ("find_by_qty_between(self, *, qty_from: int)", "give 'qty_from' and 'qty_to' (int), or a pair"),
        ("find_by_qty_gt_and_qty_lt(self, *, qty: int)", "no parameter gives the value of 'qty': give 'qty_lt'"),
        (
            "find_by_parts__size_gt_and_parts__size_lt(self, *, size: int, parts__size_lt: int)",
            "no parameter gives the value of 'parts__size': give 'parts__size_gt'",
        ),
        ("find_by_sku(self, *, sku: str) -> int", "it returns int; 'find' gives the object"),
        ("find_by_sku(self, *, sku: str) -> list[str]", "it returns list[str]; 'find' gives the object"),
        ("count_by_sku(self, *, sku: str) -> list[Item]", "'count' gives int"),
        ("exists_by_sku(self, *, sku: str) -> int", "it returns int; 'exists' gives bool"),
        ("delete_by_sku(self, *, sku: str) -> bool", "it returns bool; 'delete' gives int or None"),
        ("find_one_by_sku(self, *, sku: str) -> list[Item]", "'_one' asks for one object"),
        ("find_first_3_by_sku(self, *, sku: str) -> Item", "first_3 gives up to 3 objects"),
        ("count_first_3_by_sku(self, *, sku: str) -> int", "'count' takes neither first, one nor order_by"),
        ("delete_by_sku_order_by_sku(self, *, sku: str)", "'delete' takes neither first, one nor order_by"),
    ],
)
def test_signatures_that_do_not_fit(head: str, reason: str) -> None:
    names: dict[str, Any] = {"Item": Item, "date": date, "datetime": datetime}
    exec(f"async def {head}: ...", names)  # noqa: S102 - the text is of this test
    method = names[head.partition("(")[0]]

    with pytest.raises(DefinitionError) as caught:
        type("Faulty", (Repository,), {method.__name__: query(method)}, entity=Item)  # type: ignore[call-overload]

    assert reason in str(caught.value)
    assert ("this would fit:  async def" in str(caught.value)) is ("takes neither" not in reason)


@pytest.mark.contract("REPO-016")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("find_by_sku_and_sku", "'sku' stands there twice, and no parameter tells the two apart"),
        ("find_by_qty_gt_or_qty_gt", "'qty_gt' stands there twice, and no parameter tells the two apart"),
        ("count_first_2_by_sku", "'count' takes neither first, one nor order_by"),
        ("exists_by_sku_for_update", "'exists' loads nothing that could be locked"),
    ],
)
def test_nothing_is_suggested_where_no_signature_fits(name: str, reason: str) -> None:
    with pytest.raises(DefinitionError) as caught:

        class _Items(Repository[Item, str], entity=Item):
            @query(name)
            async def ask(self, *, sku: str) -> list[Item]: ...

    assert reason in str(caught.value)
    assert "this would fit" not in str(caught.value)


@pytest.mark.contract("REPO-016")
@given(queries(), st.sampled_from(["find", "get", "count", "exists", "delete", "remove_first_3", "find_one"]))
def test_what_is_suggested_fits(asked: Asked, verb: str) -> None:
    try:
        asking(asked.name(verb), [])
    except DefinitionError as error:
        suggested = re.search(r"this would fit:  async def ask\(self(?:, \*, (?P<parameters>.+))?\) ->", str(error))
    else:
        return
    assume(suggested)
    assert suggested is not None
    parameters = (suggested["parameters"] or "").split(", ")
    with contextlib.suppress(AmbiguousQueryName):
        asking(asked.name(verb), [parameter.partition(":")[0] for parameter in parameters if parameter])

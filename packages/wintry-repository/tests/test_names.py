"""Method names: what they may say, and what they mean."""

from __future__ import annotations

import contextlib
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wintry.models import Array, Model, RequiredId
from wintry.repository import AmbiguousQueryName, Backends, DefinitionError, Repository, RepositoryError, query
from wintry.repository.language.operators import SPELLINGS, Operator
from wintry.repository.language.parser import VERBS
from wintry.repository.testing.queries import asking

pytestmark = pytest.mark.anyio


class Item(Model):
    sku: str = RequiredId()
    qty: int
    sold: date | None = None
    tags: list[str] = Array()
    note: str | None = None


async def ask(backends: Backends, name: str, *parameters: str, **values: Any) -> Any:
    """Compile `name` for a method with these keyword parameters, and call it on three items."""
    namespace: dict[str, Any] = {}
    head = ", ".join(parameters)
    exec(f"async def ask(self{', *, ' if head else ''}{head}): ...", namespace)  # noqa: S102 - the text is of this test

    class Items(Repository[Item, str], entity=Item):
        asking: Any = query(name)(namespace["ask"])

    repository = Items(backends)
    await repository.create_many(
        entities=[
            Item(sku="a", qty=1, sold=date(2026, 1, 1)),
            Item(sku="b", qty=2, note="n"),
            Item(sku="c", qty=3, tags=["x"]),
        ]
    )
    return await repository.asking(**values)


def skus(found: list[Item]) -> str:
    return "".join(item.sku for item in found)


@pytest.mark.contract("REPO-002")
@pytest.mark.parametrize("verb", [verb for verb, meaning in VERBS.items() if meaning == "find"])
async def test_verbs_that_find(verb: str, backends: Backends) -> None:
    found = await ask(backends, f"{verb}_by_sku", "sku", sku="b")

    assert (found.sku if verb == "get" else skus(found)) == "b"


@pytest.mark.contract("REPO-002")
async def test_verbs_that_measure(backends: Backends) -> None:
    async with Backends(default="memory://") as other:
        assert await ask(other, "count_by_qty_gt", "qty", qty=1) == 2
    async with Backends(default="memory://") as other:
        assert await ask(other, "exists_by_qty_gt", "qty", qty=3) is False
    assert await ask(backends, "exists_by_note", "note", note="n") is True


@pytest.mark.contract("REPO-002")
@pytest.mark.parametrize("verb", ["delete", "remove"])
async def test_verbs_that_delete_give_the_number(verb: str, backends: Backends) -> None:
    assert await ask(backends, f"{verb}_by_qty_lte", "qty", qty=2) == 2


@pytest.mark.contract("REPO-003")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("find_first_2_order_by_qty_desc", "cb"),
        ("find_top_1_order_by_sku", "a"),
        ("find_first2_order_by_sku", "ab"),
        ("find_first_order_by_qty_desc", "c"),
        ("find_all", "abc"),
        ("find_order_by_qty_desc", "cba"),
    ],
)
async def test_limits(name: str, expected: str, backends: Backends) -> None:
    assert skus(await ask(backends, name)) == expected


@pytest.mark.contract("REPO-006")
@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_every_spelling_of_an_operator(spelling: str, backends: Backends) -> None:
    meanings: dict[Operator, tuple[dict[str, Any], str]] = {
        Operator.EQ: ({"v": date(2026, 1, 1)}, "a"),
        Operator.NE: ({"v": date(2026, 1, 1)}, "bc"),
        Operator.LT: ({"v": date(2026, 1, 2)}, "a"),
        Operator.LTE: ({"v": date(2026, 1, 1)}, "a"),
        Operator.GT: ({"v": date(2026, 1, 1)}, ""),
        Operator.GTE: ({"v": date(2026, 1, 1)}, "a"),
        Operator.IN: ({"v": [None]}, "bc"),
        Operator.NOT_IN: ({"v": [None]}, "a"),
        Operator.BETWEEN: ({"v": (date(2026, 1, 1), date(2026, 1, 1))}, "a"),
        Operator.NULL: ({}, "bc"),
        Operator.NOT_NULL: ({}, "a"),
    }
    values, expected = meanings[SPELLINGS[spelling]]
    arguments = {"sold": values["v"]} if values else {}

    assert skus(await ask(backends, f"find_by_sold_{spelling}", *arguments, **arguments)) == expected


@pytest.mark.contract("REPO-006")
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("find_by_qty_lowerThan", 2, "a"),
        ("find_by_qty_LowerThan", 2, "a"),
        ("find_by_qty_notlowerthan", 2, "bc"),
        ("find_by_qty_NotGreaterThan", 2, "ab"),
        ("find_by_qty_NotEqualTo", 2, "ac"),
        ("find_by_qty_equalTo", 2, "b"),
        ("find_by_qty_NotIn", [2], "ac"),
        ("find_by_qty_is_not_greater_than", 1, "a"),
        ("find_by_qty_GreaterThanEqual", 2, "bc"),
    ],
)
async def test_spellings_of_other_grammars(name: str, value: Any, expected: str, backends: Backends) -> None:
    assert skus(await ask(backends, name, "qty", qty=value)) == expected


@pytest.mark.contract("REPO-006")
def test_before_and_after_are_for_dates() -> None:
    with pytest.raises(DefinitionError, match="'before' compares dates, and qty is not one"):

        class _Items(Repository[Item, str], entity=Item):
            @query
            async def find_by_qty_before(self, *, qty: int) -> list[Item]: ...


@pytest.mark.contract("REPO-015")
async def test_a_text_in_place_of_the_name(backends: Backends) -> None:
    class Items(Repository[Item, str], entity=Item):
        @query("find_by_qty_gte_order_by_sku_desc")
        async def well_stocked(self, qty: int = 2) -> list[Item]: ...

    items = Items(backends)
    await items.create_many(entities=[Item(sku=sku, qty=qty) for qty, sku in enumerate("abcd")])

    assert skus(await items.well_stocked()) == "dc"
    assert skus(await items.well_stocked(1)) == "dcb"


class Tricky(Model):
    """Its fields are words of the language."""

    id: str = RequiredId()
    a: int = 0
    a_in: int = 0
    in_stock: bool = False
    order: str = ""
    origin: str = ""
    android: str = ""
    first_name: str = ""
    eta_and_more: int = 0
    eta: int = 0
    more: int = 0


@pytest.mark.contract("REPO-007")
async def test_fields_that_look_like_the_language(backends: Backends) -> None:
    class Trickies(Repository[Tricky, str], entity=Tricky):
        @query
        async def find_by_order_and_origin_or_android(
            self, *, order: str, origin: str, android: str
        ) -> list[Tricky]: ...
        @query
        async def find_by_in_stock_and_first_name_order_by_order_desc(
            self, *, in_stock: bool, first_name: str
        ) -> list[Tricky]: ...

    trickies = Trickies(backends)
    await trickies.create(entity=Tricky(id="1", order="o", origin="p", in_stock=True, first_name="f"))

    assert len(await trickies.find_by_order_and_origin_or_android(order="o", origin="p", android="-")) == 1
    assert len(await trickies.find_by_in_stock_and_first_name_order_by_order_desc(in_stock=True, first_name="f")) == 1


@pytest.mark.contract("REPO-008")
async def test_the_signature_decides_between_readings(backends: Backends) -> None:
    class Trickies(Repository[Tricky, str], entity=Tricky):
        @query
        async def find_by_a_in(self, *, a_in: int) -> list[Tricky]: ...
        @query("find_by_a_in")
        async def among(self, *, a_in: list[int]) -> list[Tricky]: ...
        @query
        async def find_by_eta_and_more(self, *, eta: int, more: int) -> list[Tricky]: ...
        @query("find_by_eta_and_more")
        async def single(self, *, eta_and_more: int) -> list[Tricky]: ...

    trickies = Trickies(backends)
    await trickies.create(entity=Tricky(id="1", a=1, a_in=2, eta=3, more=4, eta_and_more=5))

    assert len(await trickies.find_by_a_in(a_in=2)) == 1
    assert await trickies.find_by_a_in(a_in=1) == []
    assert len(await trickies.among(a_in=[1])) == 1
    assert await trickies.among(a_in=[2]) == []
    assert len(await trickies.find_by_eta_and_more(eta=3, more=4)) == 1
    assert len(await trickies.single(eta_and_more=5)) == 1


@pytest.mark.contract("REPO-008")
def test_two_readings_that_both_fit_are_refused() -> None:
    with pytest.raises(AmbiguousQueryName) as caught:

        class _Trickies(Repository[Tricky, str], entity=Tricky):
            @query
            async def find_by_a_in(self, *, a_in) -> list[Tricky]: ...  # type: ignore[no-untyped-def]  # no type decides

    assert "1. find by [a in]" in str(caught.value)
    assert "2. find by [a_in eq]" in str(caught.value)


@pytest.mark.contract("REPO-019")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("find_all_order_by_tags", "rows cannot be sorted by a list, and tags is one"),
        ("find_all_order_by_quantity", "Item has no field 'quantity'"),
        ("find_first_0", "first_0 would find nothing"),
        ("find_by_sku_and", "after sku there may stand an operator"),
        ("find_by", "here the name may go on with"),
        ("find_by_", "Item has no field"),
        ("find_by_sku_or_", "Item has no field"),
        ("find_and_x", "here the name may go on with: by, order_by; not 'and_x'"),
        ("count_or_y", "here the name may go on with: by, order_by; not 'or_y'"),
        ("find_first_3_or_", "here the name may go on with: by, order_by; not 'or_'"),
        ("exists_for_update_x", "here the name may go on with: by, order_by; not 'for_update_x'"),
        ("find_and_x_for_update", "here the name may go on with: by, order_by; not 'and_x'"),
        ("find_by_sku__x", "Item.sku has no fields of its own"),
        ("find_by_tags_null", "tags is a list that is never None: compare its values"),
        ("find_by_tags_is_not_none", "tags is a list that is never None: compare its values"),
    ],
)
async def test_names_that_mean_nothing(name: str, reason: str, backends: Backends) -> None:
    with pytest.raises(DefinitionError) as caught:
        await ask(backends, name, "sku")

    assert reason in str(caught.value)


@pytest.mark.contract("REPO-400")
async def test_a_name_that_ends_in_for_update_locks_and_needs_a_unit(backends: Backends) -> None:
    with pytest.raises(RepositoryError, match=r"Items\.asking: a lock lasts as long as a unit of work"):
        await ask(backends, "get_by_sku_for_update", "sku", sku="b")
    async with Backends(default="memory://") as other:
        with pytest.raises(RepositoryError, match="a lock lasts"):
            await ask(other, "find_first_2_by_qty_gt_order_by_sku_desc_for_update", "qty_gt", qty_gt=0)


@pytest.mark.contract("REPO-400")
async def test_what_loads_nothing_cannot_lock(backends: Backends) -> None:
    with pytest.raises(DefinitionError, match="'count' loads nothing that could be locked"):
        await ask(backends, "count_by_sku_for_update", "sku", sku="b")


@pytest.mark.contract("REPO-400", "REPO-016")
async def test_a_wrong_word_before_for_update_is_shown_with_the_good_name(backends: Backends) -> None:
    with pytest.raises(DefinitionError, match="did you mean 'sku', as in 'get_by_sku_for_update'"):
        await ask(backends, "get_by_skuu_for_update", "sku", sku="b")


@pytest.mark.contract("REPO-400", "REPO-007")
async def test_a_field_may_end_in_for_update(backends: Backends) -> None:
    class Notice(Model):
        id: str = RequiredId()
        for_update: int = 0

    class Notices(Repository[Notice, str], entity=Notice):
        @query
        async def find_by_for_update(self, *, for_update: int) -> list[Notice]: ...

    notices = Notices(backends)
    await notices.create(entity=Notice(id="a", for_update=3))

    assert [notice.id for notice in await notices.find_by_for_update(for_update=3)] == ["a"]


WORDS = (*VERBS, *SPELLINGS, "first", "top", "one", "all", "by", "and", "or", "order_by", "asc", "desc", "not", "is")
FIELDS = ("id", "number", "at", "address", "address__city", "parcels", "parcels__lines__sku", "tags", "not_before")
ODD = ("", "_", "x", "3", "0", "for_update", "ß", "order", "for", "parcels__", "__city", "in_order_by")


STORES = Backends(memory="memory://", sql="sqlite:///never.db", mongo="mongodb://localhost/never")
"""Compilers of each kind; nothing is opened."""


@pytest.mark.contract("REPO-019")
@settings(max_examples=1000)
@given(
    st.sampled_from(list(VERBS)),
    st.lists(st.sampled_from([*FIELDS, *WORDS, *ODD]), max_size=7),
    st.lists(st.sampled_from(["id", "number", "number_from", "city", "sku", "parcels__lines__sku"]), unique=True),
)
def test_any_name_is_compiled_or_a_definition_error(verb: str, words: list[str], parameters: list[str]) -> None:
    name = "_".join([verb, *words])
    for backend in ("memory", "sql", "mongo"):
        with contextlib.suppress(DefinitionError):
            asking(name, parameters, for_backend=backend).connect(STORES)

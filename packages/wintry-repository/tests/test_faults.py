"""Faults of definitions: found early, all at once, drawn."""

from __future__ import annotations

import sys
import textwrap
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wintry.models import Array, Model, RequiredId
from wintry.repository import Backends, DefinitionError, Repository, Unsupported, collecting, query
from wintry.repository.memory.backend import MemoryBackend

if TYPE_CHECKING:
    from wintry.repository.plan import QueryPlan

pytestmark = pytest.mark.anyio


class Batch(Model):
    reference: str = RequiredId()
    qty: int = 0


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()


class Money(Model):
    amount: int


@pytest.mark.contract("REPO-016")
def test_all_methods_of_a_class_are_in_one_report() -> None:
    with pytest.raises(DefinitionError) as caught:

        class _Products(Repository[Product, str], entity=Product):
            @query
            async def get_by_skuu(self, *, skuu: str) -> Product | None: ...
            @query
            async def get_by_sku(self, *, sku: str) -> Product | None: ...
            @query
            async def get_by_batches_reference(self, *, reference: str) -> Product | None: ...
            @query
            async def find_by_batches__qty_greaterr_than(self, *, qty: int) -> list[Product]: ...

    report = str(caught.value)
    assert len(caught.value.faults) == 3
    assert "_Products: 3 faults" in report
    assert "Product has no field 'skuu'\n    get_by_skuu\n           ^^^^" in report
    assert "did you mean 'sku'?  async def get_by_sku(self, *, sku: str) -> Product | None: ..." in report
    assert "write batches__reference, with two underscores" in report
    assert "did you mean 'greater_than'?  async def find_by_batches__qty_greater_than(" in report
    assert __file__ in report


@pytest.mark.contract("REPO-016")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("finds_by_sku", "did you mean 'find', as in 'find_by_sku'?"),
        (
            "find_by_batches__referense",
            "did you mean 'reference', as in 'find_by_batches__reference'?  async def ask(self, *, ",
        ),
        ("find_by_batches__qty_betwen", "did you mean 'between', as in 'find_by_batches__qty_between'?"),
        ("find_by_batches", "batches holds Batch: compare one of its fields, such as batches__reference"),
        ("find_all_order_by_skv_desc", "did you mean 'sku', as in 'find_all_order_by_sku_desc'?  async def ask(self)"),
    ],
)
def test_the_nearest_good_word_is_told(name: str, hint: str) -> None:
    async def ask(self: Any) -> Any: ...

    with pytest.raises(DefinitionError) as caught:
        type("Products", (Repository,), {"ask": query(name)(ask)}, entity=Product)  # type: ignore[call-overload]

    assert hint in str(caught.value)


@pytest.mark.contract("REPO-017")
def test_collecting_gathers_and_leaves_an_unusable_class() -> None:
    with collecting() as faults:

        class Products(Repository[Product, str], entity=Product):
            @query
            async def get_by_skuu(self, *, skuu: str) -> Product | None: ...
            @query
            async def get_by_skv(self, *, skv: str) -> Product | None: ...

        class _Monies(Repository[Money, int], entity=Money): ...

    assert [fault.reason for fault in faults] == [
        "Product has no field 'skuu'",
        "Product has no field 'skv'",
        "Money has no identity, and cannot be found again",
    ]
    with pytest.raises(DefinitionError, match="cannot be used: its definition has faults"):
        Products(Backends(default="memory://"))


@pytest.mark.contract("REPO-018")
async def test_hints_that_are_defined_later(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        from __future__ import annotations
        from wintry.models import Array, Model, RequiredId
        from wintry.repository import Repository, query

        class Box(Model):
            id: str = RequiredId()
            lids: list[Lid] = Array()

        class Boxes(Repository[Box, str], entity=Box):
            @query
            async def get_by_lids__size(self, *, size: Size) -> Box | None: ...

        class Lid(Model):
            size: int

        Size = int
    """
    (tmp_path / "boxes_defined_late.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("boxes_defined_late")
    monkeypatch.delitem(sys.modules, "boxes_defined_late")
    monkeypatch.setitem(sys.modules, "boxes_defined_late", module)

    boxes = module.Boxes(backends)
    await boxes.create(entity=module.Box(id="b", lids=[module.Lid(size=3)]))

    assert (await boxes.get_by_lids__size(size=3)).id == "b"


@pytest.mark.contract("REPO-018")
def test_hints_that_are_never_defined() -> None:
    names: dict[str, Any] = {"__name__": __name__, "Product": Product, "Repository": Repository, "query": query}
    source = """
        from __future__ import annotations

        class Products(Repository, entity=Product):
            @query
            async def get_by_sku(self, *, sku: Skuu) -> Product | None: ...
    """
    exec(textwrap.dedent(source), names)  # noqa: S102 - the text is of this test

    with pytest.raises(DefinitionError, match="the name 'Skuu' of its signature is not defined"):
        names["Products"](Backends(default="memory://"))


@pytest.mark.contract("REPO-018")
def test_hints_that_are_never_defined_are_collected() -> None:
    names: dict[str, Any] = {"__name__": __name__, "Product": Product, "Repository": Repository, "query": query}
    source = """
        from __future__ import annotations

        class Products(Repository, entity=Product):
            @query
            async def get_by_sku(self, *, sku: Skuu) -> Product | None: ...
    """
    with collecting() as faults:
        exec(textwrap.dedent(source), names)  # noqa: S102 - the text is of this test

    assert [fault.reason for fault in faults] == ["the name 'Skuu' of its signature is not defined"]


@pytest.mark.contract("REPO-062")
def test_what_a_repository_cannot_hold() -> None:
    with pytest.raises(DefinitionError, match="Money has no identity"):

        class _Monies(Repository[Money, int], entity=Money): ...

    with pytest.raises(DefinitionError, match="entity=<class 'int'> is not a Model class"):

        class _Ints(Repository[Any, int], entity=int): ...  # type: ignore[arg-type]  # the fault

    class Nothing(Repository): ...

    with pytest.raises(DefinitionError, match="has no Model"):
        Nothing(Backends(default="memory://"))


@pytest.mark.contract("REPO-016")
def test_a_marked_method_must_be_async() -> None:
    with pytest.raises(DefinitionError, match="@query marks methods that are `async def`"):

        class _Products(Repository[Product, str], entity=Product):
            @query
            def get_by_sku(self, *, sku: str) -> Product | None: ...


def test_a_marked_method_outside_a_repository() -> None:
    class Plain:
        @query
        async def get_by_sku(self, *, sku: str) -> Product | None: ...

    with pytest.raises(DefinitionError, match="@query belongs to a Repository"):
        _ = Plain().get_by_sku


@pytest.mark.contract("REPO-020")
def test_what_a_backend_cannot_do_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: MemoryBackend, plan: QueryPlan) -> Any:
        if plan.label.startswith("Products.get"):
            raise Unsupported(plan.label, "is beyond this store")
        return None

    class Products(Repository[Product, str], entity=Product):
        @query
        async def get_by_sku(self, *, sku: str) -> Product | None: ...
        @query("get_by_batches__qty")
        async def getting(self, *, qty: int) -> Product | None: ...

    monkeypatch.setattr(MemoryBackend, "compile", refuse)
    with pytest.raises(Unsupported) as caught:
        Products(Backends(default="memory://"))

    assert "Products.get_by_sku: is beyond this store\nProducts.getting: is beyond this store" in str(caught.value)


@pytest.mark.contract("REPO-001")
async def test_a_traceback_shows_the_generated_method(backends: Backends) -> None:
    class Products(Repository[Product, str], entity=Product):
        @query
        async def get_by_sku(self, *, sku: str) -> Product | None:
            """Finds one."""

    assert Products.get_by_sku.__doc__ == "Finds one."
    try:
        await Products(backends).get_by_sku(sku=1)  # type: ignore[arg-type]  # the fault
    except TypeError:
        assert "sku = one(sku)" in traceback.format_exc()


@pytest.mark.contract("REPO-021")
async def test_queries_are_inherited_and_compiled_for_each_class(backends: Backends) -> None:
    class ByQty:
        @query
        async def find_by_qty(self, *, qty: int) -> list[Any]: ...

    class Small(Model):
        id: str = RequiredId()
        qty: int = 0

    class Large(Model):
        id: str = RequiredId()
        other: str = ""
        qty: int = 0

    class Smalls(ByQty, Repository[Small, str], entity=Small):
        @query
        async def count_by_id(self, *, id: str) -> int: ...

    class Larges(Smalls, entity=Large):
        async def find_by_id(self, id: str) -> str:
            return f"mine, {id}"

    smalls, larges = Smalls(backends), Larges(backends)
    await smalls.create(entity=Small(id="s", qty=1))
    await larges.create(entity=Large(id="l", qty=1))

    assert [item.id for item in await smalls.find_by_qty(qty=1)] == ["s"]
    assert [item.id for item in await larges.find_by_qty(qty=1)] == ["l"]
    assert await larges.count_by_id(id="l") == 1
    assert await larges.find_by_id("x") == "mine, x"

"""Which session a call belongs to, and what a repository asks of a unit's session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from wintry.models import Array, Model, RequiredId, same
from wintry.models.tracking import Snapshot, diff
from wintry.repository import (
    Backends,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    Repository,
    RepositoryError,
    Unsupported,
    query,
)
from wintry.repository.backend import DELETED, UNKNOWN, Backend, Execution, Missing, Session, current

pytestmark = pytest.mark.anyio


class Batch(Model):
    reference: str = RequiredId(unique=True)


class Product(Model):
    sku: str = RequiredId()
    qty: int = 0
    batches: list[Batch] = Array()


class Products(Repository[Product, str], entity=Product):
    @query
    async def get_by_sku(self, *, sku: str) -> Product | None: ...
    @query
    async def get_by_batches__reference(self, *, reference: str) -> Product | None: ...
    @query
    async def exists_by_batches__reference(self, *, reference: str) -> bool: ...
    @query
    async def find_by_qty_gte(self, *, qty: int) -> list[Product]: ...
    @query
    async def delete_by_qty(self, *, qty: int) -> int: ...


class Unit:
    """A session that writes down what is asked of it, and the provider that has it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.tracking = True
        self.log: list[Any] = []
        self.map: dict[Any, Model | Missing] = {}
        self.versions: dict[int, int] = {}
        self._execution: Execution | None = None

    def session_for(self, backend: Backend) -> Session | None:
        return self if backend is self.backend else None

    async def begin(self) -> Execution:
        if self._execution is None:
            self._execution = self.backend.execution()
            self.log.append("begin")
        return self._execution

    async def before_read(self, models: frozenset[type[Model]]) -> None:
        self.log.append(("before_read", *models))

    def known(self, model: type[Model], id: Any) -> Model | Missing:
        return self.map.get((model, id), UNKNOWN)

    def loaded(self, object: Model, version: int, snapshot: Snapshot) -> Model | None:
        assert isinstance(object, Product)
        known = self.map.setdefault((Product, object.sku), object)
        if known is DELETED:
            return None
        assert isinstance(known, Model)
        self.versions[id(known)] = version
        return known

    def missed(self, model: type[Model], sought: Any) -> None:
        self.log.append(("missed", model, dict(sought) if isinstance(sought, Mapping) else sought))

    def version(self, object: Model) -> int | None:
        return self.versions.get(id(object))

    def added(self, object: Model) -> None:
        self.log.append(("added", object))

    def removed(self, object: Model) -> None:
        self.log.append(("removed", object))

    def guard(self, object: Model, stored: Model) -> None:
        self.log.append(("guard", object, stored))

    def merge(self, object: Model, stored: Model) -> None:
        self.log.append(("merge", object, stored))
        diff(stored, object).apply_to(stored)

    def writes(self) -> None:
        self.log.append("writes")

    def evict(self, model: type[Model]) -> None:
        self.log.append(("evict", model))

    async def finish(self) -> None:
        raise AssertionError("a unit finishes by itself")


@pytest.fixture
async def products(backends: Backends) -> Products:
    products = Products(backends)
    await products.create_many(
        entities=[Product(sku="a", batches=[Batch(reference="x")]), Product(sku="b", qty=1), Product(sku="c", qty=2)]
    )
    return products


@pytest.fixture
async def unit(products: Products) -> AsyncIterator[Unit]:
    unit = Unit(products.backend)
    yield unit
    if unit._execution is not None:
        await unit._execution.close()


@pytest.mark.contract("REPO-064")
async def test_a_call_joins_the_unit_that_runs_in_its_context(products: Products, unit: Unit) -> None:
    await products.count()
    assert unit.log == []
    token = current.set(unit)
    try:
        await products.count()
    finally:
        current.reset(token)
    await products.count()

    assert unit.log == [("before_read", Product), "begin"]


@pytest.mark.contract("REPO-064")
async def test_a_bound_clone_belongs_to_its_session(products: Products, unit: Unit) -> None:
    bound = products.bind(unit)
    await products.count()
    assert unit.log == []

    await bound.count()

    assert type(bound) is Products
    assert unit.log == [("before_read", Product), "begin"]


@pytest.mark.contract("REPO-065")
async def test_what_is_known_is_neither_asked_for_nor_flushed(products: Products, unit: Unit) -> None:
    bound, mine = products.bind(unit), Product(sku="a", qty=9)
    unit.map[Product, "a"] = mine
    unit.map[Product, "b"] = DELETED

    assert await bound.get("a") is mine
    assert await bound.get_by_sku(sku="a") is mine
    assert await bound.get_by_id(id="b") is None
    assert await bound.get_by_sku(sku="b") is None
    assert (await bound.exists("a"), await bound.exists("b")) == (True, False)
    assert await bound.find_many(["a", "b"]) == [mine]
    assert await bound.delete_by_id(id="b") is False
    assert unit.log == []


@pytest.mark.contract("REPO-065")
async def test_a_query_goes_through_the_identity_map(products: Products, unit: Unit) -> None:
    bound, mine = products.bind(unit), Product(sku="b", qty=9)
    unit.map[Product, "b"] = mine
    unit.map[Product, "c"] = DELETED

    found = await bound.find_by_qty_gte(qty=0)

    assert [product.sku for product in found] == ["a", "b"]
    assert found[1] is mine
    assert unit.log == [("before_read", Product), "begin"]
    assert [product.sku for product in await bound.find_many(["c", "b", "a"])] == ["b", "a"]


@pytest.mark.contract("REPO-066")
async def test_what_is_not_there_is_told(products: Products, unit: Unit) -> None:
    bound = products.bind(unit)

    await bound.get("nope")
    await bound.get_by_sku(sku="nope2")
    await bound.get_by_batches__reference(reference="y")
    await bound.exists_by_batches__reference(reference="z")
    await bound.get_by_batches__reference(reference="x")

    assert [entry for entry in unit.log if entry[0] == "missed"] == [
        ("missed", Product, "nope"),
        ("missed", Product, "nope2"),
        ("missed", Product, {"batches.reference": "y"}),
        ("missed", Product, {"batches.reference": "z"}),
    ]


@pytest.mark.contract("REPO-067")
async def test_writes_are_handed_to_the_unit(products: Products, unit: Unit) -> None:
    bound, new = products.bind(unit), Product(sku="new")

    assert await bound.create(entity=new) is new
    await bound.create_many(entities=[new])
    known = await bound.one("a")
    await bound.delete(entity=known)
    assert await bound.delete_by_id(id="a") is True
    await bound.delete(entity=Product(sku="b"))
    with pytest.raises(NotFound):
        await bound.delete(entity=Product(sku="nope"))

    writes = [entry for entry in unit.log if entry[0] in ("added", "removed")]
    assert [entry[0] for entry in writes] == ["added", "added", "removed", "removed", "removed"]
    assert writes[2][1] is writes[3][1] is known
    assert writes[4][1] is unit.map[Product, "b"]
    assert [entry[2] for entry in unit.log if entry[0] == "guard"] == [unit.map[Product, "b"]]
    assert await products.count() == 3


@pytest.mark.contract("REPO-067")
async def test_set_based_statements_are_announced_and_evict(products: Products, unit: Unit) -> None:
    bound = products.bind(unit)

    assert await bound.delete_by_qty(qty=1) == 1
    assert await bound.delete_by_id(id="c") is True
    assert await bound.delete_all() == 1

    steps = ["writes", ("before_read", Product), ("evict", Product)]
    assert [entry for entry in unit.log if entry != "begin"] == steps * 3
    assert await products.count() == 3, "nothing was committed"


@pytest.mark.contract("REPO-067")
async def test_update_inside_a_unit_changes_the_tracked_object(products: Products, unit: Unit) -> None:
    bound = products.bind(unit)
    tracked = await bound.one("a")

    given = Product(sku="a", qty=5, batches=[Batch(reference="x"), Batch(reference="y")])
    assert await bound.update(entity=given) is tracked
    assert same(tracked, given)
    assert await bound.update(entity=tracked, expected_version=1) is tracked
    assert await bound.upsert(entity=Product(sku="b", qty=6)) is False
    assert await bound.upsert(entity=Product(sku="new")) is True
    with pytest.raises(PreconditionFailed):
        await bound.update(entity=Product(sku="a"), expected_version=2)
    with pytest.raises(NotFound):
        await bound.update(entity=Product(sku="nope"))
    assert bound.version_of(tracked) == 1
    assert ("merge", given, tracked) in unit.log
    assert sum(entry[0] == "merge" for entry in unit.log) == 1, "an upsert replaces"


@pytest.mark.contract("REPO-064")
async def test_without_tracking_objects_are_handed_out_as_they_are(products: Products, unit: Unit) -> None:
    unit.tracking = False

    found = await products.bind(unit).find()

    assert [product.sku for product in found] == ["a", "b", "c"]
    assert unit.map == {}


@pytest.mark.contract("REPO-063")
async def test_the_sql_session_belongs_to_a_unit(products: Products, unit: Unit) -> None:
    with pytest.raises(RepositoryError, match=r"Products.session\(\): no unit of work runs here"):
        await products.session()
    with pytest.raises(Unsupported, match=r"'default' \(memory\) has no SQL session"):
        await products.bind(unit).session()


@pytest.mark.contract("REPO-062")
async def test_an_object_of_another_class_is_refused(products: Products) -> None:
    class Special(Product): ...

    for wrong in (Batch(reference="x"), Special(sku="s"), None):
        with pytest.raises(InvalidArgument, match="Products holds Product objects, not"):
            await products.create(entity=wrong)  # type: ignore[arg-type]  # the fault


@pytest.mark.contract("REPO-057")
async def test_what_is_remembered_goes_with_the_object(products: Products) -> None:
    product = await products.one("a")
    remembered = products.backend.remembered
    before = len(remembered)

    del product

    assert len(remembered) == before - 1

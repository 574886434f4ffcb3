"""Units and scopes: how one is made, whose it is, and how it ends."""

import asyncio
import warnings
from typing import Any

import pytest

from wintry.repository import Repository
from wintry.uow import DefinitionError, UncommittedChanges, UnitOfWork, collecting, current_unit, identity

pytestmark = pytest.mark.anyio


def a_class_with_a_constructor(world: Any) -> UnitOfWork:
    class Written(UnitOfWork):
        def __init__(self, products: Any) -> None:
            super().__init__(products=products)

    return Written(world.products)


def a_class_with_annotations(world: Any) -> UnitOfWork:
    class Annotated(UnitOfWork):
        products: Repository[Any, Any]

    return Annotated(products=world.products)


def no_class(world: Any) -> UnitOfWork:
    return UnitOfWork(products=world.products)


@pytest.mark.contract("UOW-001", "UOW-002")
@pytest.mark.parametrize("make", [a_class_with_a_constructor, a_class_with_annotations, no_class])
async def test_every_form_gives_a_scope_of_its_class_with_bound_repositories(world: Any, make: Any) -> None:
    uow = make(world)

    async with uow as scope:
        await scope.products.create(entity=world.Product(sku="TABLE"))
        await scope.commit()

    assert type(scope) is type(uow)
    assert scope is not uow
    assert uow.products is world.products
    assert await world.products.get("TABLE") is not None


@pytest.mark.contract("UOW-001")
async def test_a_value_that_is_no_repository_is_an_attribute_in_and_outside_of_scopes(world: Any) -> None:
    uow: Any = UnitOfWork(products=world.products, currency="EUR")

    async with uow as scope:
        assert scope.currency == uow.currency == "EUR"


@pytest.mark.contract("UOW-001")
def test_a_repository_cannot_take_the_name_of_a_method() -> None:
    with pytest.raises(TypeError, match="'commit' is a name of UnitOfWork"):
        UnitOfWork(commit=1)


@pytest.mark.contract("UOW-001")
def test_a_class_whose_names_are_taken_is_told_where_it_is_defined() -> None:
    with collecting() as faults:

        class Shop(UnitOfWork):
            commit: int  # type: ignore[assignment]
            products: int
            refresh: int  # type: ignore[assignment]

    assert [fault.place.rpartition(".")[2] for fault in faults] == ["commit", "refresh"]
    assert all(Shop.__qualname__ in fault.place for fault in faults)
    with pytest.raises(DefinitionError, match="'rollback' is a name of UnitOfWork itself"):

        class Broken(UnitOfWork):
            rollback: int  # type: ignore[assignment]


@pytest.mark.contract("UOW-002", "UOW-005")
async def test_500_units_of_one_object_at_once_do_not_touch_each_other(probed: Any) -> None:
    world = probed

    async def unit(number: int) -> None:
        async with world.uow as uow:
            product = await uow.products.create(entity=world.Product(sku=f"P{number}"))
            await asyncio.sleep(0)
            assert await uow.products.get(f"P{number}") is product
            assert [operation.object for operation in uow.changes()] == [product]
            if number % 2:
                await uow.commit()
            else:
                await uow.rollback()

    await asyncio.gather(*(unit(number) for number in range(500)))

    assert {product.sku for product in await world.products.find()} == {f"P{number}" for number in range(1, 500, 2)}


@pytest.mark.contract("UOW-003")
async def test_an_unbound_repository_called_in_the_units_task_joins_it(world: Any) -> None:
    async with world.uow as uow:
        await world.products.create(entity=world.Product(sku="TABLE"))
        product = await uow.products.get("TABLE")
        assert product is await world.products.get("TABLE")
        await uow.rollback()

    assert await world.products.count() == 0


@pytest.mark.contract("UOW-004", "UOW-053")
async def test_a_child_task_starts_with_no_unit(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        await world.stock()

        async with world.uow as uow:
            ours = await uow.products.get("TABLE")

            async def child() -> tuple[Any, Any]:
                return current_unit(), await world.products.get("TABLE")

            unit, theirs = await asyncio.create_task(child())
            assert current_unit() is not None

        assert unit is None
        assert theirs is not ours
        assert current_unit() is None


@pytest.mark.contract("UOW-004")
async def test_a_unit_entered_in_a_child_task_is_one_of_its_own(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:

        async def child() -> None:
            async with world.uow as uow:
                await uow.products.create(entity=world.Product(sku="INNER"))
                await uow.commit()

        async with world.uow as uow:
            await uow.products.create(entity=world.Product(sku="OUTER"))
            await asyncio.create_task(child())
            await uow.rollback()

        assert [product.sku for product in await world.products.find()] == ["INNER"]


@pytest.mark.contract("UOW-005")
async def test_nothing_is_opened_before_the_first_statement(probed: Any) -> None:
    async with probed.uow as uow:
        product = await uow.products.create(entity=probed.Product(sku="TABLE"))
        uow.detach(product)
        assert current_unit().in_transaction is False
        await uow.commit()

    assert probed.backends.probe.steps == []


@pytest.mark.contract("UOW-006", "UOW-007")
async def test_leaving_without_commit_rolls_back_and_warns_with_the_diff(world: Any) -> None:
    await world.stock()

    async def forget() -> None:
        async with world.uow as uow:
            product = await uow.products.get("TABLE")
            product.name = "A table"
            await uow.products.create(entity=world.Product(sku="CHAIR"))

    with pytest.warns(UncommittedChanges) as caught:
        await forget()

    text = str(caught[0].message)
    assert "update Product 'TABLE'" in text
    assert "A table" in text
    assert "insert Product 'CHAIR'" in text
    assert caught[0].filename == __file__
    assert (await world.products.get("TABLE")).name == ""
    assert await world.products.count() == 1


@pytest.mark.contract("UOW-006", "UOW-007")
async def test_what_a_query_has_stored_is_rolled_back_and_told_too(world: Any) -> None:
    await world.stock()

    async def forget() -> None:
        async with world.uow as uow:
            (await uow.products.get("TABLE")).name = "A table"
            assert await uow.products.count_by_name(name="A table") == 1

    with pytest.warns(UncommittedChanges, match="update Product 'TABLE'"):
        await forget()

    assert (await world.products.get("TABLE")).name == ""


@pytest.mark.contract("UOW-007")
async def test_reading_without_commit_is_silent(world: Any) -> None:
    await world.stock()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with world.uow as uow:
            assert await uow.products.get("TABLE") is not None


@pytest.mark.contract("UOW-006")
async def test_an_exception_rolls_back_and_passes_through(world: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with world.uow as uow:
            await uow.products.create(entity=world.Product(sku="TABLE"))
            assert await uow.products.count() == 1
            raise ZeroDivisionError

    assert await world.products.count() == 0


@pytest.mark.contract("UOW-006")
async def test_cancellation_rolls_back(probed: Any) -> None:
    world = probed
    inside = asyncio.Event()

    async def unit() -> None:
        async with world.uow as uow:
            await uow.products.create(entity=world.Product(sku="TABLE"))
            assert await uow.products.count() == 1
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(unit())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await world.products.count() == 0


@pytest.mark.contract("UOW-006")
async def test_a_rollback_in_the_middle_drops_what_came_before_it_alone(world: Any) -> None:
    async with world.uow as uow:
        await uow.products.create(entity=world.Product(sku="TABLE"))
        assert await uow.products.count() == 1
        await uow.rollback()
        await uow.products.create(entity=world.Product(sku="CHAIR"))
        await uow.commit()

    assert [product.sku for product in await world.products.find()] == ["CHAIR"]


@pytest.mark.contract("UOW-008")
async def test_objects_stay_readable(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        await uow.rollback()
        assert product.batches[0].reference == "TABLE-1"
        again = await uow.products.get("TABLE")
        await uow.commit()
        assert again.batches[0].reference == "TABLE-1"

    assert again.batches[0].reference == "TABLE-1"
    assert again is not product


@pytest.mark.contract("UOW-005")
async def test_a_unit_leaves_nothing_behind_in_the_index_of_live_objects(world: Any) -> None:
    await world.stock()
    before = len(identity._holders)

    for _ in range(3):
        async with world.uow as uow:
            await uow.products.get("TABLE")
            await uow.commit()

    assert len(identity._holders) == before, "the one private name that a test reads: a leak has no other sign"


@pytest.mark.contract("UOW-007")
async def test_a_set_based_delete_that_is_not_committed_is_told(world: Any) -> None:
    await world.stock()

    with pytest.warns(UncommittedChanges, match="1 set-based statements on 'default'"):
        async with world.uow as uow:
            await uow.products.delete_all()

    assert await world.products.count() == 1

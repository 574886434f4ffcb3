"""Versions guard what is stored."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from wintry.uow import AlreadyExists, ConcurrentModification, Conflict, PreconditionFailed

pytestmark = pytest.mark.anyio


async def in_another_task(work: Callable[[], Awaitable[Any]]) -> Any:
    async def task() -> Any:
        return await work()

    return await asyncio.create_task(task())


@pytest.mark.contract("UOW-030")
async def test_any_change_in_the_aggregate_moves_its_version_by_one(world: Any) -> None:
    product = await world.stock()
    assert world.products.version_of(product) == 1

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        product.batches[0].lines.append(world.Line(orderid="o1", qty=1))
        product.name = "both"
        await uow.commit()
        assert uow.products.version_of(product) == 2
        await uow.commit()
        assert uow.products.version_of(product) == 2
        product.batches[0].lines[0].qty = 2
        await uow.commit()

    assert world.products.version_of(await world.products.get("TABLE")) == 3


@pytest.mark.contract("UOW-030")
async def test_the_version_moves_once_however_often_the_transaction_stores(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        created = await uow.products.create(entity=world.Product(sku="CHAIR"))
        for name in "abc":
            product.name = created.name = name
            assert len(await uow.products.find_by_name(name=name)) == 2
        await uow.commit()

    assert world.products.version_of(await world.products.get("TABLE")) == 2
    assert world.products.version_of(await world.products.get("CHAIR")) == 1


@pytest.mark.contract("UOW-031")
async def test_a_stale_object_is_refused_by_entity_id_and_versions(world: Any) -> None:
    await world.stock()

    async def change(name: str) -> None:
        async with world.uow as uow:
            (await uow.products.get("TABLE")).name = name
            await uow.commit()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        await uow.commit()
        await in_another_task(lambda: change("theirs"))
        product.name = "mine"
        with pytest.raises(ConcurrentModification) as caught:
            await uow.commit()

    error = caught.value
    assert isinstance(error, Conflict)
    assert (error.entity, error.id, error.expected, error.found) == (world.Product, "TABLE", 1, 2)
    assert (await world.products.get("TABLE")).name == "theirs"


@pytest.mark.contract("UOW-031")
async def test_deleting_a_stale_object_is_refused(world: Any) -> None:
    await world.stock()

    async def change() -> None:
        async with world.uow as uow:
            (await uow.products.get("TABLE")).name = "theirs"
            await uow.commit()

    async with world.uow(flush="commit") as uow:
        product = await uow.products.get("TABLE")
        await uow.commit()
        product.name = "mine, so that it is not refreshed"
        await in_another_task(change)
        await uow.products.delete(entity=product)
        with pytest.raises(ConcurrentModification):
            await uow.commit()

    assert await world.products.count() == 1


@pytest.mark.contract("UOW-032")
async def test_expect(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        uow.expect(product, version=1)
        with pytest.raises(PreconditionFailed) as caught:
            uow.expect(product, version=7)
        product.name = "still fine"
        await uow.commit()
        uow.expect(product, version=2)

    assert not isinstance(caught.value, Conflict)
    assert (caught.value.expected, caught.value.found) == (7, 1)


@pytest.mark.contract("UOW-033")
@pytest.mark.parametrize("look", [True, False])
@pytest.mark.parametrize("taken", ["id", "unique", "child"])
async def test_a_value_that_was_looked_for_and_is_taken_is_a_conflict(world: Any, look: bool, taken: str) -> None:
    """The store lets nobody between the look and the write, so what the unit has missed is told to it by hand."""
    await world.stock()
    await world.customers.create(entity=world.Customer(id="ann", email="ann@example.org"))
    sought: Any
    if taken == "id":
        model, sought, entity = world.Product, "TABLE", world.Product(sku="TABLE")
    elif taken == "unique":
        model, sought = world.Customer, {"email": "ann@example.org"}
        entity = world.Customer(id="bob", email="ann@example.org")
    else:
        model, sought = world.Product, {"batches.reference": "TABLE-1"}
        entity = world.Product(sku="LAMP", batches=[world.Batch(reference="TABLE-1", quantity=1)])
    repository = "customers" if taken == "unique" else "products"

    with pytest.raises(Conflict if look else AlreadyExists) as caught:
        async with world.uow as uow:
            if look:
                getattr(uow, repository).joined().missed(model, sought)
            await getattr(uow, repository).create(entity=entity)
            await uow.commit()

    if look:
        assert isinstance(caught.value.__cause__, AlreadyExists)


@pytest.mark.contract("UOW-033")
async def test_what_an_earlier_transaction_of_the_unit_missed_does_not_count(world: Any) -> None:
    async with world.uow as uow:
        assert await uow.products.get("TABLE") is None
        await uow.commit()
        await in_another_task(lambda: world.products.create(entity=world.Product(sku="TABLE")))
        await uow.products.create(entity=world.Product(sku="TABLE"))
        with pytest.raises(AlreadyExists):
            await uow.commit()


@pytest.mark.contract("UOW-033")
async def test_two_units_that_find_nothing_and_create_the_same_both_end(world: Any) -> None:
    async def add(reference: str) -> None:
        async def work(uow: Any) -> None:
            product = await uow.products.get_by_sku(sku="LAMP")
            if product is None:
                await asyncio.sleep(0)
                product = await uow.products.create(entity=world.Product(sku="LAMP"))
            product.batches.append(world.Batch(reference=reference, quantity=1))

        await world.uow.run(work)

    await asyncio.gather(*(add(f"b{number}") for number in range(8)))

    lamp = await world.products.get("LAMP")
    assert sorted(batch.reference for batch in lamp.batches) == [f"b{number}" for number in range(8)]

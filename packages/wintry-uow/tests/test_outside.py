"""Objects that were loaded or stored outside of a unit, and are given to it."""

import asyncio
from typing import Any

import pytest

from wintry.models import Model, RequiredId
from wintry.repository import Backends, Repository
from wintry.uow import ConcurrentModification, Unit

pytestmark = [pytest.mark.anyio, pytest.mark.contract("UOW-034")]


async def theirs(world: Any, **changes: Any) -> None:
    """Another task changes the product."""

    async def change() -> None:
        product = await world.products.one("TABLE")
        for name, value in changes.items():
            setattr(product, name, value)
        await world.products.update(entity=product)

    await asyncio.create_task(change())


@pytest.mark.parametrize("way", ["update", "delete"])
async def test_one_whose_row_has_moved_is_refused(world: Any, way: str) -> None:
    await world.stock()
    mine = await world.products.one("TABLE")
    mine.batches[0].quantity = 1
    await theirs(world, name="theirs")

    with pytest.raises(ConcurrentModification) as caught:
        async with world.uow as uow:
            await getattr(uow.products, way)(entity=mine)
            await uow.commit()

    assert (caught.value.id, caught.value.expected, caught.value.found) == ("TABLE", 1, 2)
    stored = await world.products.one("TABLE")
    assert (stored.name, stored.batches[0].quantity) == ("theirs", 10)


async def test_one_that_was_stored_outside_is_guarded_too(world: Any) -> None:
    mine = await world.stock()
    await theirs(world, name="theirs")
    mine.batches[0].quantity = 1

    with pytest.raises(ConcurrentModification):
        async with world.uow as uow:
            await uow.products.update(entity=mine)

    assert (await world.products.one("TABLE")).name == "theirs"


async def test_what_changed_in_it_is_stored_beside_what_the_unit_changed(world: Any) -> None:
    await world.stock()
    mine = await world.products.one("TABLE")
    mine.batches.append(world.Batch(reference="B2", quantity=2))

    async with world.uow as uow:
        tracked = await uow.products.one("TABLE")
        tracked.name = "the unit's"
        assert await uow.products.find_by_name(name="the unit's") == [tracked]
        assert await uow.products.update(entity=mine) is tracked
        mine.batches[1].quantity = 3
        mine.batches.append(world.Batch(reference="B3", quantity=3))
        await uow.products.update(entity=mine)
        await uow.products.update(entity=mine)
        await uow.commit()
        mine.batches.pop()
        mine.batches[0].quantity = 7
        await uow.products.update(entity=mine)
        await uow.commit()

    stored = await world.products.one("TABLE")
    assert stored.name == "the unit's"
    assert [(batch.reference, batch.quantity) for batch in stored.batches] == [("TABLE-1", 7), ("B2", 3)]


async def test_what_was_undone_in_it_is_undone(world: Any) -> None:
    await world.stock()
    mine = await world.products.one("TABLE")

    async with world.uow as uow:
        mine.name = "for a while"
        await uow.products.update(entity=mine)
        mine.name = ""
        await uow.products.update(entity=mine)
        await uow.commit()

    assert (await world.products.one("TABLE")).name == ""


async def test_what_a_refresh_or_a_detachment_dropped_is_merged_again(world: Any) -> None:
    await world.stock()
    mine = await world.products.one("TABLE")
    mine.name = "mine"

    async with world.uow as uow:
        tracked = await uow.products.update(entity=mine)
        await uow.refresh(tracked)
        assert tracked.name == ""
        assert (await uow.products.update(entity=mine)).name == "mine"
        uow.detach(tracked)
        await uow.products.update(entity=mine)
        await uow.commit()

    assert (await world.products.one("TABLE")).name == "mine"


async def test_what_the_unit_removed_of_it_comes_back_with_it(world: Any) -> None:
    await world.stock()
    mine = await world.products.one("TABLE")
    mine.batches[0].quantity = 3

    async with world.uow as uow:
        (await uow.products.one("TABLE")).batches.clear()
        await uow.products.update(entity=mine)
        await uow.commit()

    assert [batch.quantity for batch in (await world.products.one("TABLE")).batches] == [3]


async def test_one_that_was_loaded_after_the_units_own_commit_fits(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        (await uow.products.one("TABLE")).name = "the unit's"
        await uow.commit()
        mine = await asyncio.create_task(world.products.one("TABLE"))
        mine.batches[0].quantity = 4
        await uow.products.update(entity=mine)
        await uow.commit()

    stored = await world.products.one("TABLE")
    assert (stored.name, stored.batches[0].quantity) == ("the unit's", 4)


async def test_an_upsert_replaces_the_whole_whoever_was_there(world: Any) -> None:
    await world.stock()
    mine = await world.products.one("TABLE")
    await theirs(world, name="theirs")
    mine.batches[0].quantity = 4

    async with world.uow as uow:
        assert await uow.products.upsert(entity=mine) is False
        await uow.commit()

    stored = await world.products.one("TABLE")
    assert (stored.name, stored.batches[0].quantity) == ("", 4)


async def test_what_changed_inside_of_what_the_unit_took_away_comes_back(opened: Any) -> None:
    class Address(Model):
        city: str

    class Person(Model):
        id: str = RequiredId()
        address: Address | None = None

    class People(Repository[Person, str], entity=Person): ...

    async with Backends(default="memory://") as backends:
        people = People(backends)
        await people.create(entity=Person(id="a", address=Address(city="Rome")))
        mine = await people.one("a")
        assert mine.address is not None
        mine.address.city = "Oslo"

        async with Unit([backends["default"]]) as unit:
            (await people.one("a")).address = None
            await people.update(entity=mine)
            await unit.commit()

        stored = await people.one("a")
        assert stored.address == Address(city="Oslo")

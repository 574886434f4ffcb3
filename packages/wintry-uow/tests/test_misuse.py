"""What cannot work is told."""

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

import pytest

from wintry.uow import (
    ConcurrentUnitUse,
    ForeignObject,
    NotEntered,
    Unit,
    UnitAborted,
    UnitClosed,
    UnitError,
    UnitOfWork,
    UnitTimeout,
    Unsupported,
)

pytestmark = pytest.mark.anyio


@pytest.mark.contract("UOW-080")
async def test_a_second_task_in_a_unit_is_told_both_names(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        asyncio.current_task().set_name("the owner")
        second = asyncio.create_task(uow.products.get("TABLE"), name="the second")
        with pytest.raises(ConcurrentUnitUse) as caught:
            await second
        third = asyncio.create_task(uow.commit(), name="the third")
        with pytest.raises(ConcurrentUnitUse, match="'the third'"):
            await third
        assert await uow.products.get("TABLE") is not None

    assert "'the owner'" in str(caught.value)
    assert "'the second'" in str(caught.value)
    assert (caught.value.owner, caught.value.user) == (asyncio.current_task(), second)


@pytest.mark.contract("UOW-081")
async def test_a_closed_unit_and_its_repositories_are_closed(world: Any) -> None:
    await world.stock()
    async with world.uow as uow:
        product = await uow.products.get("TABLE")

    for use in (
        uow.commit,
        uow.rollback,
        uow.products.find,
        lambda: uow.products.get("TABLE"),
        lambda: uow.products.create(entity=world.Product(sku="CHAIR")),
        lambda: uow.products.delete_by_name(name=""),
        lambda: uow.refresh(product),
    ):
        with pytest.raises(UnitClosed, match="open a new one"):
            await use()
    with pytest.raises(UnitClosed):
        uow.changes()
    assert await world.products.count() == 1


@pytest.mark.contract("UOW-081")
@pytest.mark.parametrize("options", [{"read_only": True}, {"flush": "commit"}])
async def test_a_closed_unit_is_closed_whatever_its_options(world: Any, options: dict[str, Any]) -> None:
    async with world.uow(**options) as uow:
        pass

    with pytest.raises(UnitClosed):
        await uow.products.find()


@pytest.mark.contract("UOW-081")
async def test_the_injected_object_is_not_a_unit(world: Any) -> None:
    for use in (world.uow.commit, world.uow.rollback):
        with pytest.raises(NotEntered, match=r"Shop\.(commit|rollback)\(\) .* `async with <it> as uow:`"):
            await use()
    with pytest.raises(NotEntered):
        world.uow.changes()


@pytest.mark.contract("UOW-082")
async def test_an_object_that_the_unit_does_not_hold(world: Any) -> None:
    product = await world.stock()

    async with world.uow as uow:
        with pytest.raises(ForeignObject, match="does not hold Product 'TABLE'"):
            uow.expect(product, version=1)
        with pytest.raises(ForeignObject):
            await uow.refresh(product)
        await uow.products.get("TABLE")
        with pytest.raises(ForeignObject):
            uow.detach(product)


@pytest.mark.contract("UOW-082")
async def test_an_object_of_another_running_unit(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:

        async def take(product: Any) -> None:
            async with world.uow as uow:
                await uow.products.create(entity=product)

        async with world.uow as uow:
            product = await uow.products.create(entity=world.Product(sku="TABLE"))
            with pytest.raises(ForeignObject, match="belongs to another running unit"):
                await asyncio.create_task(take(product))
            await uow.commit()

        async with world.uow as uow:
            await uow.products.delete(entity=product)
            await uow.products.create(entity=product)
            await uow.commit()


@pytest.mark.contract("UOW-080")
async def test_a_block_cannot_be_left_in_another_context(world: Any) -> None:
    scope = await world.uow.__aenter__()

    async def leave() -> None:
        await world.uow.__aexit__(None, None, None)

    with pytest.raises(UnitError, match="another context"):
        await asyncio.create_task(leave(), context=contextvars.Context())
    await scope.rollback()
    await world.uow.__aexit__(None, None, None)


@pytest.mark.contract("UOW-080")
async def test_blocks_are_left_from_the_inside_out(world: Any) -> None:
    async with world.uow, UnitOfWork(products=world.products):
        with pytest.raises(UnitError, match="before a unit inside of it"):
            await world.uow.__aexit__(None, None, None)


@pytest.mark.contract("UOW-005")
@pytest.mark.parametrize("by", ["aclose", "anext"])
@pytest.mark.filterwarnings("ignore::wintry.uow.UncommittedChanges")
async def test_a_generator_that_another_task_ends_gives_its_connection_back(world: Any, by: str) -> None:
    await world.stock()

    async def dependency() -> AsyncIterator[Any]:
        async with world.uow as uow:
            yield uow

    generator = dependency()
    uow = await anext(generator)
    (await uow.products.get("TABLE")).name = "dropped"
    end = generator.aclose() if by == "aclose" else anext(generator, None)
    await asyncio.create_task(end)

    with pytest.raises(UnitClosed):
        await uow.commit()
    assert (await world.products.get("TABLE")).name != "dropped"
    async with asyncio.timeout(5), world.uow as uow:
        (await uow.products.get("TABLE")).name = "saved"
        await uow.commit()
    assert (await world.products.get("TABLE")).name == "saved"


@pytest.mark.contract("UOW-080")
async def test_a_unit_needs_a_task() -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            done.set_result(Unit(()).enter())
        except UnitError as error:
            done.set_exception(error)

    asyncio.get_running_loop().call_soon(callback)
    with pytest.raises(UnitError, match="belongs to a task"):
        await done


@pytest.mark.contract("UOW-071")
async def test_the_time_of_a_unit(opened: Any, tmp_path: Any) -> None:
    async with opened(default=f"sqlite:///{tmp_path / 'shop.db'}") as world:
        with pytest.raises((UnitTimeout, UnitAborted)) as caught:
            async with world.uow(timeout=0.05) as uow:
                await uow.products.create(entity=world.Product(sku="TABLE"))
                while True:
                    await uow.products.count()

        assert isinstance(caught.value, UnitTimeout) or isinstance(caught.value.__cause__, UnitTimeout)
        assert await world.products.count() == 0


@pytest.mark.contract("UOW-053")
async def test_a_resource_that_no_store_has(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world, world.uow as uow:
        with pytest.raises(Unsupported, match="no backend of this unit has a Event"):
            await uow.resource(asyncio.Event)

"""Units inside of units, and units over several stores."""

import asyncio
from typing import Any

import pytest

from wintry.uow import SeveralBackends, UnitAborted, UnitError, UnitOfWork

pytestmark = pytest.mark.anyio


@pytest.mark.contract("UOW-060")
async def test_an_inner_unit_joins_transaction_and_identity_map(probed: Any) -> None:
    world, probe = probed, probed.backends.probe
    await world.stock()
    probe.steps.clear()

    async with world.uow as outer:
        product = await outer.products.get("TABLE")
        async with world.uow as inner:
            assert await inner.products.get("TABLE") is product
            product.name = "inner"
            await inner.commit()
        assert probe.steps == ["load", "write"]
        async with world.uow as idle:
            assert await idle.products.get("TABLE") is product
        product.batches.clear()
        await outer.commit()

    assert probe.steps == ["load", "write", "write", "commit"]
    stored = await world.products.get("TABLE")
    assert (stored.name, stored.batches) == ("inner", [])


@pytest.mark.contract("UOW-060")
async def test_the_outer_unit_rolls_back_what_an_inner_one_committed(world: Any) -> None:
    async with world.uow as outer:
        async with world.uow as inner:
            await inner.products.create(entity=world.Product(sku="TABLE"))
            await inner.commit()
        await outer.rollback()

    assert await world.products.count() == 0


@pytest.mark.contract("UOW-060")
async def test_changes_of_the_outer_unit_are_not_the_inner_ones(world: Any) -> None:
    await world.stock()

    async with world.uow as outer:
        (await outer.products.get("TABLE")).name = "outer"
        async with world.uow as inner:
            assert await inner.products.count_by_name(name="outer") == 1
        await outer.commit()

    assert (await world.products.get("TABLE")).name == "outer"


async def fails(world: Any) -> None:
    async with world.uow:
        raise ZeroDivisionError


async def rolls_back(world: Any) -> None:
    async with world.uow as inner:
        await inner.rollback()


async def forgets_to_commit(world: Any) -> None:
    async with world.uow as inner:
        await inner.products.create(entity=world.Product(sku="CHAIR"))


@pytest.mark.contract("UOW-061")
@pytest.mark.parametrize(
    ("inner", "reason"), [(fails, "failed"), (rolls_back, "was rolled back"), (forgets_to_commit, "without commit()")]
)
async def test_an_inner_failure_dooms_the_outer_unit(world: Any, inner: Any, reason: str) -> None:
    with pytest.raises(UnitAborted, match="joined this one") as caught:
        async with world.uow as outer:
            await outer.products.create(entity=world.Product(sku="TABLE"))
            try:
                await inner(world)
            except ZeroDivisionError:
                pass
            await outer.commit()

    assert reason in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError) is (inner is fails)
    assert await world.products.count() == 0


@pytest.mark.contract("UOW-061")
async def test_a_doomed_unit_can_be_rolled_back_and_go_on(world: Any) -> None:
    async with world.uow as outer:
        with pytest.raises(ZeroDivisionError):
            await fails(world)
        await outer.rollback()
        await outer.products.create(entity=world.Product(sku="TABLE"))
        await outer.commit()

    assert await world.products.count() == 1


@pytest.mark.contract("UOW-060")
async def test_a_unit_that_joins_cannot_ask_for_another_isolation_or_time(world: Any) -> None:
    async with world.uow as outer:
        with pytest.raises(UnitError, match="leave these options out"):
            async with world.uow(timeout=1):
                pass
        await outer.commit()


@pytest.mark.contract("UOW-062")
async def test_a_unit_over_another_store_is_a_transaction_of_its_own(opened: Any, two_urls: dict[str, str]) -> None:
    async with opened(**two_urls) as world:
        elsewhere = world.Elsewhere(world.backends)
        other = UnitOfWork(customers=elsewhere)

        async with world.uow as uow:
            product = await uow.products.create(entity=world.Product(sku="TABLE"))
            async with other as inner:
                await elsewhere.create(entity=world.Customer(id="ann"))
                assert await world.products.get("TABLE") is product
                async with world.uow as joined:
                    assert await joined.products.get("TABLE") is product
                await inner.commit()
            await uow.rollback()

        assert await world.products.count() == 0
        assert await elsewhere.count() == 1


@pytest.mark.contract("UOW-062")
async def test_a_call_on_a_store_that_no_unit_covers_is_a_transaction_of_its_own(
    opened: Any, two_urls: dict[str, str]
) -> None:
    async with opened(**two_urls) as world:
        elsewhere = world.Elsewhere(world.backends)

        async with world.uow as uow:
            await elsewhere.create(entity=world.Customer(id="ann"))
            await uow.rollback()

        assert await elsewhere.count() == 1


@pytest.mark.contract("UOW-063")
async def test_several_stores_are_refused_unless_asked_for(opened: Any, two_urls: dict[str, str]) -> None:
    async with opened(**two_urls) as world:
        uow: Any = UnitOfWork(products=world.products, customers=world.Elsewhere(world.backends))

        with pytest.raises(SeveralBackends, match="default, other"):
            async with uow:
                pass
        async with uow(allow_multi=True) as scope:
            await scope.products.create(entity=world.Product(sku="TABLE"))
            await scope.customers.create(entity=world.Customer(id="ann"))
            await scope.commit()

        assert (await world.products.count(), await uow.customers.count()) == (1, 1)


@pytest.mark.contract("UOW-063")
async def test_two_names_of_one_store_are_one(opened: Any) -> None:
    async with opened(default="memory://a", other="memory://a") as world:
        uow: Any = UnitOfWork(products=world.products, other=world.products)

        async with uow as scope:
            await scope.commit()


@pytest.mark.contract("UOW-063")
async def test_a_commit_that_fails_half_way_says_what_was_committed(opened: Any) -> None:
    async with opened(default="memory://a", other="memory://b") as world:
        uow: Any = UnitOfWork(products=world.products, customers=world.Elsewhere(world.backends))

        async def faster() -> None:
            await world.Elsewhere(world.backends).create(entity=world.Customer(id="ann"))

        with pytest.raises(Exception, match="exists already") as caught:
            async with uow(allow_multi=True) as scope:
                await scope.products.create(entity=world.Product(sku="TABLE"))
                await scope.customers.create(entity=world.Customer(id="ann"))
                assert await scope.customers.count() == 1
                await asyncio.create_task(faster())
                await scope.commit()

        assert caught.value.__notes__ == ["already committed: default"]
        assert await world.products.count() == 1


@pytest.mark.contract("UOW-061")
async def test_a_set_based_delete_of_an_inner_unit_that_forgot_to_commit_dooms_the_outer_one(world: Any) -> None:
    await world.stock()

    with pytest.raises(UnitAborted, match="left without commit"):
        async with world.uow as outer:
            async with world.uow as inner:
                await inner.products.delete_all()
            await outer.commit()

    assert await world.products.count() == 1

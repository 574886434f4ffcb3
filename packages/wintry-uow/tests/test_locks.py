"""Locked loads: who wants a hot aggregate waits for a turn, in place of being refused when it stores."""

import asyncio
from typing import Any

import pytest

from wintry.repository import RepositoryError
from wintry.uow import Conflict, LockTooLate, ReadOnlyUnit, UnitError, UnitTimeout, locks

pytestmark = pytest.mark.anyio


async def by_id(uow: Any) -> Any:
    return await uow.products.get("TABLE", lock=True)


async def by_id_at_least(uow: Any) -> Any:
    return await uow.products.one("TABLE", lock=True)


async def by_query_of_the_id(uow: Any) -> Any:
    return await uow.products.get_by_sku_for_update(sku="TABLE")


async def by_query_of_a_child(uow: Any) -> Any:
    return await uow.products.get_by_batches__reference_for_update(batches__reference="TABLE-1")


LOADS = [by_id, by_id_at_least, by_query_of_the_id, by_query_of_a_child]


@pytest.mark.contract("UOW-300")
@pytest.mark.parametrize("load", LOADS)
async def test_those_who_lock_come_one_after_another_and_see_what_the_last_one_stored(world: Any, load: Any) -> None:
    await world.stock(quantity=100)
    attempts = 0

    async def order(number: int) -> None:
        nonlocal attempts
        async with world.uow as uow:
            attempts += 1
            product = await load(uow)
            assert len(product.batches[0].lines) == attempts_done()
            await asyncio.sleep(0)
            product.allocate(world.Line(orderid=f"o{number}", qty=1))
            await uow.commit()
            done.append(number)

    done: list[int] = []

    def attempts_done() -> int:
        return len(done)

    await asyncio.gather(*(order(number) for number in range(16)))

    assert attempts == 16
    product = await world.products.get("TABLE")
    assert [line.orderid for line in product.batches[0].lines] == [f"o{number}" for number in done]
    assert world.products.version_of(product) == 17


@pytest.mark.contract("UOW-300")
async def test_who_waits_is_served_in_the_order_of_asking_and_holds_no_transaction(probed: Any) -> None:
    world, probe = probed, probed.backends.probe
    await world.stock()
    served: list[str] = []
    leave = asyncio.Event()

    async def unit(name: str) -> None:
        async with world.uow as uow:
            await uow.products.get("TABLE", lock=True)
            served.append(name)
            await leave.wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(unit(name))
        while not served:
            await asyncio.sleep(0)
        assert [execution.begun for execution in probe.open].count(True) <= 1
        leave.set()

    assert served == ["a", "b", "c"]


@pytest.mark.contract("UOW-303")
async def test_a_query_of_no_id_locks_and_finds_nothing(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        assert await uow.products.get_by_sku_for_update(sku=None) is None
        assert await uow.products.get_by_sku(sku=None) is None
        assert await uow.products.get_by_sku_for_update(sku="TABLE") is not None


@pytest.mark.contract("UOW-301")
async def test_a_locked_load_is_the_first_call(world: Any) -> None:
    await world.stock()
    await world.stock("CHAIR")

    async with world.uow as uow:
        await uow.products.get("CHAIR")
        with pytest.raises(LockTooLate, match=r"Product 'TABLE' is to be locked, but this unit has begun"):
            await uow.products.get("TABLE", lock=True)
        with pytest.raises(LockTooLate):
            await uow.products.get_by_sku_for_update(sku="CHAIR")
        assert await uow.products.get("TABLE") is not None

    async with world.uow as uow:
        table = await uow.products.get("TABLE", lock=True)
        with pytest.raises(LockTooLate):
            await uow.products.get("CHAIR", lock=True)
        assert await uow.products.get("TABLE", lock=True) is table
        table.name = "locked"
        await uow.commit()
        chair = await uow.products.get("CHAIR", lock=True)
        assert await uow.products.get("TABLE") is table
        chair.name = "locked in the next transaction"
        await uow.commit()

    assert {product.name for product in await world.products.find()} == {"locked", "locked in the next transaction"}


@pytest.mark.contract("UOW-302")
async def test_two_who_want_the_same_two_never_wait_for_each_other(world: Any) -> None:
    """Both are in line when the two come free, one for each of them; they asked in different orders."""
    table, chair = (world.Product, "TABLE"), (world.Product, "CHAIR")
    has_table, has_chair, first, second = (locks.Held(world.products.backend) for _ in range(4))
    await has_table.take([table])
    await has_chair.take([chair])
    taking = [asyncio.create_task(first.take([table, chair])), asyncio.create_task(second.take([chair, table]))]
    await asyncio.sleep(0)
    has_table.release()
    has_chair.release()

    async with asyncio.timeout(5):
        await taking[0]
        first.release()
        await taking[1]
    second.release()
    assert not locks._lines[world.products.backend]


@pytest.mark.contract("UOW-304")
async def test_a_commit_lets_the_next_one_in_while_the_block_goes_on(world: Any) -> None:
    await world.stock()

    async def rename(uow: Any) -> None:
        (await uow.products.get("TABLE", lock=True)).name += "second"

    async with world.uow as uow:
        (await uow.products.get("TABLE", lock=True)).name = "first, "
        await uow.commit()
        async with asyncio.timeout(5):
            await asyncio.create_task(world.uow.run(rename))

    assert (await world.products.get("TABLE")).name == "first, second"


@pytest.mark.contract("UOW-302")
async def test_several_are_locked_by_one_query_in_one_order(world: Any) -> None:
    await world.stock("TABLE", 100)
    await world.stock("CHAIR", 100)

    async def order(number: int) -> None:
        skus = ["TABLE", "CHAIR"][:: -1 if number % 2 else 1]
        async with world.uow as uow:
            products = await uow.products.find_by_sku_in_for_update(sku=skus)
            assert [product.sku for product in products] == ["CHAIR", "TABLE"]
            for product in products:
                product.allocate(world.Line(orderid=f"o{number}", qty=1))
            await uow.commit()

    async with asyncio.timeout(30):
        await asyncio.gather(*(order(number) for number in range(12)))

    assert [len(product.batches[0].lines) for product in await world.products.find()] == [12, 12]


@pytest.mark.contract("UOW-302")
async def test_what_fits_only_since_the_locks_were_asked_for_is_a_conflict(opened: Any, racing_url: str) -> None:
    """While the query waits for TABLE, which fits, the one who has it renames CHAIR, which then fits as well."""
    async with opened(default=racing_url) as world:
        await world.stock("CHAIR")
        await world.products.create(entity=world.Product(sku="TABLE", name="new"))
        attempts = 0

        async def find(uow: Any) -> list[str]:
            nonlocal attempts
            attempts += 1
            found = await uow.products.find_by_name_for_update(name="new")
            return [product.sku for product in found]

        async with world.uow as uow:
            chair, _ = await uow.products.find_by_sku_in_for_update(sku=["TABLE", "CHAIR"])
            waiting = asyncio.create_task(world.uow.run(find))
            while waits_for(world) < 2:
                await asyncio.sleep(0)
            chair.name = "new"
            await uow.commit()

        assert await waiting == ["CHAIR", "TABLE"]
        assert attempts == 2


def waits_for(world: Any) -> int:
    """How many stand in the line for TABLE."""
    lines = locks._lines[world.products.backend]
    line = lines.get((world.Product, "TABLE"))
    return 0 if line is None else line.standing


@pytest.mark.contract("UOW-303")
async def test_where_a_lock_cannot_be(world: Any) -> None:
    await world.stock()

    with pytest.raises(RepositoryError, match=r"Products\.get\(lock=True\): a lock lasts as long as a unit"):
        await world.products.get("TABLE", lock=True)
    with pytest.raises(RepositoryError, match=r"Products\.get_by_sku_for_update: a lock"):
        await world.products.get_by_sku_for_update(sku="TABLE")
    async with world.uow(read_only=True) as uow:
        with pytest.raises(ReadOnlyUnit):
            await uow.products.get("TABLE", lock=True)
    async with world.uow(isolation="snapshot") as uow:
        with pytest.raises(UnitError, match="leave `isolation=` out"):
            await uow.products.get("TABLE", lock=True)


@pytest.mark.contract("UOW-303")
async def test_nothing_is_locked_where_nothing_is_stored(world: Any) -> None:
    async def add(reference: str) -> None:
        async def work(uow: Any) -> None:
            lamp = await uow.products.get("LAMP", lock=True)
            if lamp is None:
                lamp = await uow.products.create(entity=world.Product(sku="LAMP"))
            lamp.batches.append(world.Batch(reference=reference, quantity=1))

        await world.uow.run(work)

    await asyncio.gather(*(add(f"b{number}") for number in range(8)))

    assert len((await world.products.get("LAMP")).batches) == 8


@pytest.mark.contract("UOW-304")
async def test_a_unit_that_fails_or_is_cancelled_lets_the_next_one_in(world: Any) -> None:
    await world.stock()
    entered = asyncio.Event()

    async def holder() -> None:
        async with world.uow as uow:
            await uow.products.get("TABLE", lock=True)
            entered.set()
            await asyncio.Event().wait()

    async def name(text: str) -> None:
        async with world.uow as uow:
            (await uow.products.get("TABLE", lock=True)).name = text
            await uow.commit()

    holding = asyncio.create_task(holder())
    await entered.wait()
    waiting = [asyncio.create_task(name(text)) for text in ("given up", "stored")]
    await asyncio.sleep(0)
    waiting[0].cancel()
    holding.cancel()
    await asyncio.gather(holding, *waiting, return_exceptions=True)

    assert [waiting[0].cancelled(), holding.cancelled()] == [True, True]
    assert (await world.products.get("TABLE")).name == "stored"
    with pytest.raises(ZeroDivisionError):
        async with world.uow as uow:
            await uow.products.get("TABLE", lock=True)
            raise ZeroDivisionError
    async with asyncio.timeout(5):
        await name("and again")


@pytest.mark.contract("UOW-304")
async def test_the_time_of_a_unit_bounds_the_wait(world: Any) -> None:
    await world.stock()

    async def impatient() -> None:
        async with world.uow(timeout=0.05) as uow:
            await uow.products.get("TABLE", lock=True)

    async with world.uow as uow:
        await uow.products.get("TABLE", lock=True)
        with pytest.raises(UnitTimeout):
            await asyncio.create_task(impatient())


@pytest.mark.contract("UOW-305")
async def test_a_lock_keeps_out_those_who_lock_and_the_version_meets_the_others(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        await world.stock()

        async def locked(uow: Any) -> None:
            (await uow.products.get("TABLE", lock=True)).name = "locked"

        async with world.uow as uow:
            product = await uow.products.get("TABLE")
            await asyncio.create_task(world.uow.run(locked))
            product.name = "stale"
            with pytest.raises(Conflict):
                await uow.commit()

        assert (await world.products.get("TABLE")).name == "locked"


@pytest.mark.contract("UOW-304")
async def test_who_gave_up_waiting_may_ask_once_more_in_the_same_unit(world: Any) -> None:
    await world.stock()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def holder() -> None:
        async with world.uow as uow:
            await uow.products.get("TABLE", lock=True)
            entered.set()
            await leave.wait()

    holding = asyncio.create_task(holder())
    await entered.wait()
    async with world.uow as uow:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await uow.products.get("TABLE", lock=True)
        leave.set()
        await holding
        assert (await uow.products.get("TABLE", lock=True)).sku == "TABLE"

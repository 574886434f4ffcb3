"""What a commit sends, in which order, and what is left when it fails."""

import asyncio
from typing import Any

import pytest

from wintry.models import DuplicateChild, IdentityChanged, SharedChild, same
from wintry.models.tracking import Insert as Inserted
from wintry.models.tracking import Set
from wintry.repository.backend import Delete, Insert, Update
from wintry.uow import ConcurrentModification, UnitAborted

pytestmark = pytest.mark.anyio


@pytest.mark.contract("UOW-020")
async def test_one_minimal_operation_for_each_changed_aggregate(probed: Any) -> None:
    world, probe = probed, probed.backends.probe
    await world.stock("TABLE")
    await world.stock("CHAIR")
    probe.sent.clear()

    async with world.uow as uow:
        table = await uow.products.get("TABLE")
        await uow.products.get("CHAIR")
        line = world.Line(orderid="o1", qty=1)
        table.batches[0].lines.append(line)
        table.name = "A table"
        await uow.commit()

    ((update,),) = probe.sent
    assert isinstance(update, Update)
    assert {type(change) for change in update.changes} == {Inserted, Set}
    assert len(update.changes) == 2


@pytest.mark.contract("UOW-020")
async def test_without_changes_nothing_is_written(probed: Any) -> None:
    await probed.stock()
    probe = probed.backends.probe
    probe.sent.clear()

    async with probed.uow as uow:
        product = await uow.products.get("TABLE")
        product.name = "changed"
        product.name = ""
        await uow.commit()

    assert probe.sent == []


@pytest.mark.contract("UOW-021")
async def test_a_second_commit_in_the_block_saves_what_came_after_the_first(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        product.name = "first"
        await uow.commit()
        assert (await world_outside(world)).name == "first"
        product.name = "second"
        await uow.commit()
        await uow.commit()

    assert (await world.products.get("TABLE")).name == "second"


@pytest.mark.contract("UOW-021")
@pytest.mark.parametrize("steps", range(6))
async def test_what_is_edited_while_a_commit_waits_is_saved_by_the_next(world: Any, steps: int) -> None:
    product = await world.stock()
    product.batches.append(world.Batch(reference="last", quantity=1))
    await world.products.update(entity=product)

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        created = await uow.products.create(entity=world.Product(sku="CHAIR"))
        between = world.Batch(reference="between", quantity=1)
        product.batches.insert(1, between)
        product.name = "edited before"

        async def edit() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)
            between.lines.append(world.Line(orderid="o1", qty=1))
            product.name = "edited meanwhile"
            created.batches.append(world.Batch(reference="new", quantity=2))

        editing = asyncio.create_task(edit())
        await uow.commit()
        await editing
        await uow.commit()

    assert same(await world.products.get("TABLE"), product)
    assert same(await world.products.get("CHAIR"), created)


async def world_outside(world: Any) -> Any:
    """The stored product, as somebody who is in no unit sees it."""
    return await asyncio.create_task(world.products.get("TABLE"))


@pytest.mark.contract("UOW-022")
async def test_an_object_from_before_a_commit_is_refreshed_in_place(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        await uow.commit()
        await elsewhere(world, name="theirs", quantity=99)
        assert await uow.products.get("TABLE") is product
        assert (product.name, product.batches[0].quantity) == ("theirs", 99)
        product.name = "mine"
        await uow.commit()

    assert (await world.products.get("TABLE")).name == "mine"


@pytest.mark.contract("UOW-022", "UOW-031")
async def test_an_object_that_was_changed_meanwhile_is_not_refreshed_but_conflicts(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        await uow.commit()
        await elsewhere(world, name="theirs", quantity=99)
        product.name = "mine"
        assert await uow.products.get("TABLE") is product
        assert product.name == "mine"
        with pytest.raises(ConcurrentModification):
            await uow.commit()

    assert (await world.products.get("TABLE")).name == "theirs"


async def elsewhere(world: Any, *, name: str, quantity: int) -> None:
    """Another task changes the product."""

    async def change() -> None:
        async with world.uow as uow:
            product = await uow.products.get("TABLE")
            product.name = name
            product.batches[0].quantity = quantity
            await uow.commit()

    await asyncio.create_task(change())


@pytest.mark.contract("UOW-023")
async def test_a_query_sees_what_the_unit_changed_in_the_roots_it_reads_and_stores_no_others(probed: Any) -> None:
    world, probe = probed, probed.backends.probe
    await world.stock()
    await world.customers.create(entity=world.Customer(id="ann", sku="TABLE"))
    probe.sent.clear()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        customer = await uow.customers.get("ann")
        product.name = "changed"
        customer.sku = "CHAIR"
        assert await uow.products.find_by_name(name="changed") == [product]
        assert [[type(operation.object) for operation in sent] for sent in probe.sent] == [[world.Product]]
        assert await uow.customers.find_by_sku(sku="CHAIR") == [customer]
        await uow.commit()

    assert [len(sent) for sent in probe.sent] == [1, 1]


@pytest.mark.contract("UOW-023")
async def test_with_flush_commit_a_query_does_not_store(probed: Any) -> None:
    world, probe = probed, probed.backends.probe
    await world.stock()
    probe.sent.clear()

    async with world.uow(flush="commit") as uow:
        (await uow.products.get("TABLE")).name = "changed"
        assert await uow.products.find_by_name(name="changed") == []
        assert probe.sent == []
        await uow.commit()

    assert (await world.products.get("TABLE")).name == "changed"


@pytest.mark.contract("UOW-024")
async def test_deletions_then_updates_then_inserts(probed: Any) -> None:
    world, probe = probed, probed.backends.probe
    await world.stock("TABLE")
    await world.stock("CHAIR")
    probe.sent.clear()

    async with world.uow as uow:
        await uow.products.create(entity=world.Product(sku="LAMP"))
        (await uow.products.get("CHAIR")).name = "changed"
        await uow.products.delete(entity=await uow.products.get("TABLE"))
        await uow.commit()

    assert [type(operation) for operation in probe.sent[0]] == [Delete, Update, Insert]


@pytest.mark.contract("UOW-024")
async def test_unique_values_change_places(world: Any) -> None:
    await world.stock("TABLE")
    await world.stock("CHAIR")
    async with world.uow as uow:
        table, chair = await uow.products.get("TABLE"), await uow.products.get("CHAIR")
        before = [batch.reference for batch in table.batches], [batch.reference for batch in chair.batches]
        assert all(before)
        table.batches, chair.batches = chair.batches, table.batches
        await uow.commit()

    table, chair = await world.products.get("TABLE"), await world.products.get("CHAIR")
    assert ([batch.reference for batch in chair.batches], [batch.reference for batch in table.batches]) == before


@pytest.mark.contract("UOW-024")
async def test_an_id_and_a_unique_value_pass_from_a_deleted_object_to_a_new_one(world: Any) -> None:
    await world.stock("TABLE")
    await world.stock("CHAIR")

    async with world.uow as uow:
        await uow.products.delete(entity=await uow.products.get("TABLE"))
        chair = await uow.products.get("CHAIR")
        chair.batches.clear()
        await uow.products.create(
            entity=world.Product(
                sku="TABLE",
                name="new",
                batches=[world.Batch(reference="CHAIR-1", quantity=1), world.Batch(reference="TABLE-1", quantity=2)],
            )
        )
        await uow.commit()

    table = await world.products.get("TABLE")
    assert (table.name, [batch.quantity for batch in table.batches]) == ("new", [1, 2])
    assert world.products.version_of(table) == 1


@pytest.mark.contract("UOW-025")
@pytest.mark.parametrize("fault", [SharedChild, DuplicateChild, IdentityChanged])
async def test_a_fault_of_an_object_leaves_the_unit_as_it_was(probed: Any, fault: type[Exception]) -> None:
    world, probe = probed, probed.backends.probe
    await world.stock()
    probe.sent.clear()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        first = product.batches[0]
        if fault is SharedChild:
            product.batches.append(first)
        elif fault is DuplicateChild:
            product.batches.append(world.Batch(reference="TABLE-1", quantity=1))
        else:
            product.sku = "CHAIR"
        with pytest.raises(fault):
            await uow.commit()
        assert probe.sent == []
        product.sku = "TABLE"
        product.batches[:] = [first]
        product.name = "repaired"
        await uow.commit()

    assert (await world.products.get("TABLE")).name == "repaired"


@pytest.mark.contract("UOW-026")
async def test_changes_shows_what_is_stored_and_what_would_be(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        assert uow.changes() == ()
        product = await uow.products.get("TABLE")
        product.name = "A table"
        assert await uow.products.count_by_name(name="A table") == 1
        customer = await uow.customers.create(entity=world.Customer(id="ann"))
        update, insert = uow.changes()
        assert isinstance(update, Update)
        assert update.object is product
        assert insert == Insert(customer)
        await uow.commit()
        assert uow.changes() == ()


@pytest.mark.contract("UOW-027", "UOW-005")
async def test_whichever_call_of_the_store_fails_all_is_stored_or_nothing(probed: Any) -> None:
    world, probe = probed, probed.backends.probe
    await world.stock("TABLE")
    await world.stock("CHAIR")

    async def work() -> None:
        async with world.uow as uow:
            table = await uow.products.get("TABLE")
            table.name = "changed"
            (chair,) = await uow.products.find_by_name(name="")
            await uow.products.delete(entity=chair)
            await uow.customers.create(entity=world.Customer(id="ann"))
            assert await uow.products.count() == 1
            table.batches[0].lines.append(world.Line(orderid="o1", qty=1))
            await uow.commit()

    before = await stored(world)
    calls = ["load", "write", "query", "write", "query", "write", "commit"]
    for number in range(1, len(calls) + 1):
        probe.steps.clear()
        probe.fail_at = number
        with pytest.raises(world.Broken, match=calls[number - 1]):
            await work()
        probe.fail_at = None
        assert probe.open == set()
        assert await stored(world) == before

    probe.steps.clear()
    await work()
    assert probe.steps == calls
    assert await stored(world) != before


async def stored(world: Any) -> list[Any]:
    """All that is stored, with the versions."""
    found = [*await world.products.find(), *await world.customers.find()]
    return [(object.to_dict(), repository_of(world, object).version_of(object)) for object in found]


def repository_of(world: Any, object: Any) -> Any:
    return world.products if isinstance(object, world.Product) else world.customers


@pytest.mark.contract("UOW-083")
async def test_after_an_error_of_the_store_only_a_rollback_is_possible(probed: Any) -> None:
    world, probe = probed, probed.backends.probe
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        product.name = "changed"
        probe.fail_at = len(probe.steps) + 1
        with pytest.raises(world.Broken) as failure:
            await uow.commit()
        probe.fail_at = None
        for use in (uow.commit, uow.products.find, lambda: uow.products.get("TABLE"), lambda: uow.refresh(product)):
            with pytest.raises(UnitAborted, match="roll it back") as aborted:
                await use()
            assert aborted.value.__cause__ is failure.value
        with pytest.raises(UnitAborted):
            uow.changes()
        await uow.rollback()
        (await uow.products.get("TABLE")).name = "again"
        await uow.commit()

    assert (await world.products.get("TABLE")).name == "again"

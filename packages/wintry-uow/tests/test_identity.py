"""One object for a row, and what the unit knows of it."""

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from wintry.models import Model, RequiredId
from wintry.repository import Backends, Repository
from wintry.repository.errors import ConfigurationError
from wintry.uow import AlreadyExists, ConcurrentModification, NotFound, Unit

pytestmark = pytest.mark.anyio


@pytest.mark.contract("UOW-010")
async def test_every_way_to_a_row_leads_to_one_object(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        assert await uow.products.get_by_sku(sku="TABLE") is product
        assert await uow.products.get_by_batches__reference(batches__reference="TABLE-1") is product
        assert (await uow.products.find())[0] is product
        assert (await uow.products.find_many(["TABLE"]))[0] is product


@pytest.mark.contract("UOW-010")
async def test_local_changes_win_over_a_row_that_a_query_meets(world: Any) -> None:
    await world.stock()

    async with world.uow(flush="commit") as uow:
        product = await uow.products.get("TABLE")
        product.name = "mine"
        (found,) = await uow.products.find_by_name(name="")
        assert found is product
        assert found.name == "mine"
        await uow.commit()

    assert (await world.products.get("TABLE")).name == "mine"


@pytest.mark.contract("UOW-011")
async def test_an_object_that_nobody_else_holds_is_saved(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        product.name = "kept"
        watch = weakref.ref(product)
        del product
        gc.collect()
        assert watch() is not None
        await uow.commit()

    assert (await world.products.get("TABLE")).name == "kept"


@pytest.mark.contract("UOW-012")
async def test_a_deleted_row_is_not_there_any_more(world: Any) -> None:
    product = await world.stock()

    async with world.uow(flush="commit") as uow:
        await uow.products.delete(entity=product)
        assert await uow.products.get("TABLE") is None
        assert await uow.products.get_by_batches__reference(batches__reference="TABLE-1") is None
        assert await uow.products.find() == []
        assert await uow.products.find_many(["TABLE"]) == []
        await uow.commit()

    assert await world.products.get("TABLE") is None


@pytest.mark.contract("UOW-012", "UOW-014")
async def test_get_of_a_deleted_id_does_not_ask_the_store(probed: Any) -> None:
    product = await probed.stock()

    async with probed.uow as uow:
        await uow.products.delete(entity=product)
        probed.backends.probe.steps.clear()
        assert await uow.products.get("TABLE") is None
        assert probed.backends.probe.steps == []
        await uow.commit()


@pytest.mark.contract("UOW-012")
async def test_after_the_commit_of_a_deletion_others_can_create_the_id_again(world: Any) -> None:
    product = await world.stock()

    async def again() -> None:
        await world.products.create(entity=world.Product(sku="TABLE", name="again"))

    async with world.uow as uow:
        await uow.products.delete(entity=product)
        await uow.commit()
        await asyncio.create_task(again())
        assert (await uow.products.get("TABLE")).name == "again"


@pytest.mark.contract("UOW-012")
async def test_an_object_that_is_created_and_deleted_was_never_there(probed: Any) -> None:
    async with probed.uow as uow:
        product = await uow.products.create(entity=probed.Product(sku="TABLE"))
        await uow.products.delete(entity=product)
        assert await uow.products.get("TABLE") is None
        await uow.commit()

    assert probed.backends.probe.sent == []


@pytest.mark.contract("UOW-013")
async def test_what_is_changed_after_create_is_stored(world: Any) -> None:
    async with world.uow as uow:
        product = await uow.products.create(entity=world.Product(sku="TABLE"))
        product.batches.append(world.Batch(reference="b1", quantity=10))
        assert await uow.products.get_by_batches__reference(batches__reference="b1") is product
        product.batches.append(world.Batch(reference="b2", quantity=10))
        await uow.commit()

    stored = await world.products.get("TABLE")
    assert [batch.reference for batch in stored.batches] == ["b1", "b2"]


@pytest.mark.contract("UOW-014")
async def test_a_thousand_gets_of_a_loaded_id_ask_the_store_once(probed: Any) -> None:
    await probed.stock()
    probe = probed.backends.probe
    probe.steps.clear()

    async with probed.uow as uow:
        product = await uow.products.get("TABLE")
        product.name = "changed"
        for _ in range(1_000):
            assert await uow.products.get("TABLE") is product
            assert await uow.products.get_by_sku(sku="TABLE") is product
        assert probe.steps == ["load"]
        await uow.rollback()


@pytest.mark.contract("UOW-015")
async def test_a_second_object_of_an_id_is_refused(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        with pytest.raises(AlreadyExists, match="Product with sku 'TABLE'"):
            await uow.products.create(entity=world.Product(sku="TABLE"))
        product.name = "the unit goes on"
        await uow.commit()

    assert (await world.products.get("TABLE")).name == "the unit goes on"


@pytest.mark.contract("UOW-016")
async def test_refresh_takes_what_is_stored(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        product.name = "lost"
        product.batches.clear()
        await uow.refresh(product)
        assert product.name == ""
        assert [batch.reference for batch in product.batches] == ["TABLE-1"]
        assert uow.changes() == ()


@pytest.mark.contract("UOW-016")
async def test_refresh_of_what_is_gone_is_not_found(world: Any) -> None:
    async with world.uow as uow:
        product = await uow.products.create(entity=world.Product(sku="TABLE"))
        with pytest.raises(NotFound, match="Product 'TABLE' is not stored"):
            await uow.refresh(product)
        uow.detach(product)


@pytest.mark.contract("UOW-017")
async def test_a_detached_object_is_not_saved(world: Any) -> None:
    await world.stock()

    async with world.uow as uow:
        product = await uow.products.get("TABLE")
        product.name = "before"
        uow.detach(product)
        product.name = "after"
        assert uow.changes() == ()
        assert await uow.products.get("TABLE") is not product
        await uow.commit()

    assert (await world.products.get("TABLE")).name == ""


@pytest.mark.contract("UOW-018")
async def test_after_a_set_based_delete_the_rows_are_asked_for_again(world: Any) -> None:
    await world.stock("TABLE")
    await world.stock("CHAIR")

    async with world.uow as uow:
        table, chair = await uow.products.get("TABLE"), await uow.products.get("CHAIR")
        chair.name = "old"
        assert await uow.products.delete_by_name(name="old") == 1
        assert await uow.products.get("CHAIR") is None
        assert await uow.products.get("TABLE") is table
        table.name = "saved"
        await uow.commit()

    assert [product.name for product in await world.products.find()] == ["saved"]


@pytest.mark.contract("UOW-018")
async def test_an_object_changed_after_its_row_was_deleted_meets_the_guard(world: Any) -> None:
    await world.stock("CHAIR")

    with pytest.raises(ConcurrentModification):
        async with world.uow as uow:
            chair = await uow.products.get("CHAIR")
            await uow.products.delete_by_name(name="")
            chair.name = "too late"
            await uow.commit()


@pytest.mark.contract("UOW-018", "UOW-023")
async def test_an_object_that_is_not_stored_yet_is_not_touched_by_a_set_based_delete(world: Any) -> None:
    async with world.uow(flush="commit") as uow:
        product = await uow.products.create(entity=world.Product(sku="TABLE"))
        assert await uow.products.delete_all() == 0
        assert await uow.products.get("TABLE") is product
        await uow.commit()

    assert await world.products.count() == 1


@pytest.mark.contract("UOW-018")
async def test_an_id_that_a_set_based_delete_freed_can_be_created(world: Any) -> None:
    await world.stock("CHAIR")

    async with world.uow as uow:
        await uow.products.get("CHAIR")
        await uow.products.delete_by_name(name="")
        await uow.products.create(entity=world.Product(sku="CHAIR", name="new"))
        await uow.commit()

    assert (await world.products.get("CHAIR")).name == "new"


class Note(Model):
    id: str = RequiredId()


class Notes(Repository[Note, str], entity=Note): ...


class Person(Model):
    id: str = RequiredId()


class People(Repository[Person, str], entity=Person): ...


@pytest.mark.parametrize("first", ["session", "delete"])
@pytest.mark.contract("UOW-020")
async def test_the_first_call_of_a_unit_may_be_any(first: str, tmp_path: Path) -> None:
    async with Backends(default=f"sqlite:///{tmp_path / 'shop.db'}") as backends:
        notes = Notes(backends)  # whose table is made by the first call
        async with Unit([backends["default"]]) as unit:
            if first == "session":
                session = await notes.session()
                await session.execute(sa.text("INSERT INTO notes (id, _version) VALUES ('a', 1)"))
                await unit.commit()
            else:
                with pytest.raises(NotFound):
                    await notes.delete(entity=Note(id="a"))
        assert await notes.count() == (first == "session")


@pytest.mark.contract("UOW-020")
async def test_a_table_that_a_unit_would_wait_for_for_ever_is_refused(tmp_path: Path) -> None:
    async with Backends(default=f"sqlite:///{tmp_path / 'shop.db'}") as backends:
        people = People(backends)
        async with asyncio.timeout(10), Unit([backends["default"]]) as unit:
            await people.create(entity=Person(id="a"))
            await unit.flush()
            with pytest.raises(ConfigurationError, match="make repositories before"):
                await Notes(backends).count()
            await unit.commit()
        assert (await people.count(), await Notes(backends).count()) == (1, 0)

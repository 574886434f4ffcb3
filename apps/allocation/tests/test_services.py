"""The handlers on stores in memory, without a server, a broker or a container."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest

from allocation.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.events import Allocated, Deallocated
from allocation.models import LineConflict
from allocation.repositories import AllocationViewModelRepository, ProductRepository
from allocation.services import BOARD_CHANNEL, BatchExists, InvalidSku, MessageBus, UnknownBatch
from allocation.uow import UnitOfWork
from allocation.views import AllocationReadModel, Views
from wintry.repository import Backends

pytestmark = pytest.mark.anyio


@pytest.fixture
async def backends() -> AsyncIterator[Backends]:
    async with Backends(default="memory://products", views="memory://views") as backends:
        yield backends


@pytest.fixture
def views(backends: Backends) -> Views:
    return Views(products=ProductRepository(backends), allocations=AllocationViewModelRepository(backends))


@pytest.fixture
def bus(backends: Backends, publisher: Any) -> MessageBus:
    products = ProductRepository(backends)
    return MessageBus(
        uow=UnitOfWork(products=products),
        logger=logging.getLogger("allocation"),
        sender=publisher,
        products=products,
        allocations=AllocationViewModelRepository(backends),
    )


async def batches_of(views: Views, sku: str) -> dict[str, int]:
    """Reference → what is available."""
    product = await views.get_product(sku)
    return {batch.reference: batch.available_quantity for batch in product.batches} if product else {}


@pytest.mark.contract("APP-010")
async def test_a_batch_is_added_once(bus: MessageBus, views: Views) -> None:
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))

    with pytest.raises(BatchExists, match="Batch b1 exists"):
        await bus.handle(CreateBatch(ref="b1", sku="CHAIR", qty=10))
    assert await batches_of(views, "TABLE") == {"b1": 10}
    assert await views.get_product("CHAIR") is None


@pytest.mark.contract("APP-011")
async def test_an_allocation_reaches_the_view_and_other_services(bus: MessageBus, views: Views, publisher: Any) -> None:
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))

    assert await bus.handle(Allocate(orderid="o1", sku="TABLE", qty=3)) == "b1"

    assert await batches_of(views, "TABLE") == {"b1": 7}
    assert await views.get_allocations_for("o1") == [AllocationReadModel(orderid="o1", sku="TABLE", batchref="b1")]
    assert publisher.on("line_allocated") == [{"orderid": "o1", "sku": "TABLE", "qty": 3, "batchref": "b1"}]


@pytest.mark.contract("APP-011")
async def test_the_same_line_again_tells_nobody(bus: MessageBus, publisher: Any) -> None:
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))

    for _ in range(2):
        assert await bus.handle(Allocate(orderid="o1", sku="TABLE", qty=3)) == "b1"
    with pytest.raises(LineConflict):
        await bus.handle(Allocate(orderid="o1", sku="TABLE", qty=4))

    assert len(publisher.on("line_allocated")) == 1


@pytest.mark.contract("APP-011")
async def test_what_is_not_there_is_told(bus: MessageBus, views: Views, publisher: Any) -> None:
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=1))

    assert await bus.handle(Allocate(orderid="o1", sku="TABLE", qty=2)) is None
    with pytest.raises(InvalidSku, match="Invalid sku CHAIR"):
        await bus.handle(Allocate(orderid="o1", sku="CHAIR", qty=2))

    assert publisher.on("out_of_stock") == [{"orderid": "o1", "sku": "TABLE", "qty": 2}]
    assert await views.get_allocations_for("o1") == []


@pytest.mark.contract("APP-012")
async def test_a_line_that_no_longer_fits_moves_or_leaves_the_view(
    bus: MessageBus, views: Views, publisher: Any
) -> None:
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))
    await bus.handle(CreateBatch(ref="b2", sku="TABLE", qty=4))
    await bus.handle(Allocate(orderid="o1", sku="TABLE", qty=6))
    await bus.handle(Allocate(orderid="o2", sku="TABLE", qty=4))

    await bus.handle(ChangeBatchQuantity(ref="b1", qty=0))

    assert await batches_of(views, "TABLE") == {"b1": 0, "b2": 0}
    assert [row.batchref for row in await views.get_allocations_for("o2")] == ["b2"]
    assert await views.get_allocations_for("o1") == []
    assert [told["orderid"] for told in publisher.on("out_of_stock")] == ["o1"]
    assert [told["batchref"] for told in publisher.on("line_deallocated")] == ["b1", "b1"]
    with pytest.raises(UnknownBatch):
        await bus.handle(ChangeBatchQuantity(ref="b9", qty=1))


@pytest.mark.contract("APP-019")
@pytest.mark.parametrize("seed", range(12))
async def test_events_in_any_order_and_number_end_in_the_same_rows(bus: MessageBus, views: Views, seed: int) -> None:
    chance = random.Random(seed)
    orders = ["o1", "o2", "o3"]
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))
    await bus.handle(CreateBatch(ref="b2", sku="TABLE", qty=3, eta=date(2030, 1, 1)))
    for order in orders:
        await bus.handle(Allocate(orderid=order, sku="TABLE", qty=3))
    await bus.handle(ChangeBatchQuantity(ref="b1", qty=3))  # o3 moves to b2, o2 finds no stock
    rows = {order: await views.get_allocations_for(order) for order in orders}
    assert [[row.batchref for row in rows[order]] for order in orders] == [["b1"], [], ["b2"]]
    happened: list[Allocated | Deallocated] = [
        *(Allocated(orderid=order, sku="TABLE", qty=3, batchref="b1") for order in orders),
        *(Deallocated(orderid=order, sku="TABLE", qty=3, batchref="b1") for order in ("o3", "o2")),
        Allocated(orderid="o3", sku="TABLE", qty=3, batchref="b2"),
    ]
    if seed % 2:
        for order in orders:  # as if none had been delivered yet
            await bus.allocations.delete_by_orderid_and_sku(orderid=order, sku="TABLE")

    for event in chance.sample(happened, len(happened)) + chance.choices(happened, k=6):
        if isinstance(event, Allocated):
            await bus.save_allocation_view(event)
        else:
            await bus.delete_allocation_view(event)

    assert {order: await views.get_allocations_for(order) for order in orders} == rows


@pytest.mark.contract("APP-012")
async def test_a_line_that_is_moved_is_announced_with_the_batch_that_it_left(
    bus: MessageBus, views: Views, publisher: Any
) -> None:
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))
    await bus.handle(CreateBatch(ref="b2", sku="TABLE", qty=10, eta=date(2030, 1, 1)))
    await bus.handle(Allocate(orderid="o1", sku="TABLE", qty=6))

    await bus.handle(ChangeBatchQuantity(ref="b1", qty=5))

    line = {"orderid": "o1", "sku": "TABLE", "qty": 6}
    assert publisher.on("line_deallocated") == [{**line, "batchref": "b1"}]
    assert publisher.on("line_allocated") == [{**line, "batchref": "b1"}, {**line, "batchref": "b2"}]


@pytest.mark.contract("APP-016")
async def test_every_change_of_stock_is_told_to_the_boards(bus: MessageBus, publisher: Any) -> None:
    def told() -> list[Any]:
        return [change["sku"] for change in publisher.on(BOARD_CHANNEL)]

    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))
    assert told() == ["TABLE"]
    await bus.handle(ChangeBatchQuantity(ref="b1", qty=9))
    assert told() == ["TABLE"] * 2
    await bus.handle(Allocate(orderid="o1", sku="TABLE", qty=3))
    assert told() == ["TABLE"] * 3


@pytest.mark.contract("APP-010")
async def test_a_batch_that_is_added_again_is_compared_with_what_is_stored_now(bus: MessageBus) -> None:
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))
    await bus.handle(ChangeBatchQuantity(ref="b1", qty=7))

    with pytest.raises(BatchExists, match="Batch b1 exists"):
        await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=10))
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=7))


@pytest.mark.contract("APP-016")
async def test_the_board_begins_with_the_latest_twenty(bus: MessageBus, views: Views) -> None:
    await bus.handle(CreateBatch(ref="b1", sku="TABLE", qty=100))
    for number in range(23):
        await bus.handle(Allocate(orderid=f"o{number}", sku="TABLE", qty=1))

    assert [row.orderid for row in await views.get_latest()] == [f"o{number}" for number in range(22, 2, -1)]

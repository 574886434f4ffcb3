"""The handlers on stores in memory, without a server, a broker or a container."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from allocation.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.models import LineConflict
from allocation.repositories import AllocationViewModelRepository, ProductRepository
from allocation.services import BatchExists, InvalidSku, MessageBus, UnknownBatch
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

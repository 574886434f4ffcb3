"""What readers get: rows of the view for an order, and a product as the stock board and `/products` show it."""

from datetime import date, datetime

from pydantic import BaseModel, ConfigDict

from allocation.models import Batch, Product
from allocation.repositories import AllocationViewModelRepository, ProductRepository
from wintry.ioc import provider


class AllocationReadModel(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    orderid: str
    sku: str
    batchref: str


class LatestReadModel(AllocationReadModel):
    allocated_at: datetime


class LineReadModel(BaseModel):
    orderid: str
    qty: int
    allocated_at: datetime


class BatchReadModel(BaseModel):
    reference: str
    eta: date | None
    purchased_quantity: int
    available_quantity: int
    lines: list[LineReadModel]


class ProductReadModel(BaseModel):
    sku: str
    available_quantity: int
    batches: list[BatchReadModel]


@provider
class Views:
    products: ProductRepository
    allocations: AllocationViewModelRepository

    async def get_allocations_for(self, orderid: str) -> list[AllocationReadModel]:
        rows = await self.allocations.find_by_orderid(orderid=orderid)
        return [AllocationReadModel.model_validate(row) for row in rows]

    async def get_latest(self) -> list[LatestReadModel]:
        rows = await self.allocations.find_first_20_order_by_allocated_at_desc()
        return [LatestReadModel.model_validate(row) for row in rows]

    async def get_product(self, sku: str) -> ProductReadModel | None:
        product = await self.products.get_by_sku(sku=sku)
        return None if product is None else shown(product)

    async def get_products(self) -> list[ProductReadModel]:
        return [shown(product) for product in await self.products.find()]


def shown(product: Product) -> ProductReadModel:
    batches = [shown_batch(batch) for batch in sorted(product.batches)]
    available = sum(batch.available_quantity for batch in batches)
    return ProductReadModel(sku=product.sku, available_quantity=available, batches=batches)


def shown_batch(batch: Batch) -> BatchReadModel:
    return BatchReadModel(
        reference=batch.reference,
        eta=batch.eta,
        purchased_quantity=batch.purchased_quantity,
        available_quantity=batch.available_quantity,
        lines=[
            LineReadModel(orderid=line.orderid, qty=line.qty, allocated_at=line.allocated_at)
            for line in batch.allocations
        ],
    )

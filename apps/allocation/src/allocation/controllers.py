"""The ways in: the HTTP API, and the channel of the broker that the service hears."""

from logging import Logger
from urllib.parse import quote

from allocation.commands import Allocate, ChangeBatchQuantity, CreateBatch, Text
from allocation.services import MessageBus
from allocation.views import AllocationReadModel, ProductReadModel, Views
from wintry.web import ConflictError, DataResponse, NotFoundError, controller, get, microservice, on, post


@controller(prefix="", tags=["Products"])
class ProductsController:
    messagebus: MessageBus
    views: Views

    @post("/add_batch", response_model=DataResponse[str], status_code=201, responses={409: "The reference is in use."})
    async def add_batch(self, cmd: CreateBatch) -> DataResponse[str]:
        await self.messagebus.handle(cmd)
        return DataResponse[str](data="Created Batch", status_code=201)

    @post(
        "/allocate",
        response_model=DataResponse[str],
        status_code=202,
        responses={400: "No such sku.", 409: "Out of stock, or allocated with another quantity."},
    )
    async def allocate(self, cmd: Allocate) -> DataResponse[str]:
        if await self.messagebus.handle(cmd) is None:
            raise ConflictError(f"Out of stock for sku {cmd.sku}")
        location = f"/allocations/{quote(cmd.orderid, safe='')}"
        return DataResponse[str](data="Allocated", status_code=202, headers={"Location": location})

    @post(
        "/change_batch_quantity",
        response_model=DataResponse[str],
        status_code=202,
        responses={404: "No such batch."},
    )
    async def change_batch_quantity(self, cmd: ChangeBatchQuantity) -> DataResponse[str]:
        await self.messagebus.handle(cmd)
        return DataResponse[str](data="Changed Batch Quantity", status_code=202)

    @get(
        "/allocations/{orderid}",
        response_model=DataResponse[list[AllocationReadModel]],
        responses={404: "No lines of this order are allocated."},
    )
    async def allocations_view(self, orderid: Text) -> DataResponse[list[AllocationReadModel]]:
        results = await self.views.get_allocations_for(orderid)
        if not results:
            raise NotFoundError(f"{orderid}")
        return DataResponse(data=results)

    @get("/products/{sku:path}", response_model=ProductReadModel, responses={404: "No such product."})
    async def product(self, sku: Text) -> ProductReadModel:
        product = await self.views.get_product(sku)
        if product is None:
            raise NotFoundError(f"{sku}")
        return product


@microservice()
class ChannelsController:
    logger: Logger
    messagebus: MessageBus

    @on("change_batch_quantity")
    async def change_batch_quantity(self, cmd: ChangeBatchQuantity) -> None:
        self.logger.info(f"Heard from the broker: {cmd}")
        await self.messagebus.handle(cmd)

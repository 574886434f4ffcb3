from logging import Logger
from wintry.web import microservice, on
from tuto.viewmodels import AllocationsViewModel
from wintry.web import TransporterType
from .commands import ChangeBatchQuantity
from .services import MessageBus

@microservice(TransporterType.redis)
class RedisMessagesControllers:
    logger: Logger
    messagebus: MessageBus

    @on("change_batch_quantity")
    async def change_batch_quantity(self, cmd: ChangeBatchQuantity):
        self.logger.info(f"Event from Redis: {cmd}")
        await self.messagebus.handle(cmd)

    @on("line_allocated")
    async def line_allocated(self, allocation: AllocationsViewModel):
        self.logger.info(f"Hey look, a line've been allocated from redis: {allocation}")

from tuto.viewmodels import AllocationsViewModel
from .views import AllocationReadModel, Views
from .commands import Allocate, CreateBatch
from wintry.web import controller, post, get
from .services import InvalidSku, MessageBus
from wintry.web import DataResponse
from wintry.web import NotFoundError

@controller(prefix="", tags=["Products"])
class ProductsController:
    messagebus: MessageBus
    views: Views

    @post("/add_batch", response_model=DataResponse[str])
    async def add_batch(self, cmd: CreateBatch):
        await self.messagebus.handle(cmd)
        return DataResponse[str](data="Created Batch")

    @post("/allocate", response_model=DataResponse[str])
    async def allocate(self, cmd: Allocate):
        try:
            await self.messagebus.handle(cmd)
            return DataResponse[str](data="Allocated", status_code=202)
        except InvalidSku as e:
            return DataResponse(status_code=400, message=str(e))

    @get("/allocations/{orderid}", response_model=DataResponse[list[AllocationReadModel]])
    async def allocations_view(self, orderid: str):
        results = await self.views.get_allocations_for(orderid)
        if not results:
            raise NotFoundError(f"{orderid}")

        return DataResponse(data=results)

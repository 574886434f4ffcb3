from pydantic import BaseModel, ConfigDict

from wintry.ioc import provider

from .repositories import AllocationViewModelRepository


class AllocationReadModel(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    orderid: str
    sku: str
    batchref: str


@provider
class Views:
    allocations: AllocationViewModelRepository

    async def get_allocations_for(self, orderid: str) -> list[AllocationReadModel]:
        rows = await self.allocations.find_by_orderid(orderid=orderid)
        return [AllocationReadModel.model_validate(row) for row in rows]

"""The two stores: products where they are written, allocations where they are read. Every query is its method's name."""

from allocation.models import Product
from allocation.viewmodels import AllocationsViewModel
from wintry.ioc import provider
from wintry.repository import Repository, query


@provider
class ProductRepository(Repository[Product, str], entity=Product):
    @query
    async def get_by_sku(self, *, sku: str) -> Product | None: ...

    @query
    async def get_by_sku_for_update(self, *, sku: str) -> Product | None: ...

    @query
    async def get_by_batches__reference(self, *, batches__reference: str) -> Product | None: ...

    @query
    async def get_by_batches__reference_for_update(self, *, batches__reference: str) -> Product | None: ...


@provider
class AllocationViewModelRepository(
    Repository[AllocationsViewModel, str], entity=AllocationsViewModel, for_backend="views"
):
    @query
    async def find_by_orderid(self, *, orderid: str) -> list[AllocationsViewModel]: ...

    @query
    async def find_first_20_order_by_allocated_at_desc(self) -> list[AllocationsViewModel]: ...

    @query
    async def delete_by_orderid_and_sku(self, *, orderid: str, sku: str) -> int: ...

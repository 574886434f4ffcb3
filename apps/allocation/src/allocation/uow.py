"""One transaction over the products."""

from allocation.repositories import ProductRepository
from wintry.ioc import provider
from wintry.uow import UnitOfWork as WintryUnitOfWork


@provider
class UnitOfWork(WintryUnitOfWork):
    products: ProductRepository

    def __init__(self, products: ProductRepository) -> None:
        super().__init__(products=products)

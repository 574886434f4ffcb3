"""What checkers know of units of work: the object inside is of the user's class, `run` and `transactional` keep types.

The ignores are expected errors: a checker that stops reporting one reports the ignore instead.
"""

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

from wintry.ioc import provider
from wintry.models import Model, RequiredId
from wintry.repository import Backends, Repository, query
from wintry.uow import Unit, UnitOfWork, current_unit, transactional


class Product(Model):
    sku: str = RequiredId()


@provider
class ProductRepository(Repository[Product, str], entity=Product):
    @query
    async def get_by_sku(self, *, sku: str) -> Product | None: ...


@provider
class Written(UnitOfWork):
    products: ProductRepository

    def __init__(self, products: ProductRepository) -> None:
        super().__init__(products=products)


@provider
class Annotated(UnitOfWork):
    products: ProductRepository


class Service:
    uow: Written

    async def add(self, sku: str) -> Product:
        async with self.uow as uow:
            assert_type(uow, Written)
            assert_type(uow.products, ProductRepository)
            assert_type(await uow.products.get_by_sku(sku=sku), Product | None)
            product = await uow.products.create(entity=Product(sku=sku))
            await uow.commit()
            await uow.prodcuts.count()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        async with self.uow(read_only=True, timeout=1.0) as reading:
            assert_type(reading, Written)
        return product

    @transactional
    async def retried(self, sku: str, *, times: int = 1) -> int:
        return times

    @transactional(retry_for=1.0)
    async def longer(self, sku: str) -> str:
        return sku


async def main(backends: Backends, service: Service) -> None:
    products = ProductRepository(backends)
    assert_type(Annotated(products=products).products, ProductRepository)
    Annotated()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Written(products=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async def work(uow: Written) -> int:
        return await uow.products.count()

    assert_type(await Written(products=products).run(work, retries=3), int)
    assert_type(await service.retried("a", times=2), int)
    assert_type(await service.longer("a"), str)
    await service.retried(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(current_unit(), Unit | None)
    bare = UnitOfWork(products=products)
    later: Callable[[], Awaitable[Any]] = bare.commit
    await later()

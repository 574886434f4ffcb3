"""What checkers know of repositories: the typed and the bare spelling, their calls, `@query` methods.

The ignores are expected errors: a checker that stops reporting one reports the ignore instead.
"""

# mypy: disable-error-code="no-untyped-def"
# what a deletion returns may be left unsaid

from typing import assert_type

from wintry.ioc import Container, provider
from wintry.models import Array, Model, RequiredId
from wintry.repository import Backends, Repository, query


class Batch(Model):
    reference: str = RequiredId()
    qty: int = 0


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()


@provider
class ProductRepository(Repository[Product, str], entity=Product):
    @query
    async def get_by_sku(self, *, sku: str) -> Product | None: ...

    @query
    async def find_by_batches__reference(self, *, batches__reference: str) -> list[Product]: ...

    @query
    async def count_by_sku(self, *, sku: str) -> int: ...

    async def first(self) -> Product | None:
        return await self.get_by_sku(sku="a")


@provider
class Bare(Repository, entity=Product, for_backend="views"):
    @query
    async def find_by_sku(self, *, sku: str) -> list[Product]: ...

    @query
    async def delete_by_sku(self, *, sku: str): ...


async def main(backends: Backends, container: Container) -> None:
    products = ProductRepository(backends)
    assert_type(await products.get_by_sku(sku="chair"), Product | None)
    assert_type(await products.find_by_batches__reference(batches__reference="b1"), list[Product])
    assert_type(await products.count_by_sku(sku="chair"), int)
    assert_type(await products.create(entity=Product(sku="chair")), Product)
    assert_type(await products.get(id="chair"), Product | None)
    assert_type(await products.get("chair", lock=True), Product | None)
    assert_type(await products.one("chair", lock=True), Product)
    assert_type(products.backends, Backends)
    await products.get_by_sku("chair")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await products.get_by_sku(name="chair")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await products.create(entity=Batch(reference="b1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ProductRepository()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    bare = Bare(backends)
    assert_type(await bare.find_by_sku(sku="chair"), list[Product])
    await bare.create(entity=Product(sku="chair"))
    await bare.delete_by_sku(sku="chair")
    async with container.scope() as scope:
        assert_type(await scope.get(ProductRepository), ProductRepository)

"""Products for the peer's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import allocation.models
from benchmarks.peers.tables import Base, Batch, OrderLine, Product, engine_url


async def seed(urls: Mapping[str, str], products: Sequence[allocation.models.Product]) -> None:
    """The same products, with the same batches and lines."""
    engine = create_async_engine(engine_url(urls["default"]))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        session.add_all(map(same, products))
    await engine.dispose()


def same(product: allocation.models.Product) -> Product:
    return Product(
        sku=product.sku,
        batches=[
            Batch(
                reference=batch.reference,
                purchased_quantity=batch.purchased_quantity,
                eta=batch.eta,
                lines=[
                    OrderLine(orderid=line.orderid, sku=line.sku, qty=line.qty, allocated_at=line.allocated_at)
                    for line in batch.allocations
                ],
            )
            for batch in product.batches
        ],
    )

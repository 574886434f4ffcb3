"""The same two endpoints on FastAPI, SQLAlchemy's ORM and Beanie, each as its documentation shows it.

FastAPI: dependencies with `Annotated`, response models, a lifespan. SQLAlchemy: an `AsyncSession` for each request,
`selectinload`, `with_for_update` on the product, and a version column. Beanie: a document with an indexed field, saved.
Beside the order's line goes a row of an outbox, in the same transaction; a task polls it, writes the view, publishes on
Redis and marks the row. So the view follows the answer, and there is no record of what was handled: a poller that dies
repeats what it had not committed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from beanie import Document, Indexed, init_beanie
from fastapi import Depends, FastAPI, HTTPException, Response
from pydantic import BaseModel, Field, StringConstraints
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import selectinload

from benchmarks.peers.tables import Base, Batch, OrderLine, Outbox, Product, engine_url

POLL_SECONDS = 0.05
AT_ONCE = 100
T = TypeVar("T")
logger = logging.getLogger("uvicorn.error")

engine = create_async_engine(engine_url(os.environ["BENCH_DEFAULT"]), pool_size=10)
sessions = async_sessionmaker(engine, expire_on_commit=False)
redis = Redis.from_url(os.environ["BENCH_REDIS"])


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class Allocate(BaseModel):
    orderid: Text
    sku: Text
    qty: Annotated[int, Field(strict=True, gt=0, le=2**31 - 1)]


class Answer(BaseModel, Generic[T]):
    data: T | None = None
    message: str = ""
    status_code: int = 200


class AllocationRead(BaseModel):
    orderid: str
    sku: str
    batchref: str


class AllocationView(Document):
    id: str
    orderid: Annotated[str, Indexed()]
    sku: str
    batchref: str
    allocated_at: datetime

    class Settings:
        name = "allocations"


async def poll() -> None:
    """Deliver what the outbox holds, in its order."""
    while True:
        try:
            delivered = await deliver()
        except Exception:
            logger.exception("the outbox could not be delivered")
            delivered = 0
        if not delivered:
            await asyncio.sleep(POLL_SECONDS)


async def deliver() -> int:
    async with sessions() as session, session.begin():
        pending = select(Outbox).where(Outbox.done_at.is_(None)).order_by(Outbox.id).limit(AT_ONCE)
        rows = (await session.scalars(pending.with_for_update(skip_locked=True))).all()
        for row in rows:
            event = row.body
            view = AllocationView(
                id=uuid5(NAMESPACE_URL, json.dumps([event["orderid"], event["sku"]])).hex,
                orderid=event["orderid"],
                sku=event["sku"],
                batchref=event["batchref"],
                allocated_at=row.created_at,
            )
            await view.save()
            await redis.xadd("peer:line_allocated", {"body": json.dumps(event)})
            await redis.xadd("peer:board_changed", {"body": json.dumps({"sku": event["sku"]})})
            row.done_at = datetime.now(UTC)
        return len(rows)


async def listen(changed: set[str]) -> None:
    """Hear what changes, for the stock boards of this process."""
    last: Any = "$"
    while True:
        for _, entries in await redis.xread({"peer:board_changed": last}, count=16, block=1000) or ():
            for id, fields in entries:
                last = id
                changed.add(json.loads(fields[b"body"])["sku"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    client = AsyncMongoClient(os.environ["BENCH_VIEWS"])
    await init_beanie(database=client.get_default_database(), document_models=[AllocationView])
    tasks = [asyncio.create_task(poll()), asyncio.create_task(listen(set()))]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()
    await redis.aclose()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/allocate", status_code=202, response_model=Answer[str])
async def allocate(command: Allocate, session: SessionDep, response: Response) -> Answer[str]:
    batches = selectinload(Product.batches).selectinload(Batch.lines)
    product = await session.scalar(
        select(Product).where(Product.sku == command.sku).options(batches).with_for_update(of=Product)
    )
    if product is None:
        response.status_code = 400
        return Answer(message=f"Invalid sku {command.sku}", status_code=400)
    if (found := product.find_line(command.orderid)) is not None:
        if found[1].qty != command.qty:
            raise HTTPException(409, f"Line {command.sku} of order {command.orderid} has quantity {found[1].qty}")
    else:
        in_order = sorted(product.batches, key=lambda each: each.eta or date.min)
        batch = next((each for each in in_order if each.available_quantity >= command.qty), None)
        if batch is None:
            raise HTTPException(409, f"Out of stock for sku {command.sku}")
        line = OrderLine(orderid=command.orderid, sku=command.sku, qty=command.qty, allocated_at=datetime.now(UTC))
        batch.lines.append(line)
        product.version += 1
        session.add(Outbox(type="Allocated", body={**command.model_dump(), "batchref": batch.reference}))
        await session.commit()
    response.headers["Location"] = f"/allocations/{quote(command.orderid, safe='')}"
    return Answer(data="Allocated", status_code=202)


@app.get("/allocations/{orderid}", response_model=Answer[list[AllocationRead]])
async def allocations(orderid: Text) -> Answer[list[AllocationRead]]:
    views = await AllocationView.find(AllocationView.orderid == orderid).sort("_id").to_list()
    if not views:
        raise HTTPException(404, orderid)
    return Answer(data=[AllocationRead(**view.model_dump()) for view in views])

"""The allocation service of the tutorial, as its reader would write it down in one file.

No annotation is added for the checkers' sake: handlers without `-> None`, a bare `Repository`, `dict` without
parameters. So this file is read as their defaults read it, without what --strict adds.
"""

# mypy: disable-error-code="empty-body, no-untyped-def, no-untyped-call, type-arg"

from __future__ import annotations

import json
from datetime import date
from logging import Logger
from typing import Protocol

from wintry.bus import Command, Event, MessageQueue, command_handler, event_handler
from wintry.ioc import provider
from wintry.models import Array, AutoString, Id, Model, RequiredId
from wintry.repository import Repository, query
from wintry.uow import UnitOfWork as WintryUnitOfWork
from wintry.web import (
    App,
    BackendOptions,
    ConnectionOptions,
    DataResponse,
    NotFoundError,
    TransporterSettings,
    TransporterType,
    WinterSettings,
    controller,
    get,
    microservice,
    on,
    post,
)

# models


class OrderLine(Model):
    sku: str
    qty: int
    orderid: str = RequiredId()


class Batch(Model):
    sku: str
    purchased_quantity: int
    reference: str = RequiredId()
    allocations: list[OrderLine] = Array()
    eta: date | None = None

    def allocate(self, line: OrderLine):
        if self.can_allocate(line):
            self.allocations.append(line)

    def deallocate(self, line: OrderLine):
        if line in self.allocations:
            self.allocations.remove(line)

    def deallocate_one(self) -> OrderLine:
        return self.allocations.pop()

    @property
    def allocated_quantity(self) -> int:
        return sum(line.qty for line in self.allocations)

    @property
    def available_quantity(self) -> int:
        return self.purchased_quantity - self.allocated_quantity

    def can_allocate(self, line: OrderLine) -> bool:
        return self.sku == line.sku and self.available_quantity >= line.qty

    def __gt__(self, other):
        if self.eta is None:
            return False
        if other.eta is None:
            return True
        return self.eta > other.eta


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()

    def allocate(self, line: OrderLine) -> str | None:
        try:
            batch = next(b for b in sorted(self.batches) if b.can_allocate(line))
            batch.allocate(line)
            return batch.reference
        except StopIteration:
            return None

    def change_batch_quantity(self, ref: str, qty: int):
        batch = next(b for b in self.batches if b.reference == ref)
        batch.purchased_quantity = qty
        while batch.available_quantity < 0:
            line = batch.deallocate_one()
            yield line


class AllocationsViewModel(Model):
    id: str = Id(default_factory=AutoString)
    orderid: str
    sku: str
    batchref: str


# commands and events


class Allocate(Command):
    orderid: str
    sku: str
    qty: int


class CreateBatch(Command):
    ref: str
    sku: str
    qty: int
    eta: date | None = None


class ChangeBatchQuantity(Command):
    ref: str
    qty: int


class Allocated(Event):
    orderid: str
    sku: str
    qty: int
    batchref: str


class Deallocated(Event):
    orderid: str
    sku: str
    qty: int


class OutOfStock(Event):
    sku: str


# repositories


@provider
class ProductRepository(Repository[Product, str], entity=Product):
    @query
    async def get_by_sku(self, *, sku: str) -> Product | None: ...

    @query
    async def get_by_batches__reference(self, *, batches__reference: str) -> Product | None: ...


@provider
class AllocationViewModelRepository(Repository, entity=AllocationsViewModel, for_backend="mongo"):
    @query
    async def find_by_orderid(self, *, orderid: str) -> list[AllocationsViewModel]: ...

    @query
    async def delete_by_orderid_and_sku(self, *, orderid: str, sku: str): ...


@provider
class UnitOfWork(WintryUnitOfWork):
    products: ProductRepository

    def __init__(self, products: ProductRepository) -> None:
        super().__init__(products=products)


# services


class Publisher(Protocol):
    async def send(self, channel: str, data: dict): ...


@provider(of=Publisher)
class PrintingPublisher(Publisher):
    def __init__(self) -> None:
        self.sent = 0

    async def send(self, channel: str, data: dict):
        self.sent += 1
        print(channel, json.dumps(data))


class InvalidSku(Exception):
    pass


@provider
class MessageBus(MessageQueue):
    uow: UnitOfWork
    logger: Logger
    sender: Publisher
    allocations: AllocationViewModelRepository

    @command_handler
    async def allocate(self, command: Allocate):
        line = OrderLine.build(command.model_dump())

        async with self.uow as uow:
            product = await uow.products.get_by_sku(sku=line.sku)
            if product is None:
                raise InvalidSku(f"Invalid sku {line.sku}")

            batchref = product.allocate(line)
            if batchref is not None:
                self.register(Allocated(orderid=line.orderid, sku=line.sku, qty=line.qty, batchref=batchref))
                self.logger.info(f"Allocated {line}")
            else:
                self.register(OutOfStock(sku=line.sku))

            await uow.commit()

    @command_handler
    async def add_batch(self, command: CreateBatch):
        async with self.uow as uow:
            product = await uow.products.get_by_sku(sku=command.sku)
            if product is None:
                product = Product(sku=command.sku)
                product = await uow.products.create(entity=product)
            product.batches.append(
                Batch(reference=command.ref, purchased_quantity=command.qty, sku=command.sku, eta=command.eta)
            )
            await uow.commit()

        self.logger.info("Created Batch")

    @command_handler
    async def change_batch_quantity(self, cmd: ChangeBatchQuantity):
        async with self.uow as uow:
            product = await uow.products.get_by_batches__reference(batches__reference=cmd.ref)
            assert product is not None
            for line in product.change_batch_quantity(**cmd.model_dump()):
                self.register(Deallocated(**line.to_dict()))
            await uow.commit()

    @event_handler
    async def reallocate(self, event: Deallocated):
        self.register(Allocate(**event.model_dump()))

    @event_handler
    async def save_allocation_view(self, event: Allocated):
        allocation = AllocationsViewModel(**event.model_dump(exclude={"qty"}))
        allocation = await self.allocations.create(entity=allocation)
        await self.sender.send("line_allocated", allocation.to_dict())
        self.logger.info("Synced Allocation View")

    @event_handler
    async def delete_allocation_view(self, event: Deallocated):
        await self.allocations.delete_by_orderid_and_sku(orderid=event.orderid, sku=event.sku)
        self.logger.info(f"Deallocated orders with: orderid={event.orderid}, sku={event.sku}")


# controllers


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


class AllocationReadModel(Model):
    sku: str
    batchref: str


@provider
class Views:
    allocations: AllocationViewModelRepository

    async def get_allocations_for(self, orderid: str) -> list[AllocationReadModel]:
        return [AllocationReadModel.build(view) for view in await self.allocations.find_by_orderid(orderid=orderid)]


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


# the application

settings = WinterSettings(
    backends=[
        BackendOptions(
            name="default",
            driver="wintry.drivers.pg",
            connection_options=ConnectionOptions(url="postgresql+asyncpg://postgres:secret@localhost/tests"),
        ),
        BackendOptions(
            name="mongo",
            driver="wintry.drivers.mongo",
            connection_options=ConnectionOptions(url="mongodb://localhost:27017/?replicaSet=dbrs"),
        ),
    ],
    transporters=[
        TransporterSettings(
            driver="wintry.transporters.redis",
            service="RedisMicroservice",
            transporter=TransporterType.redis,
            connection_options=ConnectionOptions(url="redis://localhost"),
        )
    ],
)

app = App(settings=settings)

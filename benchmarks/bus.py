"""The bus in memory against a mediator written by hand, which has none of its ids, retries, timeouts and lanes.

And the bus on SQLite, a command with one event and its handler, against the same two transactions by hand.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from benchmarks.harness import Case, Goal, Operation
from benchmarks.limits.bus import Mediator, Outbox
from wintry.bus import Command, Event, MessageQueue, command_handler, event_handler
from wintry.bus.durable import Durable
from wintry.bus.settings import BusSettings
from wintry.models import Model, RequiredId
from wintry.repository import Backends, Repository
from wintry.uow import UnitOfWork


class Look(Command):
    sku: str


class Allocate(Command):
    sku: str


class Allocated(Event):
    sku: str


class Bus(MessageQueue):
    def __init__(self) -> None:
        super().__init__()
        self.told = 0

    @command_handler
    async def look(self, command: Look) -> str:
        return command.sku

    @command_handler
    async def allocate(self, command: Allocate) -> str:
        self.register(Allocated(sku=command.sku))
        return command.sku

    @event_handler
    async def save(self, event: Allocated) -> None:
        self.told += 1

    @event_handler
    async def tell(self, event: Allocated) -> None:
        self.told += 1


class ByHand:
    def __init__(self) -> None:
        self.told = 0
        self.mediator = Mediator({Look: self.look, Allocate: self.allocate}, {Allocated: [self.save, self.tell]})

    async def look(self, command: Look) -> str:
        return command.sku

    async def allocate(self, command: Allocate) -> str:
        self.mediator.register(Allocated(sku=command.sku))
        return command.sku

    async def save(self, event: Allocated) -> None:
        self.told += 1

    async def tell(self, event: Allocated) -> None:
        self.told += 1


MEDIATOR = (
    "of the 1.1 µs of a command the timeout of each attempt takes 0.4 (the current task, two operations on a set), the "
    "call with its identity, the context variable and the coroutine of the route the rest. Measured: no timeout at all, "
    "0.75 µs (3.2 ×); route and handle fused into one coroutine, 1.04 (4.3 ×); neither reaches the goal."
)


def case(name: str, command: Command) -> Case:
    made = Case(name=name, goals=[Goal("limit", at_most=2.5)], note=MEDIATOR)

    @made.ours
    @contextmanager
    def ours() -> Iterator[Operation]:
        bus = Bus()

        async def operation() -> tuple[object, int]:
            bus.told = 0
            return await bus.handle(command), bus.told

        yield operation

    @made.limit
    @contextmanager
    def limit() -> Iterator[Operation]:
        by_hand = ByHand()

        async def operation() -> tuple[object, int]:
            by_hand.told = 0
            return await by_hand.mediator.handle(command), by_hand.told

        yield operation

    return made


handle = case("handle a command", Look(sku="LAMP"))
events = case("command, event, two handlers", Allocate(sku="LAMP"))


class Place(Command):
    orderid: str
    sku: str


class Placed(Event):
    orderid: str
    sku: str


class Order(Model):
    sku: str
    orderid: str = RequiredId()


class Note(Model):
    sku: str
    orderid: str = RequiredId()


class Orders(Repository[Order, str], entity=Order): ...


class Notes(Repository[Note, str], entity=Note): ...


class Sales(UnitOfWork):
    orders: Orders


class Shop(MessageQueue):
    def __init__(self, durable: Durable, backends: Backends) -> None:
        super().__init__(runtime=durable.runtime)
        self.notes = Notes(backends)
        self.uow = Sales(orders=Orders(backends))

    @command_handler
    async def place(self, command: Place) -> str:
        async with self.uow as uow:
            await uow.orders.create(entity=Order(orderid=command.orderid, sku=command.sku))
            self.register(Placed(orderid=command.orderid, sku=command.sku))
            await uow.commit()
        return command.sku

    @event_handler
    async def note(self, event: Placed) -> None:
        await self.notes.create(entity=Note(orderid=event.orderid, sku=event.sku))


durable = Case(
    name="durable command, event, handler",
    goals=[Goal("limit", at_most=1.25)],
    loops=100,
    note=(
        "each is two synced transactions. Closing the row is the record of the delivery on both sides, so neither has a "
        "row of an inbox. Not yet profiled; no second design was measured."
    ),
)


@durable.ours
@asynccontextmanager
async def _() -> AsyncIterator[Operation]:
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(prefix="bench-bus-") as folder:
        async with Backends(default=f"sqlite:///{folder}/shop.db") as backends:
            made = Durable(
                backends, BusSettings(), journal="default", queues={}, transports={}, default_transport="default"
            )
            shop = Shop(made, backends)
            made.runtime.attach(shop)
            await backends.create_schema()
            await made.prepare()
            await made.start()

            async def operation() -> str:
                result: str = await shop.handle(Place(orderid=f"o{next(numbers)}", sku="LAMP"))
                return result

            try:
                yield operation
            finally:
                await made.drain(5.0)
                await made.stop()


@durable.limit
@asynccontextmanager
async def _() -> AsyncIterator[Operation]:
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(prefix="bench-bus-") as folder:
        outbox = await Outbox.open(Path(folder, "shop.db"))

        async def operation() -> str:
            return await outbox.place(f"o{next(numbers)}", "LAMP")

        try:
            yield operation
        finally:
            await outbox.close()

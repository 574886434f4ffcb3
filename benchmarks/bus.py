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
    "a timeout is armed when a handler first waits, which took a command from 3.0 to 2.2 and the chain from 3.3 to "
    "2.5. Of the chain's 7 µs two deliveries take 2.5 (each 0.9, of which the handler's run is 0.3 and the context "
    "variable 0.2), making and accepting two calls 1.1, registering 0.4, the event itself 0.7, which the limit pays "
    "too. Measured: driving the coroutine with send() and StopIteration, 2.0 in a model where next() on a generator is "
    "1.7 and no timeout at all 1.5; calls whose fields are set when they are made, nothing; the clock read once less, "
    "0.05. More would take one coroutine for a whole chain."
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
        "each is two synced transactions. Closing the row is the record of the delivery on both sides, so neither has "
        "a row of an inbox. Ours makes six trips to SQLite's thread and the limit eight; without their commits the "
        "trips cost 200 µs here and 160 there. What is left is Python on the loop: 300 to 500 µs in about 1,300 calls "
        "(two units, their hooks, the row, the settling), where the limit has 60; the cheaper the disk's sync, the "
        "more it shows. Measured: the last statement and COMMIT in one trip, and no cyclic garbage collection; "
        "neither changes the ratio. It would take less than half of the calls."
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

"""The bus in memory against a mediator written by hand, which has none of its ids, retries, timeouts and lanes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import Case, Goal, Operation
from benchmarks.limits.bus import Mediator
from wintry.bus import Command, Event, MessageQueue, command_handler, event_handler


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


def case(name: str, command: Command) -> Case:
    made = Case(name=name, goals=[Goal("limit", at_most=2.5)])

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

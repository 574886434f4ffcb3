"""What checkers know of messages, queues and handlers.

The ignores are expected errors: a checker that stops reporting one reports the ignore instead.
"""

from collections.abc import Mapping
from logging import Logger
from typing import assert_type

from wintry.bus import Command, Event, Health, MessageQueue, Publisher, Retry, command_handler, event_handler
from wintry.ioc import provider


class Allocate(Command, key="sku"):
    orderid: str
    sku: str
    qty: int


class Allocated(Event):
    orderid: str


class Silent:
    async def send(self, channel: str, data: Mapping[str, object]) -> None: ...


@provider
class Bus(MessageQueue):
    logger: Logger
    sender: Publisher

    @command_handler
    async def allocate(self, command: Allocate) -> str:
        self.register(Allocated(orderid=command.orderid), delay=1.0)
        await self.sender.send("allocated", {"orderid": command.orderid})
        return command.sku

    @event_handler(background=True, retry=Retry(attempts=3))
    async def told(self, event: Allocated) -> None:
        self.logger.info(event.orderid)
        self.register("told")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def main(logger: Logger) -> None:
    bus = Bus(logger=logger, sender=Silent())
    assert_type(bus.sender, Publisher)
    await bus.handle(Allocate(orderid="o", sku="s", qty=1))
    assert_type(await bus.allocate(Allocate(orderid="o", sku="s", qty=1)), str)
    assert_type(await bus.health(), Health)
    await bus.handle(Allocated(orderid="o"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await bus.allocate(Allocated(orderid="o"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Bus(logger=logger)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Bus(logger=logger, sender=logger)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Allocate(orderid="o", sku="s")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

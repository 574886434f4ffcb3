"""What a channel is made of at the broker, declared by whoever uses it first on a connection.

    wintry:C ──┬── (a queue of each broadcast listener)
               └── wintry:C:groups ──┬── wintry:C:group:G     a quorum queue for each group
                                     └╌╌ wintry:C:waiting     where there is no group, for a day
    wintry:C:dead                                             dead letters

The dashed way is an alternate exchange: what no group's queue takes waits for the first group, whether or not a
broadcast listener heard it. Everything is durable. Declaring what is there changes nothing.
"""

from __future__ import annotations

from typing import Any, Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue
from aio_pika.exceptions import ChannelPreconditionFailed

from .rabbitmq_client import heeded
from .rabbitmq_wire import Names

RETENTION: Final = 86_400_000
"""How many milliseconds what is published waits for a first group."""
UNLIMITED: Final = 2**31 - 1
QUORUM: Final[dict[str, Any]] = {"x-queue-type": "quorum"}


async def declare(channel: AbstractChannel, names: Names) -> None:
    """Declare what publishers and listeners share; the way of messages is opened last."""
    kept = {**QUORUM, "x-delivery-limit": UNLIMITED}  # looking at a message counts, and too many drop it
    exchange = await channel.declare_exchange(names.exchange, ExchangeType.FANOUT, durable=True)
    aside = await channel.declare_exchange(names.waiting, ExchangeType.FANOUT, durable=True)
    alternate: dict[str, Any] = {"alternate-exchange": names.waiting}
    groups = await channel.declare_exchange(names.groups, ExchangeType.FANOUT, durable=True, arguments=alternate)
    await channel.declare_queue(names.dead, durable=True, arguments=kept)
    waiting = await channel.declare_queue(names.waiting, durable=True, arguments={**kept, "x-message-ttl": RETENTION})
    await waiting.bind(aside)
    await groups.bind(exchange)


async def join(channel: AbstractChannel, names: Names, group: str) -> AbstractQueue:
    """The queue of a group, which takes every message from now on."""
    arguments = {
        **QUORUM,
        # For what the broker gives up, which it does where it has a limit for deliveries: it is not to be lost.
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": names.dead,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    queue = await channel.declare_queue(names.queue(group), durable=True, arguments=arguments)
    await queue.bind(names.groups)
    return queue


async def listen(channel: AbstractChannel, names: Names) -> AbstractQueue:
    """A queue that takes every message as long as this connection lasts."""
    queue = await channel.declare_queue(exclusive=True, auto_delete=True)
    await queue.bind(names.exchange)
    return queue


async def is_first(connection: AbstractConnection, names: Names, group: str) -> bool:
    """Whether it is the first group that this channel ever had, and so is given what was waiting.

    The exchange `first` says so: whoever declares it first says which queue is its alternate, and the broker refuses
    all who say another.
    """
    arguments: dict[str, Any] = {"alternate-exchange": names.queue(group)}
    try:
        async with heeded(), connection.channel() as trying:
            await trying.declare_exchange(names.first, ExchangeType.FANOUT, durable=True, arguments=arguments)
    except ChannelPreconditionFailed:
        return False
    return True

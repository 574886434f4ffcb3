"""RabbitMQ as a durable transport: an exchange for each channel, a quorum queue for each group of it.

What is published to a channel goes to the exchange `wintry:C`, persistent and confirmed, and from there to the queue of
every group (`rabbitmq_topology` draws it). While a channel has never had a group its messages wait, for a day, and the
first group that comes is given them, before what is published from then on. Any other group is given what is published
from its coming on. A listener without a group has a queue that lasts as long as its connection.

Each listener has a channel with a prefetch of its own on the process's one connection for listening; publishers use
another one. What a process holds when it dies, or loses its connection, is given to another at once, and the broker
counts it: that count is the attempt (`rabbitmq_listening`). Nothing ends a listener: it connects again, and declares
again what is gone. Messages come in the order of publishing until one is given back, or its process dies.

The queue of a group stays, and fills, when its application has gone for good: an operator deletes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from wintry.bus.transports import Caps, Parked, TransportMessage

from .rabbitmq_client import CONFIRM, LOST, Link, reached
from .rabbitmq_listening import Listening, RabbitDelivery
from .rabbitmq_sending import Sending
from .rabbitmq_topology import declare
from .rabbitmq_wire import Names, decoded, encoded, reason_of
from .waiting import wait_before

logger = logging.getLogger("wintry.web")


class RabbitMQ:
    """A transport on RabbitMQ 3.10 or later; `owner` names this process to the broker."""

    # `ordered` it is not: what is given back, or was held by who died, comes after what is behind it.
    caps = Caps(durable=True, groups=True, broadcast=True, attempts=True, dead_letters=True, envelope=True)

    def __init__(self, url: str, *, owner: str) -> None:
        self._listening = Link(url, f"wintry {owner} listens")
        self._sender = Link(url, f"wintry {owner} sends")
        self._sending = Sending(self._sender)
        self._tasks: set[asyncio.Task[None]] = set()

    # sending

    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        """Publish messages; returns when the broker has confirmed them all.

        Raises:
            ConnectionError: it cannot be reached, or has no space left; the messages may be there all the same.
            ValueError: a message has more headers than AMQP can carry.
        """
        if messages:
            await self._sending.publish(Names(channel), [encoded(message) for message in messages])

    # receiving

    async def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncGenerator[RabbitDelivery]:
        """Messages of a channel; see `Transport.receive`. A broker that is away is waited for."""
        room, failures, ends = asyncio.Semaphore(prefetch), 0, self._listening.ends
        while True:
            listening = Listening(self._listening, self._sending, Names(channel), group, prefetch, room)
            try:
                await listening.begin()
                while True:
                    delivery = await listening.next()
                    failures = 0
                    yield delivery
            except LOST as error:
                if ends != self._listening.ends:
                    await asyncio.Event().wait()  # the transport has stopped: until the listener ends too
                failures += 1
                await wait_before("rabbitmq", failures, f"listening to {channel!r}", error)
            finally:
                self._spawn(listening.end())

    async def parked(self, channel: str, *, limit: int = 100) -> list[Parked]:
        """The dead letters of a channel, oldest first; they stay where they are."""
        found: list[AbstractIncomingMessage] = []
        async with reached(CONFIRM):
            names, connection = Names(channel), await self._sender.connection()
            async with connection.channel() as looking:
                await declare(looking, names)
                queue = await looking.get_queue(names.dead, ensure=False)
                while len(found) < limit and (letter := await queue.get(fail=False)) is not None:
                    found.append(letter)
        return [
            Parked(channel, group, decoded(channel, letter), why)
            for letter in found
            for group, why in [reason_of(letter)]
        ]

    # life

    async def start(self) -> None:
        """It connects when it is used, and again when that was lost."""

    async def check(self) -> None:
        """Raises ConnectionError if the broker does not answer."""
        await self._sending.check()

    async def stop(self) -> None:
        """Disconnect; what is held is given to others at once."""
        await asyncio.gather(self._listening.close(), self._sender.close())
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something to its end that nobody waits for; `stop` does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

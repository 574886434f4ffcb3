"""Publishing: all messages of a call at once, each confirmed by the broker, on one channel of one connection.

Each is `mandatory`: one that no queue takes comes back, which says that somebody removed what the channel is made of.
Then, and when the connection is lost, everything is declared again and what was not confirmed is sent once more, so
that it may be there twice, under one id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import AMQPError

from wintry.bus.cancellation import is_cancelled

from .rabbitmq_client import CONFIRM, Link, closed, reached
from .rabbitmq_topology import declare
from .rabbitmq_wire import Names

logger = logging.getLogger("wintry.web")

TRANSIENT = (AMQPError, OSError, RuntimeError, asyncio.CancelledError)
"""What the client raises for a message that was not confirmed; the last one when its connection is lost."""


class Sending:
    """What one process publishes."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = asyncio.Lock()
        self._channel: AbstractChannel | None = None

    async def publish(self, names: Names, messages: Sequence[Message]) -> None:
        """To all who listen to a channel. Raises ConnectionError: some are not confirmed, and may be there all the same."""
        await self._send(names, names.exchange, "", messages)

    async def put(self, names: Names, queue: str, message: Message) -> None:
        """Into one queue of a channel. Raises ConnectionError."""
        await self._send(names, "", queue, [message])

    async def check(self) -> None:
        """Raises ConnectionError if the broker does not answer."""
        async with reached():
            connection = await self._link.connection()
            async with connection.channel() as asking:
                await asking.declare_exchange("amq.fanout", "fanout", durable=True, passive=True)

    async def _send(self, names: Names, exchange: str, key: str, messages: Sequence[Message]) -> None:
        async with reached(CONFIRM):
            left: Sequence[Message] = messages
            try:
                left = [message for message, _ in await self._confirmed(names, exchange, key, messages)]
            except TRANSIENT as error:
                if is_cancelled():
                    raise
                logger.info("rabbitmq: publishing to %r failed with %r; once more", names.channel, error)
            if left:
                await self._forget(names)
                if failed := await self._confirmed(names, exchange, key, left):
                    reason = failed[0][1]
                    raise ConnectionError(
                        f"{len(failed)} messages for {names.channel!r} were not confirmed: {reason!r}"
                    )

    async def _confirmed(
        self, names: Names, exchange: str, key: str, messages: Sequence[Message]
    ) -> list[tuple[Message, BaseException]]:
        """Publish messages; those that the broker has not taken, and why."""
        to = await self._exchange(names, exchange)
        sent = (to.publish(message, key, mandatory=True) for message in messages)
        results = await asyncio.gather(*sent, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, TRANSIENT):
                raise result
        pairs = zip(messages, results, strict=True)
        return [(message, result) for message, result in pairs if isinstance(result, BaseException)]

    async def _exchange(self, names: Names, exchange: str) -> AbstractExchange:
        async with self._lock:
            connection = await self._link.connection()
            if self._channel is None or self._channel.is_closed:
                self._channel = await connection.channel(on_return_raises=True)
            if names.channel not in self._link.declared:
                await declare(self._channel, names)
                self._link.declared.add(names.channel)
            if exchange:
                return await self._channel.get_exchange(exchange, ensure=False)
            return self._channel.default_exchange

    async def _forget(self, names: Names) -> None:
        """What a channel is made of may be gone, and the connection with it."""
        self._link.declared.discard(names.channel)
        if self._channel is not None and self._channel.is_closed:
            channel, self._channel = self._channel, None
            await closed(channel)

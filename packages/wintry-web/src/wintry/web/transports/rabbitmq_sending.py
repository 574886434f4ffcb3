"""Publishing: all messages of a call at once, each confirmed by the broker, on one channel of one connection.

Each is `mandatory`: one that no queue takes comes back, which says that somebody removed what the channel is made of.
Then, and when the connection is lost, everything is declared again and what was not confirmed is sent once more, so
that it may be there twice, under one id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import AMQPError

from .rabbitmq_client import CONFIRM, Link, closed, reached
from .rabbitmq_topology import declare
from .rabbitmq_wire import Names


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
            try:
                left = await self._confirmed(names, exchange, key, messages)
            except (AMQPError, OSError, RuntimeError):
                left = messages
            if left:
                await self._forget(names)
                if await self._confirmed(names, exchange, key, left):
                    raise ConnectionError(f"{len(left)} messages for {names.channel!r} were not confirmed")

    async def _confirmed(self, names: Names, exchange: str, key: str, messages: Sequence[Message]) -> list[Message]:
        """Publish messages; those that the broker has not taken."""
        to = await self._exchange(names, exchange)
        sent = [to.publish(message, key, mandatory=True) for message in messages]
        results = await _all(sent)
        return [message for message, result in zip(messages, results, strict=True) if result is not None]

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


async def _all(sent: list[Coroutine[Any, Any, Any]]) -> list[BaseException | None]:
    """Wait for every confirmation; what went wrong, in the same order."""
    results = await asyncio.gather(*sent, return_exceptions=True)
    return [result if isinstance(result, BaseException) else None for result in results]

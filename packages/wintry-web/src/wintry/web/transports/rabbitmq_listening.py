"""One listener: its consumers on one channel, what they bring, and how it is settled.

A delivery can be settled only on the channel that brought it. When that is lost the broker gives the message to
somebody else, so that settling it does nothing any more: not an error, since the work may be done, and the inbox is
there for such. A dead letter is confirmed before the message is acknowledged, and so is the copy by which a message is
given back: a negative acknowledgement would give it back too, but count an attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from .rabbitmq_client import CONFIRM, LOST, Link, closed, reached
from .rabbitmq_sending import Sending
from .rabbitmq_topology import declare, is_first, join, listen
from .rabbitmq_wire import GIVEN, Names, attempt_of, copied, dead, decoded
from .waiting import wait_before

logger = logging.getLogger("wintry.web")

PULSE: Final = 1.0
"""How many seconds of silence until a listener looks whether the broker still has it: it says so, and may be misheard."""
CATCH_UP: Final = 0.02


class Listening:
    """A listener from its connecting until that is lost; `room` outlives it."""

    def __init__(
        self, link: Link, sending: Sending, names: Names, group: str | None, prefetch: int, room: asyncio.Semaphore
    ) -> None:
        self.names = names
        self.group = group
        self.sending = sending
        self.room = room
        self.lost = False
        self._link = link
        self._prefetch = prefetch
        self._inbox: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        self._channel: AbstractChannel | None = None
        self._tags: list[str] = []
        self._own: AbstractQueue | None = None  # the group's queue, as long as what was waiting comes first

    async def begin(self) -> None:
        """Connect and consume. Raises ConnectionError."""
        async with reached(CONFIRM):
            connection = await self._link.connection()
            self._channel = channel = await connection.channel(publisher_confirms=False)
            channel.close_callbacks.add(self.lose)
            await channel.set_qos(prefetch_count=self._prefetch)
            if self.names.channel not in self._link.declared:
                await declare(channel, self.names)
                self._link.declared.add(self.names.channel)
            if self.group is None:
                await self._consume(await listen(channel, self.names))
                return
            queue = await join(channel, self.names, self.group)
            if await is_first(connection, self.names, self.group):
                self._own = queue
                await self._consume(await channel.get_queue(self.names.waiting, ensure=False))
            else:
                await self._consume(queue)

    async def next(self) -> RabbitDelivery:
        """The next delivery, as soon as there is room. Raises ConnectionError."""
        await self.room.acquire()
        try:
            return RabbitDelivery(self, await self._take())
        except BaseException:
            self.room.release()
            raise

    def lose(self, *_: Any) -> None:
        """The channel is over, or not to be trusted any more."""
        self.lost = True
        self._inbox.put_nowait(None)

    async def end(self) -> None:
        """Give back everything that is not settled."""
        self.lost = True
        if self._channel is not None:
            await closed(self._channel)

    async def _take(self) -> AbstractIncomingMessage:
        while True:
            if self._own is not None and self._inbox.empty():
                await self._catch_up(self._own)
            try:
                async with asyncio.timeout(PULSE if self._own is None else CATCH_UP):
                    incoming = await self._inbox.get()
            except TimeoutError:
                await self._look()
                continue
            if incoming is None or self.lost:
                raise ConnectionError("rabbitmq: the connection was lost")
            return incoming

    async def _catch_up(self, own: AbstractQueue) -> None:
        """Begin with the group's queue when nothing waits any more that was published before there was one."""
        assert self._channel is not None
        async with reached():
            waiting = await self._channel.declare_queue(self.names.waiting, passive=True)
            if not waiting.declaration_result.message_count:
                self._own = None
                await self._consume(own)

    async def _consume(self, queue: AbstractQueue) -> None:
        self._tags.append(await queue.consume(self._inbox.put))

    async def _look(self) -> None:
        """Raises ConnectionError if the broker has cancelled a consumer, say because its queue was deleted."""
        assert self._channel is not None
        async with reached():
            underlay: Any = await self._channel.get_underlay_channel()
        if self._channel.is_closed or not set(self._tags) <= underlay.consumers.keys():
            raise ConnectionError(f"rabbitmq: the queue of {self.names.channel!r} is gone, and is made again")


class RabbitDelivery:
    """One message in the hands of one listener."""

    def __init__(self, listening: Listening, incoming: AbstractIncomingMessage) -> None:
        self.message = decoded(listening.names.channel, incoming)
        self.attempt = attempt_of(incoming)
        self._listening = listening
        self._incoming = incoming
        self._settling = False

    async def ack(self) -> None:
        """It is dealt with; if the connection that brought it is lost, it is given out again."""
        await self._settle(self._ack)

    async def park(self, reason: str) -> None:
        """It goes to the dead letters; if the connection that brought it is lost, it is given out again."""
        if self._listening.group is None:
            logger.error("%r: message %s is dropped: %s", self._listening.names.channel, self.message.id, reason)
        await self._settle(partial(self._park, reason))

    async def release(self) -> None:
        """It is given back, behind all others; if that cannot be said, when the connection is closed."""
        await self._settle(self._release)

    async def _settle(self, work: Callable[[], Awaitable[None]]) -> None:
        """Settle once; a message that everybody hears belongs to nobody, and is just acknowledged."""
        listening = self._listening
        if self._settling:
            return
        self._settling = True
        try:
            if listening.lost:
                logger.info("rabbitmq: message %s is given out again: its connection was lost", self.message.id)
            else:
                await (work() if listening.group is not None else self._ack())
        except LOST as error:
            logger.warning(
                "rabbitmq: message %s could not be settled, and is given out again: %s", self.message.id, error
            )
            listening.lose()
        except BaseException:
            self._settling = False  # it was interrupted, and can be settled in another way
            raise
        listening.room.release()

    async def _ack(self) -> None:
        async with reached():
            if not self._incoming.processed:
                await self._incoming.ack()

    async def _park(self, reason: str) -> None:
        listening, failures = self._listening, 0
        assert listening.group is not None
        letter = dead(self._incoming, self.message, listening.group, reason)
        while not listening.lost:
            try:
                await listening.sending.put(listening.names, listening.names.dead, letter)
                await self._ack()
                return
            except LOST as error:
                failures += 1
                await wait_before("rabbitmq", failures, f"burying in {listening.names.channel!r}", error)

    async def _release(self) -> None:
        listening = self._listening
        assert listening.group is not None
        copy = copied(self._incoming, self.message, {GIVEN: self.attempt - 1})
        try:
            async with reached():
                await listening.sending.put(listening.names, listening.names.queue(listening.group), copy)
        except LOST:
            async with reached():
                await self._incoming.nack(requeue=True)  # which counts
        else:
            await self._ack()

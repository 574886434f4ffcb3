"""PUBLISH and SUBSCRIBE of Redis: fire and forget, for what may be lost.

A message is a bare body, as other programs send and expect it, so everyone who listens is given an id of his own. Who
is not listening misses it; nothing is kept, nothing is repeated, and every process hears every message, therefore a
listener has to say `broadcast=True`. What a listener cannot deal with is logged and gone. When handlers are behind, the
broker keeps what is not read yet and disconnects in the end, which is a loss that is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from os import urandom

from wintry.bus.errors import CapabilityError
from wintry.bus.transports import Caps, TransportMessage

from .redis_client import LOST, Client, connect, published, reached
from .waiting import wait_before

logger = logging.getLogger("wintry.web")


class RedisPubSub:
    """A transport on PUBLISH and SUBSCRIBE."""

    caps = Caps(broadcast=True)

    def __init__(self, url: str) -> None:
        self.url = url
        self.client: Client = connect(url)

    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        """Send the bodies to whoever listens now.

        Raises:
            ConnectionError: the broker cannot be reached.
        """
        async with reached():
            for message in messages:
                await self.client.execute_command("PUBLISH", channel, message.body)

    async def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncGenerator[PubSubDelivery]:
        """Messages of a channel; see `Transport.receive`. A broker that is away is waited for.

        Raises:
            CapabilityError: a group is asked for.
        """
        if group is not None:
            raise CapabilityError(
                f"{channel!r}: redis_pubsub cannot share messages among processes; use redis, or broadcast=True"
            )
        room, failures = asyncio.Semaphore(prefetch), 0
        while True:
            try:
                async with aclosing(self._bodies(channel)) as bodies:
                    async for body in bodies:
                        failures = 0
                        await room.acquire()
                        yield PubSubDelivery(channel, body, room)
            except LOST as error:
                failures += 1
                await wait_before("redis", failures, f"listening to {channel!r}", error)

    async def _bodies(self, channel: str) -> AsyncGenerator[bytes]:
        """What is heard until the connection is lost."""
        reader = connect(self.url, again=False)
        try:
            async with reader.pubsub(ignore_subscribe_messages=True) as heard:
                await heard.subscribe(channel)
                async for _, body in published(heard):
                    yield body
        finally:
            await reader.aclose()

    async def check(self) -> None:
        """Raises ConnectionError if the broker does not answer."""
        async with reached():
            await self.client.execute_command("PING")

    async def start(self) -> None:
        """It connects when it is used."""

    async def stop(self) -> None:
        """Disconnect."""
        await self.client.aclose()


class PubSubDelivery:
    """One message in the hands of one listener; however it is settled, it is gone."""

    attempt = 0

    def __init__(self, channel: str, body: bytes, room: asyncio.Semaphore) -> None:
        self.message = TransportMessage(urandom(16).hex(), channel, body)
        self._room: asyncio.Semaphore | None = room

    async def ack(self) -> None:
        if self._room is not None:
            self._room.release()
            self._room = None

    async def park(self, reason: str) -> None:
        if self._room is not None:
            logger.error("%r: message %s is dropped: %s", self.message.type, self.message.id, reason)
        await self.ack()

    async def release(self) -> None:
        await self.ack()

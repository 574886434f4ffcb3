"""Connections to RabbitMQ: made when they are needed, made again when they were lost, and never waited for without end.

aio-pika's own `connect_robust` is not used. It holds a publisher until the broker is back, while a publisher here is to
be told; it brings back the consumers of a lost connection, but not those that the broker itself cancels (aio-pika#334);
and a delivery of the connection before can then be acknowledged on the one after. Here a connection that is lost is
over with all that was on it, and whoever used it begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError

from wintry.bus.cancellation import is_cancelled

REPLY: Final = 5.0
CONFIRM: Final = 15.0
"""How many seconds what is published may take, from connecting to the last confirmation."""
END: Final = 2.0
HEARTBEAT: Final = 10
"""Seconds; after three times as long without a sign a connection is lost. A URL can say another: `?heartbeat=30`."""
LOST: Final = (ConnectionError, TimeoutError)


@asynccontextmanager
async def reached(seconds: float = REPLY) -> AsyncGenerator[None]:
    """A broker that is away, hangs or refuses is a ConnectionError here, which may be tried again."""
    try:
        async with asyncio.timeout(seconds), heeded():
            yield
    except TimeoutError as error:
        raise ConnectionError(f"rabbitmq: no answer within {seconds:g} s") from error
    except (AMQPError, OSError, RuntimeError) as error:
        raise ConnectionError(f"rabbitmq: {error!r}") from error
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        raise ConnectionError("rabbitmq: the connection was lost") from error  # as the client tells some who wait


@asynccontextmanager
async def heeded() -> AsyncGenerator[None]:
    """Who is cancelled within this block ends with it, whatever the client makes of that.

    It closes the channel of who is cancelled, and tells him of that instead; and closing a channel, as leaving
    `async with connection.channel()` does, it says nothing at all.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()

    def is_cancelled_here() -> bool:
        return task is not None and task.cancelling() > before

    try:
        yield
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if is_cancelled_here():
            raise asyncio.CancelledError from error
        raise
    if is_cancelled_here():
        raise asyncio.CancelledError


class Link:
    """One connection, to send or to listen: where a broker is short of space it stops reading from who sends."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self.ends = 0  # how often it was ended here
        self.declared: set[str] = set()  # the channels whose exchanges are known to be there

    async def connection(self) -> AbstractConnection:
        """The connection; call it within `reached`."""
        async with self._lock:
            if self._connection is None or not self._connection.connected.is_set():
                properties: Any = {"connection_name": self._name}
                ends = self.ends
                made = await aio_pika.connect(with_heartbeat(self._url), client_properties=properties)
                if ends != self.ends:
                    await closed(made)
                    raise ConnectionError("rabbitmq: it was disconnected while it connected")
                made.close_callbacks.add(self._lost)
                self._connection = made
                self.declared.clear()
                return made
            return self._connection

    async def close(self) -> None:
        """End it; a broker that does not answer is not waited for."""
        self.ends += 1
        connection, self._connection = self._connection, None
        if connection is not None:
            await closed(connection)

    def _lost(self, connection: Any, _: object = None) -> None:
        if connection is self._connection:
            self._connection = None
        self.declared.clear()


def with_heartbeat(url: str) -> str:
    """The URL with our heartbeat, unless it has one of its own."""
    parts = urlsplit(url)
    if "heartbeat" in parse_qs(parts.query):
        return url
    return parts._replace(query=f"{parts.query}&heartbeat={HEARTBEAT}".lstrip("&")).geturl()


async def closed(opened: Any) -> None:
    """Close a connection or a channel, whatever its state."""
    try:
        async with reached(END):
            await opened.close()
    except LOST:
        return  # it is gone, or will be when the broker notices

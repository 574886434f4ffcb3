"""Server-sent events: an answer that goes on.

An `EventStream` runs two tasks. One reads the source into a queue of bounded length, the other sends what is in it, or
a comment when nothing came for a while, so that proxies keep the connection. A client that reads slower than events
come fills the queue and is dropped: it may come back and ask anew, while nothing piles up here. `Streams` holds those
that run in one application; `close()` ends all of them, which a server does before it waits for open connections.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from pydantic_core import to_json
from starlette.types import Receive, Send

logger = logging.getLogger("wintry.web")

PING: Final = b": ping\r\n\r\n"
_farewell: Final = 1.0  # seconds that the end of a stream may take to be sent


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """One event. `data` is sent as it is if it is a string, else as JSON; `retry` is milliseconds.

    `event` names it for `addEventListener`, `id` comes back in `Last-Event-ID`, `comment` is seen by nobody.
    """

    data: Any = None
    event: str | None = None
    id: str | None = None
    retry: int | None = None
    comment: str | None = None

    def encode(self) -> bytes:
        """The event as it goes over the wire."""
        lines = [f": {line}" for line in _lines(self.comment)] if self.comment is not None else []
        lines += [f"event: {_one_line(self.event)}"] if self.event is not None else []
        lines += [f"id: {_one_line(self.id)}"] if self.id is not None else []
        lines += [f"retry: {self.retry}"] if self.retry is not None else []
        if self.data is not None:
            text = self.data if isinstance(self.data, str) else to_json(self.data).decode()
            lines += [f"data: {line}" for line in _lines(text)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace")


class EventStream:
    """The answer of a method that streams events. A method that is an async generator need not make it by itself.

    `source` gives the events and is closed with the stream. After `ping` seconds of silence a comment is sent. A client
    that is `buffer` events behind is dropped. `headers` are added to the answer.
    """

    def __init__(
        self,
        source: AsyncIterable[ServerSentEvent],
        *,
        ping: float = 15.0,
        buffer: int = 256,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self.ping = ping
        self.buffer = buffer
        self.headers = dict(headers or {})

    async def run(self, receive: Receive, send: Send, streams: Streams) -> None:
        """Send events until the source ends, the client leaves or falls behind, or `streams` are closed."""
        async with anyio.create_task_group() as tasks:
            streams.add(tasks.cancel_scope)
            try:
                writer, reader = anyio.create_memory_object_stream[bytes](self.buffer)
                tasks.start_soon(self._watch, receive, tasks.cancel_scope)
                tasks.start_soon(self._read, writer, tasks.cancel_scope)
                with reader:
                    await self._write(reader, send)
                tasks.cancel_scope.cancel()
            finally:
                streams.remove(tasks.cancel_scope)
        with anyio.move_on_after(_farewell):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        """End everything when the client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _read(self, writer: MemoryObjectSendStream[bytes], scope: anyio.CancelScope) -> None:
        """Put the events into the queue, never waiting for the client."""
        try:
            async with writer:
                async for event in self.source:
                    writer.send_nowait(event.encode())
                    await anyio.lowlevel.checkpoint()  # a burst must not fill the queue of a client that keeps up
        except anyio.WouldBlock:
            logger.info("a client that is %d events behind is dropped", self.buffer)
            scope.cancel()
        except Exception:
            logger.exception("a stream of events failed")
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the source."""
        if isinstance(self.source, AsyncGenerator):
            with anyio.CancelScope(shield=True):
                await self.source.aclose()

    async def _write(self, reader: MemoryObjectReceiveStream[bytes], send: Send) -> None:
        """Send what is in the queue, and pings in between."""
        while True:
            chunk = PING
            with anyio.move_on_after(self.ping if self.ping > 0 else math.inf):
                try:
                    chunk = await reader.receive()
                except anyio.EndOfStream:
                    return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


class Streams:
    """The streams that run in one application."""

    def __init__(self) -> None:
        self._running: set[anyio.CancelScope] = set()
        self._closed = False

    def add(self, scope: anyio.CancelScope) -> None:
        """A stream began; after `close` it ends at once."""
        self._running.add(scope)
        if self._closed:
            scope.cancel()

    def remove(self, scope: anyio.CancelScope) -> None:
        """A stream ended."""
        self._running.discard(scope)

    def close(self) -> None:
        """End all of them, and those that begin later. Their sources are closed, their answers completed."""
        self._closed = True
        for scope in tuple(self._running):
            scope.cancel()

    def __len__(self) -> int:
        return len(self._running)


def _one_line(text: str) -> str:
    """A field that ends at a line break has none; NUL is not allowed in ids."""
    return " ".join(_lines(text)).replace("\0", "")


def _lines(text: str) -> list[str]:
    """The lines of a text by what the event stream format calls a line break, which is less than Python does."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

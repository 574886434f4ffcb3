"""Load over HTTP: so many clients, each with one connection, who send their next request when they have the answer.

It shares its processor with what it measures, so it does as little as can be: requests are bytes that were made before
the clock runs, and of an answer it reads the status, the length and the body. What it takes itself is told (`Burst.share`).
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"


def request(method: str, path: str, body: object = None) -> bytes:
    """The bytes of a request; a body is sent as JSON."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\naccept: */*\r\n"
    if body is not None:
        head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


@dataclass
class Burst:
    """What came of some requests: the answers in the order of the requests, and how long each took, in seconds."""

    answers: list[tuple[int, bytes]]
    latencies: list[float]
    seconds: float = 0.0
    share: float = 0.0  # of one processor, by the clients
    memory: float = 0.0  # MiB, the largest process of the service
    read: list[object] = field(default_factory=list)  # what was found afterwards

    def percentile(self, percent: float) -> float:
        """The latency in seconds that so many percent of the requests do not exceed."""
        return sorted(self.latencies)[max(0, math.ceil(len(self.latencies) * percent / 100) - 1)]

    def told(self) -> list[tuple[int, Any]]:
        """The answers with their bodies read as JSON, whatever its spacing."""
        return [(status, json.loads(body)) for status, body in self.answers]


class Client(asyncio.Protocol):
    """One connection, kept alive, with one request at a time."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.buffer = b""
        self.whole = 0  # bytes of the answer with its head, 0 as long as the head is not whole

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("the service closed the connection"))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.whole:
            end = self.buffer.find(END)
            if end < 0:
                return
            head = self.buffer[:end].lower() + b"\r\n"
            _, found, rest = head.partition(LENGTH)
            if not found:
                self._fail(ValueError(f"an answer without content-length: {head!r}"))
                return
            self.whole = end + len(END) + int(rest[: rest.index(b"\r\n")])
        if len(self.buffer) >= self.whole:
            buffer, whole, self.buffer, self.whole = self.buffer, self.whole, b"", 0
            if self.answer is not None:
                self.answer.set_result((int(buffer[9:12]), buffer[buffer.index(END) + len(END) : whole]))

    def _fail(self, error: Exception) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)

    async def ask(self, content: bytes) -> tuple[int, bytes]:
        """Send a request, and give the status and the body of its answer."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the service closed the connection")
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(content)
        return await self.answer


class Clients:
    """Some clients of one service, who take turns among its addresses.

    A service may close a connection that was idle for a while; so each burst has connections of its own, which are open
    before its clock runs. One that is not over in `patience` seconds is a TimeoutError.
    """

    def __init__(self, urls: Sequence[str], count: int, patience: float = 120.0) -> None:
        self.urls = urls
        self.count = count
        self.patience = patience

    async def connect(self) -> list[Client]:
        loop = asyncio.get_running_loop()
        addresses = [urlsplit(self.urls[number % len(self.urls)]) for number in range(self.count)]
        opened = [await loop.create_connection(Client, each.hostname or "", each.port or 80) for each in addresses]
        return [client for _, client in opened]

    async def send(self, requests: Iterable[bytes]) -> Burst:
        """Send the requests, each by the first client that is free."""
        asked = list(requests)
        burst = Burst([(0, b"")] * len(asked), [0.0] * len(asked))
        clients = await self.connect()
        waiting = iter(enumerate(asked))

        async def work(client: Client) -> None:
            for number, content in waiting:
                began = time.perf_counter()
                burst.answers[number] = await client.ask(content)
                burst.latencies[number] = time.perf_counter() - began

        try:
            start, used = time.perf_counter(), time.process_time()
            async with asyncio.timeout(self.patience), asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(work(client))
            burst.seconds = time.perf_counter() - start
            burst.share = (time.process_time() - used) / burst.seconds
        finally:
            for client in clients:
                client.transport.close()
        return burst

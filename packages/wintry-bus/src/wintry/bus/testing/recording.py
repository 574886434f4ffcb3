"""Watching a bus in a test.

A `Recording` is an observer of a runtime: it is told what left with a commit, what was handled and what was parked.
`settled` waits until nothing of the runtime runs, waits for a worker or stands open in its store.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import BusError
from ..messages import Message
from ..queue import MessageQueue
from ..runtime import Runtime

M = TypeVar("M", bound=Message)


class NotSettled(BusError, AssertionError):
    """Deliveries were still open when the time for `settled` was over."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Data that was sent to a channel."""

    channel: str
    data: dict[str, Any]


class Recording:
    """What happened on a bus, in order.

    `messages` are those registered and committed, `handled` those whose handler succeeded, once for each handler,
    `sent` the data sent to channels and `failed` what was parked, with its error.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.messages: list[Message] = []
        self.handled: list[tuple[Message, str]] = []
        self.sent: list[Sent] = []
        self.failed: list[tuple[object, str, BaseException]] = []

    def of(self, message: type[M]) -> Sequence[M]:
        """The registered messages of a type."""
        return [each for each in self.messages if isinstance(each, message)]

    def published(self, channel: str) -> Sequence[dict[str, Any]]:
        """The data sent to a channel."""
        return [each.data for each in self.sent if each.channel == channel]

    def handled_by(self, handler: str) -> Sequence[Message]:
        """The messages that a handler dealt with, by its id: "MessageBus.allocate"."""
        return [message for message, by in self.handled if by == handler]

    async def settled(self, *, within: float = 5.0) -> None:
        """Wait until nothing is left to deliver; a delayed message is, until its time has come.

        Raises:
            NotSettled: that took longer than `within` seconds.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while True:
            stats = await self._runtime.store.stats()
            busy = self._runtime.dispatcher.busy
            if not busy and not stats.pending:
                return
            if loop.time() > end:
                raise NotSettled(f"after {within:g} s {busy} deliveries are under way and {stats.pending} rows wait")
            await asyncio.sleep(0.002)

    # what the runtime tells

    def on_registered(self, message: Message) -> None:
        self.messages.append(message)

    def on_published(self, channel: str, body: bytes) -> None:
        self.sent.append(Sent(channel, json.loads(body)))

    def on_handled(self, message: Message, handler: str) -> None:
        self.handled.append((message, handler))

    def on_parked(self, message: object, handler: str, error: BaseException) -> None:
        self.failed.append((message, handler, error))


@asynccontextmanager
async def recording(bus: MessageQueue | Runtime) -> AsyncGenerator[Recording]:
    """Record what happens on a bus, or on every bus of a runtime, while the block runs."""
    runtime = bus if isinstance(bus, Runtime) else bus.runtime
    record = Recording(runtime)
    runtime.observers.append(record)
    try:
        yield record
    finally:
        runtime.observers.remove(record)

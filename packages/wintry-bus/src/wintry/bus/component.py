"""The part of an application that runs its bus.

An application finds `BusComponent` under the entry-point group `wintry.components`, and knows it by shape alone; it
knows the application's settings by shape too: `settings.transporters` is a list of entries with `name` and `kind`.
The component provides the `Runtime` that every queue is given, and the `Publisher` on the default transport.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from wintry.bus import MessageQueue, Publisher, Runtime, TransportPublisher, collecting
from wintry.bus.transports import Memory


class BusComponent:
    """The bus of one application."""

    name = "bus"
    after: tuple[str, ...] = ("repository",)
    settings = None
    intake = False
    errors: Mapping[type[Exception], int] = {}

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    def providers(self, settings: Any) -> Mapping[Any, Callable[..., Any]]:
        runtime = self.runtime = Runtime(transports={"default": Memory()})
        return {
            Runtime: lambda: runtime,
            Publisher: lambda: TransportPublisher(runtime, transport="default"),
        }

    def collecting(self) -> AbstractContextManager[list[Any]]:
        return collecting()

    async def start(self, container: Any) -> None:
        assert self.runtime is not None
        self.runtime.open_scope = container.scope
        self.runtime.default_transport = "default"
        for queue in container.subclasses(MessageQueue):
            self.runtime.add(queue)
        await self.runtime.start()

    async def check(self) -> Mapping[str, Mapping[str, str]]:
        assert self.runtime is not None
        health = await self.runtime.health()
        return {"bus": {"status": "ok" if health.ok else "degraded", "detail": ""}}

    async def drain(self, deadline: float) -> None:
        assert self.runtime is not None
        await self.runtime.drain(deadline)

    async def stop(self) -> None: ...


component = BusComponent

"""The component that runs the listeners of an application on the bus's transports.

For each transporter that some listener hears it starts one runner of wintry-bus, which settles the deliveries. A
delivery gets a scope of the container and a fresh instance of its microservice class. The component brings work in,
so it is drained before HTTP is. Without wintry-bus the component does nothing, unless there are listeners or transporters:
then it says what they need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from wintry.ioc import Container, Plan

from ..errors import SettingsError, StartError
from ..listeners import Listeners, ListenerSpec
from ..settings import WinterSettings

if TYPE_CHECKING:
    from wintry.bus.transports import Listener, Runner


class TransportsComponent:
    """The listeners of one application."""

    name = "web"
    after: tuple[str, ...] = ("bus",)
    settings: type[BaseModel] | None = None
    intake = True
    errors: Mapping[type[Exception], int] = {}

    def __init__(self) -> None:
        self.runners: dict[str, Runner] = {}

    def providers(self, settings: Any) -> Mapping[Any, Callable[..., Any]]:
        """Nothing. Raises SettingsError: there are transporters, and nothing that runs them."""
        if settings.transporters and find_spec("wintry.bus") is None:
            named = ", ".join(entry.name for entry in settings.transporters)
            raise SettingsError([f"transporters ({named}) need wintry-bus: install wintry-web[messaging]"])
        return {}

    def collecting(self) -> AbstractContextManager[list[Any]]:
        return nullcontext([])  # App has this library's own list open

    async def start(self, container: Container) -> None:
        specs = container.get(Listeners).specs
        if specs:
            self.runners = make_runners(container, specs)
            for runner in self.runners.values():
                await runner.start()

    async def check(self) -> Mapping[str, Mapping[str, str]]:
        return {
            f"listeners:{name}": {"status": "ok", "detail": ""}
            if runner.ticking
            else {"status": "down", "detail": "a listener has ended"}
            for name, runner in self.runners.items()
        }

    async def drain(self, deadline: float) -> None:
        await asyncio.gather(*(runner.drain(deadline) for runner in self.runners.values()))
        self.runners = {}

    async def stop(self) -> None:
        await self.drain(0)


component = TransportsComponent


def make_runners(container: Container, specs: tuple[ListenerSpec, ...]) -> dict[str, Runner]:
    """A runner for each transporter that is listened to.

    Raises:
        StartError: wintry-bus is not installed.
        CapabilityError: a transport cannot do what a listener asks for.
    """
    try:
        from wintry.bus import Runtime
        from wintry.bus.transports import Runner
    except ImportError:
        raise StartError([f"{specs[0].id}: @on needs wintry-bus: install wintry-web[messaging]"]) from None
    runtime = container.get(Runtime)
    group = container.get(WinterSettings).name or "default"
    heard: dict[str, list[Listener]] = {}
    for spec in specs:
        heard.setdefault(spec.transporter or runtime.default_transport, []).append(listener(container, spec))
    return {
        name: Runner(runtime, runtime.transports[name], listeners, group=group) for name, listeners in heard.items()
    }


def listener(container: Container, spec: ListenerSpec) -> Listener:
    from wintry.bus.transports import Listener

    return Listener(
        id=spec.id,
        channel=spec.channel,
        decode=spec.decode,
        handle=handler(container, container.compile(spec.cls), spec),
        broadcast=spec.broadcast,
    )


def handler(container: Container, plan: Plan[Any], spec: ListenerSpec) -> Callable[[Any], Awaitable[object]]:
    """What runs for a message: the method, on an instance from a scope of its own."""

    async def handle(message: object) -> object:
        async with container.scope() as scope:
            instance = await plan.make(scope) if plan.is_async else plan.make(scope)
            method = spec.function.__get__(instance)
            if spec.threaded:
                return await run_in_threadpool(method, message)
            return await method(message)

    return handle

"""The libraries that an application is made of, found by their entry points and known by shape alone.

An installed library that needs a life cycle names a factory under `wintry.components`; its product has the shape of
`Component`. `Components` puts them in the order of their `after`, starts them in it, and drains and stops them in
reverse. Nothing here, or elsewhere in this package outside `transports`, imports one of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import Any, Protocol

from pydantic import BaseModel

from wintry.ioc import Container

ENTRY_POINTS = "wintry.components"
CHECK_SECONDS = 2.0
"""How long a component may take to say how it is."""

logger = logging.getLogger("wintry.web")


class Component(Protocol):
    """A library with a life cycle.

    `intake` says that it brings work in, and is drained before HTTP is. `check` answers
    `{name: {"status": "ok" | "degraded" | "down", "detail": text}}`: `down` makes the application not ready,
    `degraded` is listed and goes on.

    Two methods may be there too: `faults(container)` of one that knows classes of its own kind, which gives what is
    wrong with those of the container, for the report of the start; and `async quiesce()` of one that takes up work that
    others have left, which it does no more from then on, while it goes on to do what requests in flight ask of it.
    """

    name: str
    after: tuple[str, ...]
    settings: type[BaseModel] | None
    intake: bool
    errors: Mapping[type[Exception], int]

    def providers(self, settings: Any) -> Mapping[Any, Callable[..., Any]]: ...
    def collecting(self) -> AbstractContextManager[list[Any]]: ...
    async def start(self, container: Container) -> None: ...
    async def check(self) -> Mapping[str, Mapping[str, str]]: ...
    async def drain(self, deadline: float) -> None: ...
    async def stop(self) -> None: ...


def installed() -> list[Component]:
    """A fresh component of every installed library that has one."""
    found = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    return [point.load()() for point in found]


def ordered(components: Iterable[Component]) -> list[Component]:
    """Each component behind those of its `after` that are there; by name where that leaves a choice.

    Raises:
        ValueError: the `after` of some components form a circle.
    """
    waiting = {component.name: component for component in sorted(components, key=lambda one: one.name)}
    order: list[Component] = []
    while waiting:
        ready = [one for one in waiting.values() if not any(name in waiting for name in one.after)]
        if not ready:
            raise ValueError(f"the components {', '.join(waiting)} wait for one another; change one's `after`")
        order.append(waiting.pop(ready[0].name))
    return order


class Components:
    """The components of one application, in their order."""

    def __init__(self, components: Sequence[Component]) -> None:
        self.all = ordered(components)
        self.started: list[Component] = []

    def __iter__(self) -> Iterator[Component]:
        return iter(self.all)

    @property
    def errors(self) -> dict[type[Exception], int]:
        """The HTTP statuses of all components' exceptions."""
        return {error: status for component in self.all for error, status in component.errors.items()}

    def faults(self, container: Container) -> list[object]:
        """What is wrong with the container's classes, as far as components can tell."""
        told = (getattr(component, "faults", None) for component in self.all)
        return [fault for faults in told if faults is not None for fault in faults(container)]

    async def start(self, container: Container) -> None:
        """Start all; when one cannot, those before it are stopped again."""
        try:
            for component in self.all:
                self.started.append(component)
                await component.start(container)
        except BaseException:
            await self.stop()
            raise

    async def drain(self, seconds: float, *, intake: bool) -> None:
        """Drain those that bring work in, or the others, the last started first; together within `seconds`."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        for component in reversed(self.started):
            if getattr(component, "intake", False) is intake:
                await attempt(component, "drain", component.drain(max(0.0, until - clock())))

    async def quiesce(self) -> None:
        """Let those that can take up no work of others, the last started first."""
        for component in reversed(self.started):
            quiesce = getattr(component, "quiesce", None)
            if quiesce is not None:
                await attempt(component, "quiesce", quiesce())

    async def stop(self) -> None:
        """Stop all that started, the last first; an error of one is logged and keeps no other from stopping."""
        while self.started:
            component = self.started.pop()
            await attempt(component, "stop", component.stop())

    async def check(self) -> dict[str, Mapping[str, str]]:
        """How everything is, asked of all at once."""
        answers = await asyncio.gather(*(checked(component) for component in self.started))
        return {name: status for answer in answers for name, status in answer.items()}


async def attempt(component: Component, doing: str, step: Any) -> None:
    try:
        await step
    except Exception:
        logger.exception(f"The component {component.name} did not {doing} cleanly")


async def checked(component: Component) -> Mapping[str, Mapping[str, str]]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await component.check()
    except TimeoutError:
        return {component.name: {"status": "down", "detail": f"no answer within {CHECK_SECONDS:g} s"}}
    except Exception as error:
        logger.exception(f"The check of the component {component.name} failed")
        return {component.name: {"status": "down", "detail": type(error).__name__}}

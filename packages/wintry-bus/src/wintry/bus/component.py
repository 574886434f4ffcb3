"""The part of an application that runs its bus.

An application finds `BusComponent` under the entry-point group `wintry.components`, and knows it by shape alone; it
knows the application's settings by shape too: `settings.transporters` is a list of entries with `name`, `kind` and
`backend`, `settings.journal` the name of a backend, and `settings.backends` says whether there are any. The component
provides the `Runtime` that every queue is given, and the `Publisher` on the default transport. With backends the
runtime is a `Durable` one, which needs the extra `journal`; without them everything lives in memory. Brokers come from
other distributions; one that does not answer makes the application degraded and ends nothing.

`open_runtime` is the same for a command in a shell: stores and transports, and nothing that delivers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from wintry.bus import MessageQueue, Publisher, Runtime, TransportPublisher, collecting
from wintry.bus.errors import CapabilityError, DefinitionError, Fault, HandlerTimeout, SettingsError
from wintry.bus.handlers import faults_of
from wintry.bus.settings import BusSettings
from wintry.bus.transports import Memory, Transport
from wintry.bus.transports.brokers import brokers
from wintry.bus.transports.transport import stop_all

if TYPE_CHECKING:
    from wintry.bus.durable import Durable

DEFAULT: Final = "default"
ANSWER_SECONDS: Final = 1.0
"""How long a broker may take to answer; less than a component may."""


class BusComponent:
    """The bus of one application."""

    name = "bus"
    after: tuple[str, ...] = ("repository",)
    settings = BusSettings
    intake = False
    errors: Mapping[type[Exception], int] = MappingProxyType(
        {HandlerTimeout: 503, CapabilityError: 500, DefinitionError: 500}
    )

    def __init__(self) -> None:
        self._durable: Durable | None = None
        self._runtime: Runtime | None = None
        self._brokers: tuple[str, ...] = ()
        self._quiet = False

    def providers(self, settings: Any) -> Mapping[Any, Callable[..., Any]]:
        """`Runtime` and `Publisher`, as the settings want them. Raises SettingsError for settings that cannot work."""
        layout = Layout(settings)
        self._brokers = tuple(layout.brokers)
        return {Runtime: self._durable_runtime(layout) if layout.durable else in_memory(layout), Publisher: publisher}

    def _durable_runtime(self, layout: Layout) -> Callable[..., Runtime]:
        try:
            from wintry.bus.durable import durable_runtime
        except ModuleNotFoundError as error:
            raise missing(error) from error

        def place(durable: Durable) -> None:
            layout.connect(durable.runtime)
            self._durable = durable

        return durable_runtime(
            place,
            journal=layout.journal,
            queues=layout.queues,
            transports=layout.transports,
            default_transport=layout.default_transport,
        )

    def collecting(self) -> AbstractContextManager[list[Any]]:
        """While open, faults of messages and queues join the list instead of being raised."""
        return collecting()

    def faults(self, container: Any) -> list[Fault]:
        """What is wrong with the queue classes of the container, each by itself and beside the others."""
        return faults_of(container.subclasses(MessageQueue))

    async def start(self, container: Any) -> None:
        """Begin to recover and to deliver, with the handlers of every queue class of the container."""
        runtime = self._runtime = container.get(Runtime)
        runtime.open_scope = container.scope
        for queue in container.subclasses(MessageQueue):
            runtime.add(queue)
        if self._durable is not None:
            await self._durable.prepare()
        for transport in runtime.transports.values():
            await transport.start()
        await (self._durable or runtime).start()

    async def check(self) -> Mapping[str, Mapping[str, str]]:
        """`bus`: degraded where deliveries wait too long or nothing looks for them. `transport:…`: whether it answers."""
        if self._runtime is None:
            return {}
        transports = self._runtime.transports
        answers = await asyncio.gather(*(answer(transports[name]) for name in self._brokers))
        health = await self._runtime.health()
        ticking = self._durable is None or self._durable.housekeeping.ticking or self._quiet
        detail = f"{health.pending} pending, {health.parked} parked"
        if health.oldest is not None:
            detail += f", the oldest due for {health.oldest:.1f} s"
        return {
            "bus": {"status": "ok" if health.ok and ticking else "degraded", "detail": detail},
            **{f"transport:{name}": status for name, status in zip(self._brokers, answers, strict=True)},
        }

    async def quiesce(self) -> None:
        """Take nothing that others have left, while requests in flight go on: what they register is delivered."""
        self._quiet = True
        if self._runtime is not None:
            await (self._durable or self._runtime).quiesce()

    async def drain(self, deadline: float) -> None:
        """Take nothing more, finish what runs within `deadline` seconds, give the rest back."""
        if self._runtime is not None:
            await (self._durable or self._runtime).drain(deadline)

    async def stop(self) -> None:
        """End every loop and transport."""
        if self._durable is not None:
            await self._durable.stop()
        elif self._runtime is not None:
            await stop_all(self._runtime.transports.values())


component = BusComponent


async def answer(transport: Transport) -> Mapping[str, str]:
    """How a broker is: degraded while it does not answer, since everything else goes on without it."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await transport.check()
    except Exception as error:  # noqa: BLE001 - whatever the client of a broker raises
        return {"status": "degraded", "detail": f"{type(error).__name__}: {error}"}
    return {"status": "ok", "detail": ""}


class Layout:
    """What the settings say of the bus. Raises SettingsError where that cannot be."""

    def __init__(self, settings: Any) -> None:
        self.journal: str | None = getattr(settings, "journal", None)
        self.transports: dict[str, Transport] = {}
        self.queues: dict[str, str] = {}
        backends = [entry.name for entry in getattr(settings, "backends", None) or ()]
        transporters = getattr(settings, "transporters", None) or ()
        for entry in transporters:
            if entry.kind == "memory":
                self.transports[entry.name] = Memory()
            elif entry.kind == "database":
                self.queues[entry.name] = entry.backend or self.journal or DEFAULT
        self.brokers = brokers(transporters)
        names = [entry.name for entry in transporters]
        if not names and self.journal is not None:
            self.queues[DEFAULT] = self.journal
        elif not names:
            self.transports[DEFAULT] = Memory()
        self.default_transport = names[0] if len(names) == 1 else DEFAULT
        self.durable = bool(backends)
        wanted = {f"transporters.{name}": backend for name, backend in self.queues.items()}
        if self.journal is not None:
            wanted["journal"] = self.journal
        listed = ", ".join(backends) or "none"
        faults = [
            f"{place}: there is no backend {backend!r}; there are: {listed}"
            for place, backend in wanted.items()
            if backend not in backends
        ]
        if faults:
            raise SettingsError(faults)

    def connect(self, runtime: Runtime) -> None:
        """Give the runtime the transports that are brokers."""
        runtime.transports.update({name: connect(runtime) for name, connect in self.brokers.items()})


def in_memory(layout: Layout) -> Callable[[BusSettings], Runtime]:
    """A runtime without any database."""

    def runtime(options: BusSettings) -> Runtime:
        made = Runtime(transports=layout.transports, limits=options.limits)
        made.default_transport = layout.default_transport
        layout.connect(made)
        return made

    return runtime


def publisher(runtime: Runtime) -> Publisher:
    """The publisher on the default transport."""
    return TransportPublisher(runtime, transport=runtime.default_transport)


def missing(error: ModuleNotFoundError) -> ValueError:
    """What to install."""
    return ValueError(f"a bus beside backends needs {error.name}: install wintry-bus with the extra 'journal'")


@asynccontextmanager
async def open_runtime(source: Any) -> AsyncGenerator[Runtime]:
    """The runtime of settings, or of the journal at a URL, with its stores open; nothing is delivered."""
    from wintry.bus.durable import Durable
    from wintry.repository import Backends
    from wintry.repository.component import entry_of

    if isinstance(source, str):
        entries: dict[str, Any] = {DEFAULT: source}
        layout = Layout(SimpleNamespace(journal=DEFAULT, backends=[SimpleNamespace(name=DEFAULT)]))
    else:
        entries = {entry.name: entry_of(entry) for entry in source.backends}
        layout = Layout(source)
    async with Backends.of(entries) as backends:
        durable = Durable(
            backends,
            BusSettings(),
            journal=layout.journal,
            queues=layout.queues,
            transports=layout.transports,
            default_transport=layout.default_transport,
        )
        layout.connect(durable.runtime)
        await durable.prepare()
        try:
            yield durable.runtime
        finally:
            await durable.drain(5.0)
            await durable.stop()

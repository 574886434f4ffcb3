"""What a bus needs from its surroundings, and what it keeps in common.

A `Runtime` is given the seams: how to open a scope of the container, how to open a unit of work around a handler, the
journal, the middleware and the transports. Each may be missing: without a scope deliveries run on the queue object at
hand, without a journal they live in memory. It holds what must be shared by all queue objects of one application:
compiled routes, the dispatcher of deliveries and the journal in memory. A queue that is given none makes its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from .call import Call
from .dead_letters import DeadLetters
from .dispatch import Dispatcher
from .errors import CapabilityError, DefinitionError, Fault, nearest
from .handlers import same_name
from .journal.journal import JournalStore, Known
from .journal.memory import MemoryJournal
from .messages import Message
from .middleware import Deadlines, Middleware
from .owners import new_owner
from .publisher import ChannelRoute
from .routes import Route, Routes
from .transports.transport import Transport

if TYPE_CHECKING:
    from .handlers import HandlerTable
    from .queue import MessageQueue

T = TypeVar("T")


class Scope(Protocol):
    """A scope of the container, as far as the bus needs it."""

    async def get(self, key: type[T], /) -> T: ...


OpenScope = Callable[[], AbstractAsyncContextManager[Scope]]
OpenUnit = Callable[[Call], AbstractAsyncContextManager[object]]


class Observer(Protocol):
    """Who is told what happens; see `wintry.bus.testing.recording`."""

    def on_registered(self, message: Message) -> None: ...
    def on_published(self, channel: str, body: bytes) -> None: ...
    def on_handled(self, message: Message, handler: str) -> None: ...
    def on_parked(self, message: object, handler: str, error: BaseException) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a runtime; times in seconds.

    `inline_budget`: how long `handle` delivers what its command caused before it leaves the rest to the background.
    `concurrency`: background deliveries at a time. `backlog`: how many may wait before `handle` waits too.
    `lease`: how long a delivery belongs to its process without renewal. `poll_min`, `poll_max`: pauses between looks
    for what other processes left. `send_timeout`: of one publication. `oldest`: the age of a waiting delivery above
    which health is degraded.
    """

    inline_budget: float = 1.0
    concurrency: int = 16
    backlog: int = 1024
    lease: float = 40.0
    poll_min: float = 0.05
    poll_max: float = 2.0
    send_timeout: float = 10.0
    oldest: float = 60.0


@dataclass(frozen=True, slots=True)
class Health:
    """How the deliveries of a runtime are: `ok` while its loops run and nothing waits longer than it should.

    `oldest` is the age in seconds of the delivery that has waited longest.
    """

    ok: bool
    ticking: bool
    pending: int
    parked: int
    oldest: float | None


class Runtime:
    """The surroundings of the queues of one application. `owner` names this process in leases."""

    def __init__(
        self,
        *,
        open_scope: OpenScope | None = None,
        open_unit: OpenUnit | None = None,
        in_transaction: Callable[[], bool] | None = None,
        journal: JournalStore | None = None,
        middleware: Sequence[Middleware] = (),
        transports: Mapping[str, Transport] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._open_scope = open_scope
        self._open_unit = open_unit
        self.plain = open_scope is None and open_unit is None  # handlers run on the object at hand, in nothing
        self.in_transaction = in_transaction
        self.journal = journal
        self.middleware = tuple(middleware)
        self.transports = dict(transports or {})
        self.default_transport = "default"
        self.limits = limits or Limits()
        self.owner = new_owner()
        self.memory = MemoryJournal()
        self.store: JournalStore = self.memory if journal is None else journal
        self.dead_letters = DeadLetters(self)
        self.observers: list[Observer] = []
        self._deadlines: dict[float, Deadlines] = {}
        self._routes: dict[type, Routes] = {}
        self._targets: dict[str, Route] = {}
        self.dispatcher = Dispatcher(self)

    @property
    def open_scope(self) -> OpenScope | None:
        """Opens a scope of the container; an application sets it once its container is there."""
        return self._open_scope

    @open_scope.setter
    def open_scope(self, opener: OpenScope | None) -> None:
        self._open_scope = opener
        self.plain = opener is None and self._open_unit is None

    @property
    def open_unit(self) -> OpenUnit | None:
        """Opens what runs around a handler: the unit of work, or the hooks of the units in it."""
        return self._open_unit

    @open_unit.setter
    def open_unit(self, opener: OpenUnit | None) -> None:
        self._open_unit = opener
        self.plain = opener is None and self._open_scope is None

    def use_journal(self, journal: JournalStore) -> None:
        """Store deliveries in `journal`, from before the first of them on."""
        self.journal = self.store = journal

    # queues and routes

    def add(self, queue: type[MessageQueue]) -> Routes:
        """Compile the routes of a queue class; its deliveries can be recovered from now on.

        Raises:
            DefinitionError: the class has faults, or another one of the same name is there already.
        """
        routes = self._routes.get(queue)
        if routes is None:
            table: HandlerTable = queue.__handlers__.check()
            routes = Routes(self, queue, table)
            for other in self._routes.values():
                if other.name == routes.name:
                    raise DefinitionError([same_name(queue, other.queue)])
            self._routes[queue] = routes
            self._targets |= routes.by_target
        return routes

    def attach(self, queue: MessageQueue) -> Routes:
        """The routes of a queue object; without a container it is the one that deliveries run on."""
        routes = self.add(type(queue))
        if self._open_scope is None:
            for route in routes.by_target.values():
                route.instance = queue
        return routes

    def listen(self, route: Route) -> None:
        """Deliver what is redriven to a listener.

        Raises:
            DefinitionError: a handler or another listener has this id already.
        """
        if route.target in self._targets:
            raise DefinitionError([Fault(route.target, "a handler or another listener has this id", "rename one")])
        self._targets[route.target] = route

    def route(self, target: str) -> Route:
        """The route to a handler's id or `transport:channel`.

        Raises:
            LookupError: this process does not know it.
        """
        transport, colon, channel = target.partition(":")
        return self.channel(transport, channel) if colon else self._targets[target]

    def channel(self, transport: str, channel: str) -> Route:
        """The route to a channel.

        Raises:
            CapabilityError: there is no transport of that name.
        """
        target = f"{transport}:{channel}"
        route = self._targets.get(target)
        if route is None:
            to = self.transports.get(transport)
            if to is None:
                raise CapabilityError(f"no transport {transport!r}: {nearest(transport, [*self.transports])}")
            route = self._targets[target] = ChannelRoute(self, transport, to, channel)
        return route

    @property
    def known(self) -> Known:
        """What this process can deliver."""
        handlers = {route.target: route.version for route in self._targets.values() if route.version is not None}
        return Known(handlers, frozenset(self.transports))

    def deadlines(self, seconds: float) -> Deadlines:
        """The running attempts with this timeout."""
        deadlines = self._deadlines.get(seconds)
        if deadlines is None:
            deadlines = self._deadlines[seconds] = Deadlines(seconds)
        return deadlines

    # observers

    def tell_handled(self, call: Call) -> None:
        if isinstance(call.message, Message):
            for observer in self.observers:
                observer.on_handled(call.message, call.route.target)

    def tell_left(self, call: Call) -> None:
        leaving, call.leaving = call.leaving, ()
        for message in leaving:
            for observer in self.observers:
                if isinstance(message, Message):
                    observer.on_registered(message)
                else:
                    observer.on_published(message.channel, message.body)

    def tell_parked(self, call: Call, error: BaseException) -> None:
        for observer in self.observers:
            observer.on_parked(call.message, call.route.target, error)

    # life

    async def start(self) -> None:
        """Begin to recover and to renew; without a journal there is nothing to begin."""
        if self.journal is not None:
            self.dispatcher.claims.start()

    async def quiesce(self) -> None:
        """Take no work of others; what is handled here is still delivered. Without a journal all work is its own."""
        if self.journal is not None:
            await self.dispatcher.claims.quiesce()

    async def drain(self, deadline: float) -> None:
        """Stop taking, finish what runs within `deadline` seconds, and give the rest back without counting it."""
        await self.dispatcher.close(deadline)

    async def health(self) -> Health:
        """The state of the deliveries; asks the journal."""
        stats = await self.store.stats()
        ticking = self.dispatcher.claims.ticking
        fresh = stats.oldest is None or stats.oldest <= self.limits.oldest
        return Health(
            ok=ticking and fresh,
            ticking=ticking,
            pending=stats.pending + (self.dispatcher.busy if self.journal is None else 0),
            parked=stats.parked + stats.held,
            oldest=stats.oldest,
        )

"""The parts of a durable bus, put together for one application: what the extra `journal` brings.

From the names in the settings come the journal, a home and a relay for every other database, the units that handlers
run in, the transports whose queues are in a database, and the housekeeping of all of them. What kind of database each
is, only `stores.py` knows. All parts that store on one backend share what its home holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from wintry.repository import Backends
from wintry.repository.backend import Backend

from .journal.home import Home, UnitJournal
from .journal.housekeeping import Duty, Housekeeping, Step
from .journal.relay import Relay
from .journal.unit import Units
from .runtime import Runtime
from .settings import BusSettings
from .stores import KINDS, home_on, journal_on, queue_on, require
from .transports.queue import Queue
from .transports.transport import Transport, stop_all


class Durable:
    """A runtime on the databases of an application.

    `journal` names the backend of the journal, None for none; `queues` gives the transports that are queues in a
    database by name, each with the name of its backend; `transports` are the others.

    Raises:
        ConfigurationError: a name that no backend has, or a backend that nothing can be stored on.
    """

    def __init__(
        self,
        backends: Backends,
        options: BusSettings,
        *,
        journal: str | None,
        queues: Mapping[str, str],
        transports: Mapping[str, Transport],
        default_transport: str,
    ) -> None:
        self._options = options
        self._homes: dict[Backend, Home] = {}
        self._units = Units()
        self.runtime = runtime = Runtime(
            open_unit=self._units.open,
            in_transaction=self._units.in_transaction,
            transports=transports,
            limits=options.limits,
        )
        runtime.default_transport = default_transport
        self.queues = {name: self._queue(backends, name, backend) for name, backend in queues.items()}
        runtime.transports.update(self.queues)
        self.journal = None if journal is None else self._journal(backends, journal, queues)
        self.housekeeping = self._housekeeping()

    def _queue(self, backends: Backends, name: str, backend: str) -> Queue:
        found = backends[backend]
        require(found, f"the transporter {name!r}")
        limits = self._options.limits
        return queue_on(
            self._home_on(found),
            owner=self.runtime.owner,
            lease=limits.lease,
            poll_min=limits.poll_min,
            poll_max=limits.poll_max,
        )

    def _journal(self, backends: Backends, name: str, queues: Mapping[str, str]) -> UnitJournal:
        found = backends[name]
        require(found, "the journal")
        home = self._home_on(found)
        others = [self._home_on(each) for each in backends if each.kind in KINDS and each is not found]
        here = {name: queue for name, queue in self.queues.items() if backends[queues[name]] is found}
        journal = journal_on(home, others=others, queues=here)
        runtime = self.runtime
        relays = {each.backend: Relay(each, journal) for each in others}
        self._units.use(journal, relays, owner=runtime.owner, lease=runtime.limits.lease)
        runtime.use_journal(journal)
        return journal

    def _home_on(self, backend: Backend) -> Home:
        home = self._homes.get(backend)
        if home is None:
            home = self._homes[backend] = home_on(backend)
        return home

    def _housekeeping(self) -> Housekeeping:
        options, journal = self._options, self.journal
        purges: list[Step] = [
            partial(queue.purge, older_than=options.retention, abandoned=options.abandoned_after)
            for queue in self.queues.values()
        ]
        if journal is not None:
            purges.append(partial(journal.purge, older_than=options.retention))
            purges += [partial(home.purge, older_than=options.inbox_retention) for home in journal.homes.values()]
        duty = None
        if self._homes:
            first = self._homes[journal.backend] if journal is not None else next(iter(self._homes.values()))
            duty = Duty(first, "purge", owner=self.runtime.owner)
        recoveries = [store.inherit for store in (journal, *self.queues.values()) if store is not None]
        return Housekeeping([*self._units.relays.values()], recoveries, duty, purges)

    async def prepare(self) -> None:
        """Make what is missing of tables and collections, with their indexes."""
        for home in self._homes.values():
            await home.prepare()

    async def start(self) -> None:
        """Move what a crash has left, then begin to deliver."""
        await self.housekeeping.recover(grace=0.0)
        await self.runtime.start()
        self.housekeeping.start()

    async def quiesce(self) -> None:
        """Claim, recover and move nothing that others have left; what is handled here is still delivered."""
        await self.housekeeping.stop()
        await self.runtime.quiesce()

    async def drain(self, deadline: float) -> None:
        """Finish what runs within `deadline` seconds."""
        await self.runtime.drain(deadline)
        await self._flush()

    async def stop(self) -> None:
        """Store what was to be stored later, and let go of everything."""
        await self.housekeeping.stop()
        await stop_all(self.runtime.transports.values())
        await self._flush()

    async def _flush(self) -> None:
        for home in self._homes.values():
            await home.flush()


def durable_runtime(
    place: Callable[[Durable], None],
    *,
    journal: str | None,
    queues: Mapping[str, str],
    transports: Mapping[str, Transport],
    default_transport: str,
) -> Callable[[BusSettings, Backends], Runtime]:
    """A factory for the container, which hands the `Durable` it makes to `place`."""

    def runtime(options: BusSettings, backends: Backends) -> Runtime:
        durable = Durable(
            backends,
            options,
            journal=journal,
            queues=queues,
            transports=transports,
            default_transport=default_transport,
        )
        place(durable)
        return durable.runtime

    return runtime

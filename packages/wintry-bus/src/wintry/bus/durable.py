"""The parts of a durable bus, put together for one application: what the extra `journal` brings.

From the names in the settings come the journal, a relay for every other SQL backend, the units that handlers run in,
the transports whose queues are in a database, and the housekeeping of all of them. Small transactions on one backend
are shared by all parts that use it, and what a transport in the journal's own database sends goes there directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from wintry.repository import Backends
from wintry.repository.backend import Backend
from wintry.repository.errors import ConfigurationError
from wintry.repository.sql import SqlBackend

from .journal.group_commit import GroupCommit
from .journal.housekeeping import Duty, Housekeeping, Step
from .journal.relay import Relay
from .journal.sql import SqlJournal
from .journal.unit import Units
from .runtime import Runtime
from .settings import BusSettings
from .transports.database import Database
from .transports.transport import Transport


class Durable:
    """A runtime on the databases of an application.

    `journal` names the backend of the journal, None for none; `queues` gives the transports that are queues in a
    database by name, each with the name of its backend; `transports` are the others.

    Raises:
        ConfigurationError: a name that no backend has, or a backend that is not SQL.
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
        self._commits: dict[SqlBackend, GroupCommit] = {}
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
        self.journal = None if journal is None else self._journal(backends, journal)
        self.housekeeping = self._housekeeping()

    def _queue(self, backends: Backends, name: str, backend: str) -> Database:
        found = sql_backend(backends, backend, f"the transporter {name!r}")
        limits = self._options.limits
        return Database(
            found,
            owner=self.runtime.owner,
            lease=limits.lease,
            poll_min=limits.poll_min,
            poll_max=limits.poll_max,
            commits=self._commits_on(found),
        )

    def _journal(self, backends: Backends, name: str) -> SqlJournal:
        home = sql_backend(backends, name, "the journal")
        others = [each for each in backends if isinstance(each, SqlBackend) and each is not home]
        direct = {name: queue for name, queue in self.queues.items() if queue.backend is home}
        journal = SqlJournal(home, others=others, direct=direct, commits=self._commits_on(home))
        runtime, units = self.runtime, self._units
        relays: dict[Backend, Relay] = {each: Relay(each, journal, self._commits_on(each)) for each in others}
        units.use(journal, relays, owner=runtime.owner, lease=runtime.limits.lease)
        runtime.use_journal(journal)
        return journal

    def _commits_on(self, backend: SqlBackend) -> GroupCommit:
        return self._commits.setdefault(backend, GroupCommit(backend))

    def _housekeeping(self) -> Housekeeping:
        options, journal = self._options, self.journal
        purges: list[Step] = [
            partial(queue.purge, older_than=options.retention, abandoned=options.abandoned_after)
            for queue in self.queues.values()
        ]
        if journal is not None:
            purges.append(partial(journal.purge, older_than=options.retention))
            purges += [
                partial(inbox.purge, self._commits_on(backend), older_than=options.inbox_retention)
                for backend, inbox in journal.inboxes.items()
            ]
        duty = None
        if self._commits:
            first = journal.backend if journal is not None else next(iter(self._commits))
            duty = Duty(first, self._commits_on(first), "purge", owner=self.runtime.owner)
        recoveries = [store.inherit for store in (journal, *self.queues.values()) if store is not None]
        return Housekeeping([*self._units.relays.values()], recoveries, duty, purges)

    async def prepare(self) -> None:
        """Make the tables that are missing."""
        for backend in self._commits:
            await backend.create_schema()

    async def start(self) -> None:
        """Move what a crash has left, then begin to deliver."""
        await self.housekeeping.recover(grace=0.0)
        await self.runtime.start()
        self.housekeeping.start()

    async def drain(self, deadline: float) -> None:
        """Finish what runs within `deadline` seconds."""
        await self.runtime.drain(deadline)
        await self._flush()

    async def stop(self) -> None:
        """Store what was to be stored later, and let go of everything."""
        await self.housekeeping.stop()
        for transport in self.runtime.transports.values():
            await transport.stop()
        await self._flush()

    async def _flush(self) -> None:
        for commits in self._commits.values():
            await commits.flush()


def sql_backend(backends: Backends, name: str, what: str) -> SqlBackend:
    """The backend of this name, for tables of the bus."""
    found = backends[name]
    if not isinstance(found, SqlBackend):
        raise ConfigurationError(f"{what} needs a SQL backend, and {name!r} is {found.kind}")
    return found


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

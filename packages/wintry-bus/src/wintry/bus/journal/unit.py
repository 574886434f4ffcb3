"""How handlers run in units of work.

`Units.open` is entered around every run of a handler. A command that a caller waits for gets no unit: the caller's is
hidden, and a hook stands ready that takes what the handler has registered into the transaction of whichever unit it
commits. A delivery, and a listener's message, runs in an `AmbientUnit`: every repository call and every unit of work
inside joins it, and when the handler has returned it commits the effect, the record of the message and the messages
that were registered, in one transaction of one database.

That database is its *home*: the backend that is written first, the journal's where nothing is written. Until then
backends are read in snapshots, tracked, and without the writer's lock; the first write turns the snapshot of its
backend into a writing transaction, and the versions of the objects tell whether somebody was faster. A unit of work
that is opened inside announces a write, so its backend is opened for writing at once, without being home yet.
A second backend that is to be written is `TwoStores`; one that is first read when the home is known is not tracked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any

from wintry.repository.backend import Backend, Execution, Operation, SessionProvider, current
from wintry.repository.errors import UnitAborted
from wintry.uow import Unit, UnitHook, current_unit, use_hooks
from wintry.uow.retry import retryable
from wintry.uow.session import UnitSession

from ..errors import AlreadyHandled, LeaseLost, TwoStores
from ..failpoints import reach
from .home import Home, UnitJournal, recorded
from .journal import Row
from .relay import Relay

if TYPE_CHECKING:
    from ..call import Call
    from ..results import Results

logger = logging.getLogger("wintry.bus")


class Units:
    """Opens the units of one runtime's handlers; without a journal what they register lives in memory."""

    def __init__(self) -> None:
        self.journal: UnitJournal | None = None
        self.relays: Mapping[Backend, Relay] = {}
        self.owner = ""
        self.lease = 0.0

    def use(self, journal: UnitJournal, relays: Mapping[Backend, Relay], *, owner: str, lease: float) -> None:
        """Store what is registered in `journal`, for `owner` with leases of `lease` seconds.

        `relays` are those of the other backends that effects may be stored in.
        """
        self.journal, self.relays, self.owner, self.lease = journal, relays, owner, lease

    def open(self, call: Call) -> Around:
        """What is entered around one run of a handler; given to `Runtime.open_unit`."""
        return Around(self, call)

    def in_transaction(self) -> bool:
        """Whether the calling task has a unit with an open transaction; given to `Runtime.in_transaction`."""
        unit = current_unit()
        while unit is not None:
            if unit.in_transaction:
                return True
            unit = unit.outer
        return False


_innermost: ContextVar[Around | None] = ContextVar("wintry.bus.journal.around", default=None)
"""What is entered around the handler that runs: units that others open are not its business."""


class Around(UnitHook):
    """One run of one handler: its hook, and its ambient unit where it has one."""

    def __init__(self, units: Units, call: Call) -> None:
        self._units = units
        self._call = call
        self._ambient: AmbientUnit | None = None
        self._hooks: Any = None
        self._hidden: Token[SessionProvider | None] | None = None
        self._token: Token[Around | None] | None = None
        self._rows: Sequence[Row] = ()
        self._stored: Sequence[Row] | None = None  # rows of the journal, or none where there is no journal
        self._relay: Relay | None = None
        self._recorded: Home | None = None  # where it is, durably
        self._recording: tuple[Unit, Home] | None = None  # which is about to commit the record, and where

    async def __aenter__(self) -> None:
        call = self._call
        if call.row is None and not call.entry:
            if call.doubtful:
                await self._resolve()
            self._token = _innermost.set(self)
            self._hidden = current.set(None)
            self._hooks = use_hooks(self)
            self._hooks.__enter__()
            return
        if call.row is not None and (call.entry or call.row.attempts > 1) and await self._effect_is_stored(call.row):
            raise AlreadyHandled("its effect was stored by an earlier attempt")
        self._token = _innermost.set(self)
        self._hidden = current.set(None)
        self._ambient = AmbientUnit(self)
        self._ambient.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._ambient is None:
                self._hooks.__exit__(kind, error, traceback)
                if error is None and self._recorded is not None:
                    await self._keep_result(self._recorded)
            else:
                await self._end(self._ambient, error)
        finally:
            if self._hidden is not None:
                current.reset(self._hidden)
            if self._token is not None:
                _innermost.reset(self._token)

    async def _end(self, unit: AmbientUnit, error: BaseException | None) -> None:
        """Commit the ambient unit, or roll it back; a conflict inside is the reason that counts."""
        try:
            if error is None:
                await unit.commit()
        except BaseException as refused:  # noqa: BLE001 - what follows is raised when the unit is over
            error, reason = refused, _reason(refused)
            raise reason from reason.__cause__
        finally:
            await unit.leave(error)
        if error is not None and (reason := _reason(error)) is not error:
            raise reason

    async def _effect_is_stored(self, row: Row) -> bool:
        """Whether an earlier attempt has committed, and did not come to closing its row.

        One of a delivery has, where its row is not closed in the same transaction. A listener's message may have been
        given out by the transport once more, since the row was made, and its record may be in any home.
        """
        journal = self._units.journal
        if journal is None:
            return False
        homes = [
            home
            for backend, home in journal.homes.items()
            if self._call.entry or backend is not journal.backend or not journal.closes_in_unit
        ]
        return await recorded(homes, row.id, row.target) is not None

    async def _resolve(self) -> None:
        """Look what became of the commit that an earlier attempt of a command has not heard of."""
        call, journal = self._call, self._units.journal
        if journal is not None:
            homes = [home for home in journal.homes.values() if home.remote]
            if await recorded(homes, call.id, call.route.target) is not None:
                raise AlreadyHandled(
                    f"{call.route.target}: the connection was lost during the commit, which has gone through: the effect "
                    "is stored, and the result of the handler is not known; read the state instead of sending it again"
                )
        call.doubtful = False

    # the hook of units

    async def before_commit(self, unit: Unit, changes: Sequence[Operation]) -> None:
        """Put the record and the messages into the transaction that is about to commit."""
        journal = self._units.journal
        if _innermost.get() is not self or journal is None:
            return
        home = self._home(unit, journal)
        if home is journal.backend:
            self._rows = self._call.rows()
            await self._store_here(journal, unit)
        elif home is not None and (relay := self._units.relays.get(home)) is not None:
            self._rows = self._call.rows()
            self._relay = relay
            await self._store_there(journal, unit, relay)
        else:
            return  # what was registered follows in a transaction of its own
        reach("appended")

    def _home(self, unit: Unit, journal: UnitJournal) -> Backend | None:
        """Where the record and the messages go; None where there are none."""
        call, written = self._call, unit.backends_written
        if journal.backend in written:
            return journal.backend
        if written:
            return written[0]
        if not call.pending and (call.row is None or not journal.closes_in_unit):
            return None  # there is no effect, and a row is closed by itself
        return journal.backend if unit.joins((journal.backend,)) else None

    async def _store_here(self, journal: UnitJournal, unit: Unit) -> None:
        call, units = self._call, self._units
        execution = writing(unit, journal.backend)
        row = call.row if unit is self._ambient and journal.closes_in_unit else None
        if row is not None and not await journal.complete([row.seq], owner=units.owner, execution=execution):
            raise LeaseLost(f"row {row.seq} belongs to another process")
        if row is None or call.entry:
            await self._record(journal.homes[journal.backend], execution, unit)
        self._stored = []
        if self._rows:
            self._stored = await journal.append(self._rows, owner=units.owner, lease=units.lease, execution=execution)

    async def _store_there(self, journal: UnitJournal, unit: Unit, relay: Relay) -> None:
        execution = unit.execution(relay.backend)
        await self._record(relay.home, execution, unit)
        if self._rows:
            await relay.store(execution, self._rows)

    async def _record(self, home: Home, execution: Execution, unit: Unit) -> None:
        """Note what is handled; of a command that a caller waits for, where its commit may get lost on the way."""
        call, record = self._call, self._call.inbox
        if record is None and call.row is None and not call.entry and home.remote:
            record = (call.id, call.route.target)
        if record is None or self._recorded is not None or self._recording is not None:
            return
        known = None if (handled := self._handled_inside()) is None else handled.beforehand
        if not await home.record(execution, *record, known):
            raise AlreadyHandled("its effect is stored in the database already")
        self._recording = unit, home
        call.doubtful = call.inbox is None

    def _handled_inside(self) -> Results | None:
        """Of a command that a delivery handles, the results: it is asked for again when the delivery comes again."""
        route = self._call.route
        inside = self._call.row is None and self._call.inbox is not None
        return route.results if inside else None

    async def _keep_result(self, home: Home) -> None:
        """Add what the handler has returned to the record of its command."""
        results, call = self._handled_inside(), self._call
        if results is None or results.beforehand is not None or call.inbox is None:
            return
        kept = results.encode(call.result)
        if kept is None:
            return
        try:
            await home.keep(*call.inbox, kept)
        except Exception:
            logger.exception("%s has been handled, and its result could not be stored", call.route.target)
        reach("kept")

    async def after_commit(self, unit: Unit) -> None:
        """The transaction is durable: what it holds may be delivered."""
        call, units = self._call, self._units
        if _innermost.get() is not self:
            return
        if units.journal is None:
            call.commit()
            return
        reach("committed")
        call.doubtful = False
        if self._recording is not None and self._recording[0] is unit:
            self._recorded, self._recording = self._recording[1], None
        relay, self._relay = self._relay, None
        rows, self._rows = self._rows, ()
        stored, self._stored = self._stored, None
        if relay is not None:
            reach("home-committed")
            stored = []
        if rows:
            try:
                stored = await self._to_be_delivered(units.journal, relay, rows, stored or ())
            except BaseException:  # cancelled: others deliver it, and what is stored must not be done again
                call.commit([])
                raise
        if stored is not None:
            call.commit(stored)
        elif unit.backends_written:
            call.commits += 1
        if unit is self._ambient and call.row is not None:
            call.settled = relay is not None or units.journal.backend in unit.backends_written
            if call.settled and (relay is not None or not units.journal.closes_in_unit):
                units.journal.complete_soon(call.row.seq, owner=units.owner)

    async def _to_be_delivered(
        self, journal: UnitJournal, relay: Relay | None, rows: Sequence[Row], stored: Sequence[Row]
    ) -> Sequence[Row]:
        """The rows of the journal that this process may deliver; where it cannot be asked, others will."""
        units = self._units
        try:
            if relay is not None:
                return await relay.move(rows, owner=units.owner, lease=units.lease)
            return await journal.committed(rows, stored, owner=units.owner)
        except Exception:
            logger.exception("%d messages are stored, and are delivered when their leases end", len(rows))
            return []

    async def after_rollback(self, unit: Unit) -> None:
        """Nothing that was registered survives."""
        if _innermost.get() is self:
            self._rows, self._stored, self._relay = (), None, None
            if self._recording is not None and self._recording[0] is unit:
                self._recording = None
            self._call.rollback()


class AmbientUnit(Unit):
    """The unit of a delivery: it covers every backend, and commits in one."""

    def __init__(self, hook: UnitHook) -> None:
        super().__init__(None, hooks=(hook,))
        self.home: Backend | None = None
        self._announced: Backend | None = None  # opened for writing by a unit of work inside
        self._closing: list[asyncio.Task[None]] = []

    def claim_write(self, backend: Backend) -> None:
        """The first write makes its backend the home."""
        if self.home is not None and self.home is not backend:
            raise TwoStores(
                f"this delivery has written to the backend {self.home.name!r} and is about to write to "
                f"{backend.name!r}: one transaction cannot hold both, make it two handlers"
            )
        super().claim_write(backend)
        self.home = backend
        announced, self._announced = self._announced, None
        if announced is not None and announced is not backend:
            self._let_go(announced)  # nothing is written there: its lock must not be held while we wait for another

    def reads_only(self, backend: Backend) -> bool:
        """Beside the home there is nothing to write."""
        return self.home is not None and backend is not self.home

    def session(self, backend: Backend) -> AmbientSession:
        """The session on a backend, for a unit of work inside or for a hook: it is going to write, if it may."""
        session = self._session(backend)
        if self.home is None and self._announced is None and session.execution is None:
            self._announced = backend
        return session

    def session_for(self, backend: Backend) -> UnitSession | None:
        """The session on a backend for a call of a repository, which may be a read."""
        return self._session(backend) if self.owned_by(asyncio.current_task()) else None

    def _session(self, backend: Backend) -> AmbientSession:
        session = self._sessions.get(backend)
        if session is None:
            session = self._sessions[backend] = AmbientSession(self, backend, tracking=not self.reads_only(backend))
        assert isinstance(session, AmbientSession)
        return session

    def writes_to(self, backend: Backend) -> bool:
        """Whether a transaction on `backend` that begins now is a writing one."""
        return backend is self.home or (self.home is None and backend is self._announced)

    def _let_go(self, backend: Backend) -> None:
        session = self._session(backend)
        execution, session.execution = session.execution, None
        if execution is not None:
            self._closing.append(asyncio.get_running_loop().create_task(execution.close()))

    def begin_writing(self, backend: Backend) -> None:
        """A snapshot was read, and now there is something to write: the next statement begins anew."""
        execution = self._session(backend).execution
        if execution is not None and execution.read_only:
            self._let_go(backend)

    async def leave(self, error: BaseException | None) -> None:
        """End it, when every snapshot is given back."""
        try:
            await super().leave(error)
        finally:
            if self._closing:
                await asyncio.gather(*self._closing, return_exceptions=True)


class AmbientSession(UnitSession):
    """A delivery's session on one backend: a snapshot to read from, until there is something to write."""

    __slots__ = ()

    _unit: AmbientUnit

    def open(self, isolation: str | None = None) -> Execution:
        """The transaction, made at the first call."""
        if self.execution is None:
            read_only = not self._unit.writes_to(self.backend)
            self.execution = self.backend.execution(read_only=read_only, isolation=isolation)
        return self.execution

    def claim(self) -> None:
        """Ask before the first write, and leave the snapshot."""
        if not self.written:
            super().claim()
            self._unit.begin_writing(self.backend)


def writing(unit: Unit, backend: Backend) -> Execution:
    """The writing transaction of a unit, for a hook's own rows."""
    unit.session(backend).claim()
    return unit.execution(backend)


def _reason(error: BaseException) -> BaseException:
    """The conflict that aborted a unit, where that is why `error` was raised."""
    while isinstance(error, UnitAborted) and retryable(error):
        assert error.__cause__ is not None, "an abort that may be retried has its conflict as its cause"
        error = error.__cause__
    return error

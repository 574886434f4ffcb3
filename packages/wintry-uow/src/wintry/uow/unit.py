"""A running unit of work: one task, one transaction on each backend that it covers.

While its block is open the unit stands in the context variable `wintry.repository.backend.current`, so that calls of
repositories find it; it answers only to the task that entered it, which is why a child task starts with no unit though
it inherits the context. Its sessions, one a backend, are made when they are first asked for.

`commit` flushes, lets the hooks take part, commits and turns to the next transaction; leaving the block rolls back what
is left. A failure of the store, or of a unit that joined, aborts the transaction: from then on only a rollback is
possible, which leaving the block is.

`Joined` is the part that a unit of work has in an outer one: its commit stores and marks, and it can only doom the
whole.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

from wintry.models.errors import OwnershipError
from wintry.repository.backend import Backend, Execution, Operation, SessionProvider, current, resource
from wintry.repository.errors import NotFound, UnitAborted, Unsupported

from . import versions
from .errors import (
    ConcurrentUnitUse,
    ForeignObject,
    LockTooLate,
    ReadOnlyUnit,
    SeveralBackends,
    UncommittedChanges,
    UnitClosed,
    UnitError,
)
from .flush import described
from .hooks import UnitHook, hooks_in_use, tell
from .identity import Entry, named
from .session import UnitSession

if TYPE_CHECKING:
    from wintry.models import Model

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """How a unit runs.

    `timeout` is in seconds; `isolation` is a level that the backend knows, None its own default, a snapshot;
    `flush="commit"` leaves out the stores before queries; `allow_multi` lets a unit span backends, which then commit
    one after another and not as one.
    """

    read_only: bool = False
    isolation: str | None = None
    timeout: float | None = None
    flush: Literal["query", "commit"] = "query"
    allow_multi: bool = False


DEFAULTS: Final = Options()

RESOURCES: Final = ("connection", "session", "driver", "client_session", "store")
"""The attributes of an `Execution` that hold what the store's own library calls the transaction."""


class Unit:
    """A transaction in the making. `UnitOfWork` opens one per block; a subclass may be entered by itself.

    `backends` are those it covers; None covers each one that is asked for. `hooks` take part after those of
    `use_hooks`.
    """

    def __init__(
        self, backends: Iterable[Backend] | None, *, hooks: Iterable[UnitHook] = (), options: Options = DEFAULTS
    ) -> None:
        self.options = options
        self.parts: list[tuple[object, Unit | Joined]] = []
        self._backends = None if backends is None else tuple(dict.fromkeys(backends))
        self._hooks = tuple(hooks)
        self._sessions: dict[Backend, UnitSession] = {}
        self._owner: asyncio.Task[Any] | None = None
        self.outer: Unit | None = None
        self._previous: SessionProvider | None = None
        self._open = False
        self._aborted: tuple[str, BaseException | None] | None = None
        self._settled = False
        if self._backends is not None and len(self._backends) > 1 and not options.allow_multi:
            names = ", ".join(backend.name for backend in self._backends)
            raise SeveralBackends(
                f"one unit over the backends {names} cannot commit as one: open a unit for each, "
                "or give up atomicity with `allow_multi=True`"
            )

    # The block.

    async def __aenter__(self) -> Self:
        self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.leave(error)

    def enter(self) -> None:
        """Become the unit of this context, for the task that asks."""
        if self._owner is not None:
            raise UnitError("a unit runs once: make another one")
        self._owner = running_task()
        self._previous = current.get()
        self.outer = current_unit()
        self._hooks = (*hooks_in_use(), *self._hooks)
        self._open = True
        current.set(self)

    async def leave(self, error: BaseException | None) -> None:
        """End the block: roll back what is not committed, and warn where that drops changes silently."""
        current.set(self._previous)
        dropped = self._left_over() if error is None and self._aborted is None else []
        rolled_back = error is not None or self._aborted is not None or not self._settled or bool(dropped)
        self._open = False
        try:
            await self._undo()
        finally:
            if rolled_back:
                await tell([hook.after_rollback for hook in self._hooks], self)
            if dropped:
                text = "\n  ".join(("a unit of work was left without commit(), and this was rolled back:", *dropped))
                warnings.warn(UncommittedChanges(text), stacklevel=3)

    def joins(self, backends: Iterable[Backend]) -> bool:
        """Whether a unit over `backends` that is entered now is a part of this one."""
        return self._backends is None or all(backend in self._backends for backend in backends)

    # What a caller does.

    async def commit(self) -> None:
        """Store what changed and make it durable; what is changed after it belongs to the next commit.

        Raises `Conflict` (run the whole unit again), `AlreadyExists`, `InvalidValue`, `UnitAborted`, and what a
        `before_commit` hook raises; then only a rollback is possible. What comparing raises (`SharedChild`,
        `DuplicateChild`, `IdentityChanged`) comes before anything is stored and leaves the unit as it was.
        """
        self.check()
        await self.flush()
        if self._hooks:
            await self._let_hooks_take_part()
        await self._commit_sessions()
        self._settled = True
        for session in self._sessions.values():
            session.turn()
            session.held.release()
        try:
            await tell([hook.after_commit for hook in self._hooks], self)
        finally:
            for session in self._sessions.values():
                session.written = False

    async def rollback(self) -> None:
        """Undo what is not committed. Objects stay readable, and are no longer tracked; the unit can go on."""
        self._check_use()
        await self._undo()
        self._aborted = None
        self._settled = True
        await tell([hook.after_rollback for hook in self._hooks], self)

    async def flush(self) -> None:
        """Store what changed, inside the transaction."""
        for session in self._sessions.values():
            if session.tracking:
                await session.flush()

    def changes(self) -> tuple[Operation, ...]:
        """What a commit would make durable: what is stored in this transaction already, and what it would store."""
        self.check()
        return self._operations()

    async def refresh(self, object: Model) -> None:
        """Load the row of a tracked object into it; edits that are not stored are lost. Raises `NotFound`."""
        session, entry = self._entry(object)
        rows = await session.backend.load(session.open(), type(object), (entry.id,))
        if not rows:
            raise NotFound(f"{named(object)} is not stored")
        session.map.renew(entry, *rows[0])

    def detach(self, object: Model) -> None:
        """Track an object no more: what is changed in it from now on, or was and is not stored, is not saved."""
        session, entry = self._entry(object)
        session.map.forget(entry)

    def expect(self, object: Model, *, version: int) -> None:
        """Go on only if `object` was loaded at `version`, such as that of an ETag.

        Raises `PreconditionFailed`, which is never retried.
        """
        versions.expect(self._entry(object)[1], version)

    async def resource(self, kind: type[T]) -> T:
        """What the store's own library calls the transaction: SQL's `AsyncConnection` or `AsyncSession`, for example.

        It is in this unit's transaction, which it counts as written. Raises `Unsupported` where no backend has one.
        """
        self.check()
        for backend in self._backends or tuple(self._sessions):
            session = self.session(backend)
            for name in RESOURCES:
                found = await resource(session.open(), name)
                if isinstance(found, kind):
                    session.claim()
                    return found
        raise Unsupported(type(self).__name__, f"no backend of this unit has a {kind.__name__}")

    # What hooks and subclasses use.

    @property
    def unit(self) -> Unit:
        """The unit itself, as `Joined.unit` gives it."""
        return self

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open on a store."""
        return any(s.execution is not None and s.execution.begun for s in self._sessions.values())

    @property
    def backends_written(self) -> tuple[Backend, ...]:
        """The backends that this transaction writes to; also in `after_commit`."""
        return tuple(backend for backend, session in self._sessions.items() if session.written)

    def execution(self, backend: Backend) -> Execution:
        """The unit's transaction on `backend`, for statements of a hook's own."""
        self.check()
        return self.session(backend).open()

    def claim_write(self, backend: Backend) -> None:
        """Called before the first write to `backend` in a transaction; raising refuses it. A subclass may override."""
        if self.options.read_only:
            raise ReadOnlyUnit(f"this unit only reads, and something is to be written to {backend.name!r}")

    def claim_lock(self, asked: str) -> None:
        """Called before aggregates are locked; raises `LockTooLate` where the unit has begun."""
        if self.options.isolation is not None:
            raise UnitError(f"{asked} is to be locked, which has an isolation of its own: leave `isolation=` out")
        if any(session.execution is not None for session in self._sessions.values()):
            raise LockTooLate(asked)

    def reads_only(self, backend: Backend) -> bool:
        """Whether `backend` is opened for reading: untracked, and without a writer's lock. A subclass may override."""
        return self.options.read_only

    # What sessions and repositories ask.

    def session_for(self, backend: Backend) -> UnitSession | None:
        """The session on `backend`, of this unit or of one around it; None for another task."""
        if running_task() is not self._owner:
            return None
        if self._open and self.joins((backend,)):
            return self.session(backend)
        return None if self.outer is None else self.outer.session_for(backend)

    def check(self) -> None:
        """Raises `UnitClosed`, `ConcurrentUnitUse` and `UnitAborted`."""
        self._check_use()
        if self._aborted is not None:
            reason, cause = self._aborted
            raise UnitAborted(f"{reason}: nothing more can run in this unit, leave it or roll it back") from cause

    def abort(self, reason: str, cause: BaseException | None = None) -> None:
        """Let nothing more run in this transaction; the first reason counts."""
        if self._aborted is None:
            self._aborted = (reason, cause)

    def owned_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether `task` entered this unit."""
        return task is not None and task is self._owner

    @property
    def running(self) -> bool:
        """Whether its block is open. One that was left in another task's context may still stand in this one."""
        return self._open

    @property
    def healthy(self) -> bool:
        """Whether nothing has aborted the transaction."""
        return self._aborted is None

    @property
    def stored(self) -> int:
        """How many operations and set-based statements this transaction has stored."""
        return sum(len(session.operations) + session.statements for session in self._sessions.values())

    @property
    def pending(self) -> int:
        """How many operations a flush would store."""
        return sum(len(session.pending()) for session in self._sessions.values())

    def session(self, backend: Backend) -> UnitSession:
        """The session on a backend that this unit covers. Raises `UnitError` for another one."""
        session = self._sessions.get(backend)
        if session is None:
            if not self.joins((backend,)):
                raise UnitError(f"this unit does not cover the backend {backend.name!r}: declare a repository of it")
            session = UnitSession(self, backend, tracking=not self.reads_only(backend))
            self._sessions[backend] = session
        return session

    def _entry(self, object: Model) -> tuple[UnitSession, Entry]:
        self.check()
        for session in self._sessions.values():
            entry = session.map.entry(object)
            if entry is not None:
                return session, entry
        raise ForeignObject(f"this unit does not hold {named(object)}: load it in this unit first")

    def _check_use(self) -> None:
        if not self._open:
            raise UnitClosed("the block of this unit of work was left: open a new one with `async with`")
        task = running_task()
        if task is not self._owner:
            assert self._owner is not None, "a unit is open only after it was entered"
            raise ConcurrentUnitUse(self._owner, task)

    async def _let_hooks_take_part(self) -> None:
        changes = tuple(operation for session in self._sessions.values() for operation in session.operations)
        for hook in self._hooks:
            try:
                await hook.before_commit(self, changes)
            except BaseException as error:
                self.abort("a hook refused the commit", error)
                raise
        await self.flush()

    async def _commit_sessions(self) -> None:
        done: list[str] = []
        for backend, session in self._sessions.items():
            try:
                await session.commit()
            except BaseException as error:
                if done:
                    error.add_note(f"already committed: {', '.join(done)}")
                raise
            done.append(backend.name)

    async def _undo(self) -> None:
        interrupted: asyncio.CancelledError | None = None
        for session in self._sessions.values():
            try:
                await session.rollback()
            except asyncio.CancelledError as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def _operations(self) -> tuple[Operation, ...]:
        return tuple(
            operation for session in self._sessions.values() for operation in (*session.operations, *session.pending())
        )

    def _left_over(self) -> list[str]:
        try:
            left = [described(operation) for operation in self._operations()]
        except OwnershipError as error:
            left = [str(error)]
        return left + [
            f"{session.statements} set-based statements on {backend.name!r}"
            for backend, session in self._sessions.items()
            if session.statements
        ]


class Joined:
    """The part of a unit of work that was entered while `unit` was running: it can mark its work, and doom the whole."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._marked = 0

    async def enter(self) -> None:
        """Store what the outer unit changed so far, so that what comes is this part's."""
        await self.unit.flush()
        self._marked = self.unit.stored

    async def commit(self) -> None:
        """Store what changed, for the outer unit to commit."""
        self.unit.check()
        await self.unit.flush()
        self._marked = self.unit.stored

    async def rollback(self) -> None:
        """Doom the outer unit: a part of a transaction cannot be undone."""
        self.unit.check()
        self.unit.abort("a unit of work that had joined this one was rolled back")

    async def leave(self, error: BaseException | None) -> None:
        """End the block: doom the outer unit if it failed, or dropped changes."""
        if error is not None:
            self.unit.abort("a unit of work that had joined this one failed", error)
        elif self.unit.healthy and self.unit.stored + self.unit.pending != self._marked:
            self.unit.abort("a unit of work that had joined this one changed something and was left without commit()")


def running_unit_over(backends: Iterable[Backend]) -> Unit | None:
    """The innermost running unit of this task that covers all of `backends`."""
    unit = current_unit()
    while unit is not None and not unit.joins(backends):
        unit = unit.outer
    return unit


async def take_part(backends: Sequence[Backend], options: Options) -> Unit | Joined:
    """Join the running unit that covers `backends`, or enter a new one."""
    running = running_unit_over(backends)
    if running is None:
        unit = Unit(backends, options=options)
        unit.enter()
        return unit
    if options.isolation is not None or options.timeout is not None:
        raise UnitError("a unit that joins a running one has its isolation and its time: leave these options out")
    joined = Joined(running)
    await joined.enter()
    return joined


def current_unit() -> Unit | None:
    """The unit of the task that asks; None outside of one, and in tasks that were started inside it."""
    unit = current.get()
    if not isinstance(unit, Unit) or not unit.owned_by(asyncio.current_task()):
        return None
    return unit if unit.running else unit.outer


def running_task() -> asyncio.Task[Any]:
    """The task that asks. Raises `UnitError` outside of one."""
    task = asyncio.current_task()
    if task is None:
        raise UnitError("a unit of work belongs to a task: enter it inside a coroutine that a task runs")
    return task

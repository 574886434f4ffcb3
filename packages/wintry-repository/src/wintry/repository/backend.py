"""Where a repository meets a store, and a unit of work meets both.

A `Backend` compiles plans, loads and writes aggregates; every statement runs on an `Execution`, one transaction on one
backend that begins at its first statement. A `Session` decides which execution a repository's call runs on and which
object it hands out. There are two: a unit of work's, found through the context variable `current`, and `OneCall`,
the transaction of a single call outside any unit. Repositories know only the protocol.

Outside a unit nothing tracks a loaded object; what `update(entity=)` needs to be a minimal, guarded write is remembered
beside the object, weakly and by its identity (`Remembered`): its version and its snapshot. Each backend keeps its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias, runtime_checkable

from wintry.models import info
from wintry.models.tracking import Snapshot, snapshot

from .cancellation import raise_put_off
from .errors import RepositoryError, Unsupported

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.models.tracking import ChangeSet

    from .plan import QueryPlan


class Missing(Enum):
    """What an identity map answers when it has no object to give."""

    UNKNOWN = "unknown"
    """Nothing is known of this id."""
    DELETED = "deleted"
    """The object was deleted in this unit."""


LOCKED: Final = "locked"
"""The isolation of an execution that waits for what others have locked, and sees what they stored."""

UNKNOWN: Final = Missing.UNKNOWN
DELETED: Final = Missing.DELETED


@dataclass(frozen=True, slots=True)
class Insert:
    """Store a new aggregate; its version becomes 1."""

    object: Model


@dataclass(frozen=True, slots=True)
class Update:
    """Store `changes` of the aggregate that is stored at version `expected`; its version becomes `becomes`.

    An empty change set bumps the version alone. Without `bump` the version stays: this transaction moved it before.
    """

    object: Model
    changes: ChangeSet
    expected: int
    bump: bool = True

    @property
    def becomes(self) -> int:
        """The version that is stored with the changes."""
        return self.expected + self.bump


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an aggregate with all its children; guarded by its version unless `expected` is None."""

    model: type[Model]
    id: Any
    expected: int | None = None


Operation: TypeAlias = Insert | Update | Delete


@runtime_checkable
class Execution(Protocol):
    """One transaction on one backend; nothing is opened before its first statement.

    Attributes of the kinds of store: `connection`, `session` and `driver` on SQL, `store` in memory.
    """

    @property
    def read_only(self) -> bool:
        """Whether it may only read."""
        ...

    @property
    def begun(self) -> bool:
        """Whether the store has begun the transaction."""
        ...

    async def commit(self) -> None:
        """Make it durable and close it. Raises `Conflict`, `AlreadyExists`, `UnitAborted`, `Unreachable`."""
        ...

    async def rollback(self) -> None:
        """Undo all of it and close it; safe at any time, also twice."""
        ...

    async def close(self) -> None:
        """Roll back what is still open and give the connection back."""
        ...


class CompiledQuery(Protocol):
    """A plan in the form that its backend runs."""

    async def run(self, execution: Execution, values: tuple[Any, ...]) -> Any:
        """Run it. find: a sequence of (object, version) in order; count and delete: int; exists: bool."""
        ...


class Backend(Protocol):
    """A store. It names itself, compiles plans, and is the only reader of aggregates and of change sets."""

    @property
    def name(self) -> str:
        """The name it was given first, such as "default"."""
        ...

    @property
    def kind(self) -> str:
        """memory, sqlite, postgresql, mongodb, or a third party's own."""
        ...

    @property
    def remembered(self) -> Remembered:
        """What is known of objects that were loaded outside a unit; made by the backend, `Remembered()`."""
        ...

    def bind(self, model: type[Model]) -> None:
        """A repository of `model` exists: its tables belong to the schema. Idempotent.

        Raises `DefinitionError` for a Model that this store cannot hold, `Unsupported` for one that inherits its identity.
        """
        ...

    def compile(self, plan: QueryPlan) -> CompiledQuery:
        """Prepare a plan. Raises `Unsupported` at once for what this store cannot do."""
        ...

    def execution(
        self, *, read_only: bool = False, isolation: str | None = None, timeout: float | None = None
    ) -> Execution:
        """A transaction that is not begun yet; `timeout` in seconds.

        A read-only one with the isolation "autocommit" need not bind two statements together. One with the isolation
        `LOCKED` is for `lock`. Every backend takes both.
        """
        ...

    async def lock(self, execution: Execution, model: type[Model], ids: Sequence[Any]) -> None:
        """Keep others from changing the roots of these ids until the transaction ends, if the store can.

        `execution` is of the isolation `LOCKED`. What it loads afterwards is what the last holder of the locks stored.
        Whoever cannot wait there is told `Conflict` when it stores, as ever.
        """
        ...

    async def load(self, execution: Execution, model: type[Model], ids: Sequence[Any]) -> Sequence[tuple[Model, int]]:
        """Whole aggregates and their versions by id, in the order of `ids`; what is not there is left out."""
        ...

    async def write(self, execution: Execution, operations: Sequence[Operation]) -> None:
        """Store the operations. Raises `ConcurrentModification`, `AlreadyExists`, `InvalidValue`."""
        ...

    async def create_schema(self) -> None:
        """Create what is missing of tables and indexes for all that is bound; alters and drops nothing."""
        ...

    async def open(self) -> None:
        """Prepare connections. Raises `Unreachable`."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...

    async def check(self) -> None:
        """Ask the store for a sign of life. Raises `Unreachable`."""
        ...


class Session(Protocol):
    """What the calls of repositories on one backend belong to: a unit of work there, or a single call."""

    @property
    def backend(self) -> Backend:
        """The backend that it runs on."""
        ...

    @property
    def tracking(self) -> bool:
        """False: objects are handed out as loaded, no snapshots are taken, `loaded` need not be called."""
        ...

    async def begin(self) -> Execution:
        """The open execution. Raises the unit's errors of misuse, and `UnitAborted`."""
        ...

    async def before_read(self, models: frozenset[type[Model]]) -> None:
        """Called before a query reads `models`: changes of them that are not stored yet are stored now."""
        ...

    def known(self, model: type[Model], id: Any) -> Model | Missing:
        """The identity map: the object, `DELETED`, or `UNKNOWN`."""
        ...

    def loaded(self, object: Model, version: int, snapshot: Snapshot) -> Model | None:
        """A row was loaded; gives the object to hand out, None where the unit has deleted it."""
        ...

    async def lock(self, model: type[Model], ids: Sequence[Any]) -> None:
        """Wait until the aggregates of these ids are this session's alone. Raises the unit's errors of misuse."""
        ...

    def missed(self, model: type[Model], sought: Any) -> None:
        """An id, or a mapping of unique fields to values, was looked for and is not there."""
        ...

    def version(self, object: Model) -> int | None:
        """The version at which `object` is tracked here; None where it is not."""
        ...

    def added(self, object: Model) -> None:
        """`object` is new: store it."""
        ...

    def removed(self, object: Model) -> None:
        """`object` goes: delete it."""
        ...

    def guard(self, object: Model, stored: Model) -> None:
        """`object` speaks for the row of `stored`, which is tracked here. Raises `ConcurrentModification` where it was
        loaded or stored outside and the row has moved since."""
        ...

    def merge(self, object: Model, stored: Model) -> None:
        """Put what changed in `object` into `stored`, guarded as by `guard`: since it was loaded or stored outside, or
        was last merged here; of one that was built, all that differs."""
        ...

    def writes(self) -> None:
        """A set-based statement is about to run on this backend."""
        ...

    def evict(self, model: type[Model]) -> None:
        """A set-based statement has run on `model`: what is known of its objects may be old."""
        ...

    async def finish(self) -> None:
        """The call that asked for this session is done."""
        ...


class SessionProvider(Protocol):
    """What `current` holds: a running unit of work."""

    def session_for(self, backend: Backend) -> Session | None:
        """The unit's session on `backend`; None where it has none for it, or where another task asks."""
        ...


current: ContextVar[SessionProvider | None] = ContextVar("wintry.repository.current", default=None)
"""The unit of work that runs in this context, if one does."""


class Remembered:
    """Version and snapshot of objects, by identity, for as long as the objects live.

    The Model's own equality and hash are never asked: two objects of one id are two entries. A snapshot begins with the
    object that it was taken of; that item is left out here and put back by `get`, so that nothing keeps the object.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Model], int, list[Any]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, object: Model, version: int, snapshot: Snapshot) -> None:
        """Remember, in place of what was remembered of it before."""
        key = id(object)
        entries = self._entries

        def gone(_: weakref.ref[Model], key: int = key) -> None:
            entries.pop(key, None)

        entries[key] = (weakref.ref(object, gone), version, snapshot.items[1:])

    def get(self, object: Model) -> tuple[int, Snapshot] | None:
        """Version and snapshot of `object`; None where it is not known."""
        entry = self._entries.get(id(object))
        if entry is None or entry[0]() is not object:
            return None
        return entry[1], Snapshot(type(object), [object, *entry[2]])

    def version(self, object: Model) -> int | None:
        """The version of `object`; None where it is not known."""
        entry = self._entries.get(id(object))
        return None if entry is None or entry[0]() is not object else entry[1]

    def forget(self, object: Model) -> None:
        """Drop what is known of `object`."""
        self._entries.pop(id(object), None)


class OneCall:
    """The session of a call outside any unit: a transaction of its own, committed by `finish`.

    Used with `async with`, which rolls back what was not finished. It has no identity map; what it loads and writes is
    remembered beside the objects, as they are when it is told of them: they may change while it waits for the store.
    """

    __slots__ = ("_execution", "_known", "_operations", "_read_only", "_removed", "_timeout", "backend", "tracking")

    def __init__(self, backend: Backend, *, read_only: bool = False, timeout: float | None = None) -> None:
        self.backend = backend
        self.tracking = True
        self._read_only = read_only
        self._timeout = timeout
        self._execution: Execution | None = None
        self._operations: list[Operation] = []
        self._known: list[tuple[Model, int, Snapshot]] = []
        self._removed: list[Model] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._execution is not None:
            await self._execution.close()

    async def begin(self) -> Execution:
        """The call's transaction."""
        if self._execution is None:
            # A call that reads makes one statement that is consistent by itself.
            isolation = "autocommit" if self._read_only else None
            self._execution = self.backend.execution(
                read_only=self._read_only, isolation=isolation, timeout=self._timeout
            )
        return self._execution

    async def before_read(self, models: frozenset[type[Model]]) -> None:
        """Nothing is waiting to be stored."""

    def known(self, model: type[Model], id: Any) -> Missing:
        """Nothing is known: there is no identity map outside a unit."""
        return UNKNOWN

    def loaded(self, object: Model, version: int, snapshot: Snapshot) -> Model:
        """Remember what `update` will need, and hand out the object as it is."""
        self.backend.remembered.put(object, version, snapshot)
        return object

    async def lock(self, model: type[Model], ids: Sequence[Any]) -> None:
        """Raises `RepositoryError`: nothing follows in this transaction that a lock could guard."""
        raise RepositoryError("a lock lasts as long as a unit of work, and this is a single call")

    def missed(self, model: type[Model], sought: Any) -> None:
        """Of no interest: nothing follows in this transaction."""

    def version(self, object: Model) -> int | None:
        """The version that `object` was last loaded or written at."""
        return self.backend.remembered.version(object)

    def added(self, object: Model) -> None:
        """`object` is inserted by `finish`."""
        self._operations.append(Insert(object))
        self._known.append((object, 1, snapshot(object)))

    def changed(self, object: Model, changes: ChangeSet, expected: int) -> None:
        """`changes` of `object` are stored by `finish`."""
        update = Update(object, changes, expected)
        self._operations.append(update)
        self._known.append((object, update.becomes, snapshot(object)))

    def removed(self, object: Model) -> None:
        """`object` is deleted by `finish`, guarded by its version where that is known."""
        model = type(object)
        self._operations.append(Delete(model, info(model).id_of(object), self.version(object)))
        self._removed.append(object)

    def guard(self, object: Model, stored: Model) -> None:
        """Raises `RepositoryError`: nothing is tracked here."""
        raise RepositoryError("a single call tracks nothing that another object could speak for")

    def merge(self, object: Model, stored: Model) -> None:
        """Raises `RepositoryError`: nothing is tracked here."""
        self.guard(object, stored)

    def writes(self) -> None:
        """The call may write."""

    def evict(self, model: type[Model]) -> None:
        """There is no identity map to empty."""

    async def finish(self) -> None:
        """Write what was added, changed and removed, commit, and remember the new versions."""
        if self._operations:
            await self.backend.write(await self.begin(), self._operations)
        if self._execution is not None:
            await self._execution.commit()
        self._remember()
        await raise_put_off()

    def _remember(self) -> None:
        remembered = self.backend.remembered
        for object, version, state in self._known:
            remembered.put(object, version, state)
        for object in self._removed:
            remembered.forget(object)


def refuse_subclass(model: type[Model]) -> None:
    """Raises `Unsupported` where `model` has its identity from another stored class: no backend tells the two apart."""
    about = info(model)
    if about.root is not model:
        root = about.root.__name__
        raise Unsupported(
            about.place,
            f"it has its identity from {root}, and no store keeps the classes of one identity apart yet",
            f"make a repository of {root}, or put what both have into a Model without an id field and derive both from it",
        )


def running(backend: Backend) -> Session | None:
    """The session of the unit of work that this call belongs to, if there is one for `backend`."""
    provider = current.get()
    return None if provider is None else provider.session_for(backend)


Options: TypeAlias = Mapping[str, Any]
"""Connection options by name, as a backend's factory gets them."""

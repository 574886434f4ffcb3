"""Where a repository meets a store, and a unit of work meets both.

A `Backend` compiles plans, loads and writes aggregates; every statement runs on an `Execution`, one transaction on one
backend that begins at its first statement. A `Session` decides which execution a repository's call runs on and which
object it hands out. There are two: a unit of work's, found through the context variable `current`, and `OneCall`,
the transaction of a single call outside any unit. Repositories know only the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

from wintry.models import info

from .errors import Unsupported

if TYPE_CHECKING:
    from wintry.models import Model
    from wintry.models.tracking import ChangeSet, Snapshot

    from .plan import QueryPlan
    from .remembered import Remembered


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

    Attributes of the kinds of store: `connection`, `session` and `driver` on SQL, `client_session` on MongoDB, `store` in
    memory.
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


class SessionProvider(Protocol):
    """What `current` holds: a running unit of work."""

    def session_for(self, backend: Backend) -> Session | None:
        """The unit's session on `backend`; None where it has none for it, or where another task asks."""
        ...


current: ContextVar[SessionProvider | None] = ContextVar("wintry.repository.current", default=None)
"""The unit of work that runs in this context, if one does."""


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


async def resource(execution: Execution, name: str) -> Any:
    """What the store's own library calls the transaction, by the attribute that holds it; None where there is none."""
    begin = getattr(execution, "begin", None)
    if begin is not None:
        await begin()
    return getattr(execution, name, None)


def running(backend: Backend) -> Session | None:
    """The session of the unit of work that this call belongs to, if there is one for `backend`."""
    provider = current.get()
    return None if provider is None else provider.session_for(backend)


Options: TypeAlias = Mapping[str, Any]
"""Connection options by name, as a backend's factory gets them."""

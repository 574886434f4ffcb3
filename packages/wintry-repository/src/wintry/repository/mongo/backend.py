"""The MongoDB backend: one database, a collection for each root, and the rooms that work on it.

`bind` settles how a root becomes a document (`documents`) and which indexes it needs (`schema`), `compile` turns a plan
into a filter (`compile`), `load` and `write` move whole aggregates (`load`, `write`), and `execution` makes the
transaction that all of them run on (`session`). Which driver it is, only `client` knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError

from ..backend import LOCKED, Execution, Operation, Options, refuse_subclass
from ..errors import ConfigurationError, DefinitionError, StoreError, Unreachable, Unsupported
from ..remembered import Remembered
from . import schema
from .client import Client
from .compile import MongoQuery
from .documents import Documents
from .load import Loaded, load
from .session import STANDALONE, MongoExecution, translate
from .write import Flush

if TYPE_CHECKING:
    from wintry.models import Model

    from ..backend import CompiledQuery
    from ..plan import QueryPlan


class MongoBackend:
    """A database of MongoDB as a `Backend`."""

    kind = "mongodb"

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self.client = client
        self.remembered = Remembered()
        self._documents: dict[type[Model], Documents] = {}
        self._indexes: dict[type[Model], tuple[schema.Index, ...]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.busy: dict[MongoExecution, asyncio.Task[Any] | None] = {}
        """The executions that have a statement under way, and the tasks that wait for it."""

    def __str__(self) -> str:
        return f"backend {self.name!r} ({self.kind}, {self.client})"

    def bind(self, model: type[Model]) -> None:
        """The root `model` is stored here. Raises `DefinitionError`, `Unsupported`."""
        if model in self._documents:
            return
        refuse_subclass(model)
        documents = Documents(model)
        for other in self._documents.values():
            if other.name == documents.name:
                place = f"{model.__module__}.{model.__qualname__}"
                raise DefinitionError(
                    place,
                    f"it needs the collection {other.name!r}, which {other.info.place} has",
                    "rename one of the two",
                )
        self._indexes[model] = schema.indexes(documents)
        self._documents[model] = documents

    def documents(self, model: type[Model]) -> Documents:
        """How the root `model` is stored, bound if it is not yet."""
        self.bind(model)
        return self._documents[model]

    def indexes(self, model: type[Model]) -> tuple[schema.Index, ...]:
        """The indexes of the root `model`."""
        self.bind(model)
        return self._indexes[model]

    def collection(self, name: str) -> Any:
        """The driver's collection of this name. Raises `StoreError` where the backend is not open."""
        if self.client.database is None:
            raise StoreError(f"{self} is not open")
        return self.client.database[name]

    def compile(self, plan: QueryPlan) -> CompiledQuery:
        """The filter for a plan. Raises `Unsupported`."""
        return MongoQuery(plan, self.documents(plan.model))

    def execution(
        self, *, read_only: bool = False, isolation: str | None = None, timeout: float | None = None
    ) -> MongoExecution:
        """A transaction that is not begun yet.

        `isolation`: None is a snapshot; "autocommit", of a read-only execution, lets each statement stand for itself.
        `timeout` in seconds bounds the whole. Raises `Unsupported` for another isolation.
        """
        if isolation not in (None, "snapshot", "autocommit", LOCKED):
            raise Unsupported(str(self), f"there is no isolation {isolation!r}", "transactions see a snapshot here")
        return MongoExecution(
            self, read_only=read_only, autocommit=read_only and isolation == "autocommit", timeout=timeout
        )

    async def lock(self, execution: Execution, model: type[Model], ids: Sequence[Any]) -> None:
        """The server has no lock that is waited for: another process's write is a `Conflict`."""

    async def load(self, execution: Execution, model: type[Model], ids: Sequence[Any]) -> Sequence[Loaded]:
        """Whole aggregates and their versions by id, in the order of `ids`; what is not there is left out."""
        assert isinstance(execution, MongoExecution), "an execution of this backend"
        return await load(execution, self.documents(model), ids)

    async def write(self, execution: Execution, operations: Sequence[Operation]) -> None:
        """Store `operations`. Raises `ConcurrentModification`, `AlreadyExists`, `InvalidValue`."""
        assert isinstance(execution, MongoExecution), "an execution of this backend"
        flush = Flush(self, execution)
        for operation in operations:
            flush.add(operation)
        await flush.run()

    async def open(self) -> None:
        """Connect. Raises `Unreachable`, and `ConfigurationError` for a server without transactions."""
        self.client.open()
        try:
            hello = await self._hello()
        except BaseException:
            await self.client.close()
            raise
        if not hello.get("setName") and hello.get("msg") != "isdbgrid":
            await self.client.close()
            raise ConfigurationError(f"{self}: {STANDALONE}")

    async def close(self) -> None:
        """Close every connection, after what is being rolled back is."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.client.close()

    async def create_schema(self) -> None:
        """Create the collections and indexes that are missing; alters and drops nothing.

        Raises `ConfigurationError` where an index is there and differs.
        """
        try:
            await schema.create(
                self.client, [(documents, self._indexes[model]) for model, documents in self._documents.items()]
            )
        except PyMongoError as error:
            raise translate(error, str(self)) from error

    async def check(self) -> None:
        """Ask the server for a sign of life. Raises `Unreachable`."""
        if self.client.database is None:
            raise Unreachable(f"{self} is not open")
        await self._hello()

    async def _hello(self) -> dict[str, Any]:
        try:
            # A primary: what a unit will need.
            found: dict[str, Any] = await self.client.database.command("hello")
            return found
        except PyMongoError as error:
            meant = translate(error, str(self))
            if isinstance(meant, ConfigurationError):
                raise meant from error
            raise Unreachable(str(meant)) from error

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a task that nobody's cancellation stops; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def open_backend(name: str, url: str, options: Options) -> MongoBackend:
    """The backend of a URL `mongodb://…` or `mongodb+srv://…`. Nothing is opened yet.

    Options: `database` (where the URL names none), `client` ("pymongo" or "motor"), `pool_size`, `acquire_timeout` and
    `connect_timeout` in seconds. Raises `ConfigurationError`.
    """
    return MongoBackend(name, Client(name, url, options))

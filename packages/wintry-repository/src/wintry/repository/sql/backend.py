"""The SQL backend: one database, its tables, and the rooms that work on it.

`bind` lays out the tables of a root (`layout`), `compile` turns a plan into a prebuilt statement (`compile`), `load`
and `write` move whole aggregates (`load`, `write`), and `execution` makes the transaction that all of them run on
(`session`). What differs from one database to the next is behind `dialects`.

The schema is made when `create_schema` is called, never by itself: `Backends` calls it before the first use of what
was bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ..backend import LOCKED, Execution, Operation, refuse_subclass
from ..errors import StoreError, Unreachable, Unsupported
from ..remembered import Remembered
from . import schema
from .compile import compile_plan
from .dialects.protocol import Dialect
from .layout import Node, lay_out
from .load import Loaded, Loader, Reader
from .session import SqlExecution
from .write import AggregateWriter, Flush

if TYPE_CHECKING:
    from wintry.models import Model

    from ..backend import CompiledQuery
    from ..plan import QueryPlan


T = TypeVar("T")


class SqlBackend:
    """A SQL database as a `Backend`. `metadata` holds its tables; put others there to have them created as well."""

    def __init__(self, name: str, dialect: Dialect) -> None:
        self.name = name
        self.dialect = dialect
        self.metadata = sa.MetaData()
        self.remembered = Remembered()
        self._roots: dict[type[Model], Node] = {}
        self._readers: dict[Node, Reader] = {}
        self._loaders: dict[Node, Loader] = {}
        self._writers: dict[Node, AggregateWriter] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def kind(self) -> str:
        """The database: "sqlite", "postgresql"."""
        return self.dialect.kind

    def __str__(self) -> str:
        return f"backend {self.name!r} ({self.kind}, {self.dialect})"

    def bind(self, model: type[Model]) -> None:
        """Lay out the tables of the root `model`. Raises `DefinitionError`, `Unsupported`."""
        if model not in self._roots:
            refuse_subclass(model)
            root = lay_out(model, self.metadata, self.dialect.types, self.dialect.table_options)
            self._roots[model] = root

    def layout(self, model: type[Model]) -> Node:
        """The tables of the root `model`, bound if it is not yet."""
        self.bind(model)
        return self._roots[model]

    def reader(self, model: type[Model]) -> Reader:
        """How aggregates of the root `model` are read."""
        root = self.layout(model)
        reader = self._readers.get(root)
        if reader is None:
            reader = self._readers[root] = Reader(root, self.dialect.expressions)
        return reader

    def writer(self, model: type[Model]) -> AggregateWriter:
        """How aggregates of the root `model` are written."""
        root = self.layout(model)
        writer = self._writers.get(root)
        if writer is None:
            writer = self._writers[root] = AggregateWriter(root, self)
        return writer

    def compile(self, plan: QueryPlan) -> CompiledQuery:
        """The prebuilt statement for a plan. Raises `Unsupported`."""
        return compile_plan(plan, self.reader(plan.model), self.dialect.compiler, self.dialect.expressions)

    def execution(
        self, *, read_only: bool = False, isolation: str | None = None, timeout: float | None = None
    ) -> SqlExecution:
        """A transaction that is not begun yet.

        `isolation`: None is the database's snapshot; "autocommit", of a read-only execution, lets each statement stand
        for itself. `timeout` in seconds bounds the whole. Raises `Unsupported` for another isolation.
        """
        known = self.dialect.isolations
        if isolation not in (None, "autocommit", LOCKED, *known):
            raise Unsupported(str(self), f"there is no isolation {isolation!r}", f"there is: {', '.join(known)}")
        autocommit = read_only and isolation == "autocommit"
        begin = None if autocommit else self.dialect.begin(read_only=read_only, isolation=isolation, timeout=timeout)
        return SqlExecution(self, begin, read_only=read_only, timeout=timeout)

    async def lock(self, execution: Execution, model: type[Model], ids: Sequence[Any]) -> None:
        """Lock the rows of these roots, in the order of their ids, where writers do not wait for one another anyway."""
        assert isinstance(execution, SqlExecution), "an execution of this backend"
        if self.dialect.locks:
            await self._loader(model).lock(execution, ids)

    async def load(self, execution: Execution, model: type[Model], ids: Sequence[Any]) -> Sequence[Loaded]:
        """Whole aggregates and their versions by id, in the order of `ids`; what is not there is left out."""
        assert isinstance(execution, SqlExecution), "an execution of this backend"
        return await self._loader(model).load(execution, ids)

    def _loader(self, model: type[Model]) -> Loader:
        root = self.layout(model)
        loader = self._loaders.get(root)
        if loader is None:
            loader = Loader(self.reader(model), self.dialect.compiler, self.dialect.expressions)
            self._loaders[root] = loader
        return loader

    async def write(self, execution: Execution, operations: Sequence[Operation]) -> None:
        """Store `operations`. Raises `ConcurrentModification`, `AlreadyExists`, `InvalidValue`."""
        assert isinstance(execution, SqlExecution), "an execution of this backend"
        flush = Flush(self, execution)
        for operation in operations:
            flush.add(operation)
        await flush.run()

    async def open(self) -> None:
        """Open the database. Raises `Unreachable`."""
        await self.dialect.open()

    async def close(self) -> None:
        """Close every connection, after what is being rolled back is."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.dialect.close()

    async def create_schema(self) -> None:
        """Create the tables and indexes that are missing. Raises `SchemaMismatch` where one is there and differs."""
        await self._administer(schema.create, read_only=False)

    async def schema_diff(self) -> list[str]:
        """What the database lacks or has otherwise, one line each; empty where it fits."""
        return await self._administer(schema.diff, read_only=True)

    async def _administer(self, work: Callable[[sa.Connection, sa.MetaData], T], *, read_only: bool) -> T:
        begin = self.dialect.begin(read_only=read_only, schema=not read_only)
        execution = SqlExecution(self, begin, read_only=read_only)
        try:
            await execution.begin()
            result = await execution.connection.run_sync(work, self.metadata)
            await execution.commit()
        except SQLAlchemyError as error:
            raise self.translate(error) from error
        finally:
            await execution.close()
        return result

    async def check(self) -> None:
        """Ask the database for a sign of life. Raises `Unreachable`."""
        execution = SqlExecution(self, None, read_only=True)
        try:
            await execution.fetch("SELECT 1", ())
        except Unreachable:
            raise
        except StoreError as error:
            raise Unreachable(str(error)) from error
        finally:
            await execution.close()

    def translate(self, error: Exception) -> Exception:
        """The error of the taxonomy that an error of SQLAlchemy or of the driver means."""
        original = getattr(error, "orig", None)
        return self.dialect.translate(original if isinstance(original, Exception) else error)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a task that nobody's cancellation stops; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def open_backend(name: str, url: str, options: Mapping[str, Any]) -> SqlBackend:
    """The backend of a URL `sqlite:///…` or `postgresql://…`, with a driver's name or without. Nothing is opened yet.

    Options: those of the dialect. Raises `ConfigurationError`.
    """
    # Each needs a driver that the other's installation lacks.
    if url.startswith("sqlite"):
        from .dialects.sqlite import SQLite

        return SqlBackend(name, SQLite(url, options))
    from .dialects.postgresql import PostgreSQL

    return SqlBackend(name, PostgreSQL(url, options))

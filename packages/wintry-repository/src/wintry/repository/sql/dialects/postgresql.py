"""PostgreSQL through asyncpg: one pool, units on a snapshot, statements straight to the driver.

SQLAlchemy pools the connections, compiles, and is told AUTOCOMMIT, so that its own transaction sends nothing; the real
one is begun and ended here, by statements on the driver's connection (`begin`, `send`, `undo`). What goes through
SQLAlchemy's session and what goes to the driver run on one connection, so both are in it.

A unit begins at REPEATABLE READ: it sees one snapshot, and writing what another changed meanwhile is a `Conflict`. One
that locks begins at READ COMMITTED and locks in a statement of its own: the next one sees what the last holder stored,
where a single statement would have taken its snapshot before it waited, and find the root of today with children of
yesterday. Queues are for "read committed" as well: each statement sees what is committed when it begins. Rows
of one statement are pipelined (`executemany`, `fetchmany`): a flush is one round trip for each table and kind of
change. What was cancelled is cancelled on the server too; asyncpg does it, and what comes next on the connection waits
for that. A time limit is kept twice, by the driver's deadline and by `statement_timeout`, for what SQLAlchemy sends.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Final

import asyncpg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from ...backend import LOCKED
from ...errors import ConfigurationError, Conflict, StoreError, UnitAborted, UnitTimeout, Unreachable
from ...options import number
from ..statements import Refused, Row, Step
from .pool import ShortWay
from .postgresql_expressions import PostgreSQLExpressions

_SCHEMA_LOCK: Final = 0x77696E7472790001  # whoever makes tables in a database waits for whoever does already
_UNDO_PATIENCE: Final = 2.0  # seconds that a ROLLBACK may take before the connection is closed instead
# Who waited for a lock must see what its holder stored, so that each statement needs a snapshot of its own.
_LEVELS: Final[Mapping[str | None, str]] = MappingProxyType(
    {"serializable": "SERIALIZABLE", "read committed": "READ COMMITTED", LOCKED: "READ COMMITTED"}
)

_CONFLICTS: Final = MappingProxyType(
    {
        "40001": "another transaction changed the same rows",
        "40P01": "two transactions waited for each other",
        "55P03": "another transaction holds a lock",
    }
)
_AWAY: Final = ("08", "28", "3D", "53", "57P", "58")
"""Classes and codes of SQL states that speak of the server or the way to it: connection, login, database, resources."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg comes without types
    """A connection that knows until when its statements may run."""

    __slots__ = ("deadline",)

    def remaining(self) -> float | None:
        """The seconds that a statement has; None: as many as it wants."""
        deadline: float | None = self.deadline
        if deadline is None:
            return None
        return max(deadline - asyncio.get_running_loop().time(), 0.001)


class PostgreSQL:
    """One database of PostgreSQL: its types, its connections, and how statements run there.

    Options: `pool_size` (connections, 10), `acquire_timeout` (seconds that a unit waits for one, 30), `connect_timeout`
    (seconds, 10), `statement_cache` (prepared statements of a connection, 1000; 0 behind PgBouncer).
    """

    kind = "postgresql"
    isolations = ("snapshot", "serializable", "read committed")
    remote = True
    locks = True
    expressions = PostgreSQLExpressions()
    table_options: Mapping[str, Any] = MappingProxyType({})
    types: Mapping[type, sa.types.TypeEngine[Any]] = MappingProxyType(
        {
            str: sa.Text(collation="C"),
            int: sa.BigInteger(),
            float: postgresql.DOUBLE_PRECISION(),
            bool: sa.Boolean(),
            date: sa.Date(),
            datetime: postgresql.TIMESTAMP(timezone=True),
            list: postgresql.JSONB(),
        }
    )

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        known = {"pool_size": 10, "acquire_timeout": 30.0, "connect_timeout": 10.0, "statement_cache": 1000}
        if unknown := sorted(set(options) - set(known)):
            raise ConfigurationError(
                f"PostgreSQL has no option {', '.join(unknown)}: it has {', '.join(sorted(known))}"
            )
        values = {**known, **options}
        try:
            self._url = sa.make_url(url).set(drivername="postgresql+asyncpg")
        except (exc.ArgumentError, ValueError) as error:
            raise ConfigurationError("a URL of PostgreSQL is postgresql://user:password@host:port/database") from error
        self._pool_size = number("pool_size", values["pool_size"], 1)
        self._acquire_timeout = number("acquire_timeout", values["acquire_timeout"], 0.0)
        self._kept: list[sa.Connection] = []
        """Between two executions: out of the pool still, where giving and taking costs as much as a short statement."""
        self._keeping = True
        self._places = asyncio.Semaphore(self._pool_size)
        """Nobody waits in the pool, whose next connection goes to who asks just then, but here, in order."""
        self._holders: dict[sa.Connection, str] = {}
        cache = number("statement_cache", values["statement_cache"], 0)
        self._engine = create_async_engine(
            self._url,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._pool_size,
            max_overflow=0,
            pool_use_lifo=True,
            pool_reset_on_return=None,  # an execution leaves nothing open, and a ROLLBACK would be one more round trip
            isolation_level="AUTOCOMMIT",
            connect_args={
                "connection_class": Connection,
                "timeout": number("connect_timeout", values["connect_timeout"], 0.0),
                "statement_cache_size": cache,
                "max_cached_statement_lifetime": 0,
                "prepared_statement_cache_size": min(cache, 100),
                # Nested arrays look expensive to the planner, and compiling them takes longer than running them.
                "server_settings": {"application_name": "wintry", "jit": "off", "TimeZone": "UTC", "DateStyle": "ISO"},
            },
        )
        self._way = ShortWay(self._engine)

    def __str__(self) -> str:
        return f"{self._url.database or self._url.username} at {self._url.host or 'localhost'}:{self._url.port or 5432}"

    @property
    def compiler(self) -> sa.Dialect:
        """What SQLAlchemy compiles with."""
        return self._engine.dialect

    def engine(self, *, read_only: bool) -> AsyncEngine:
        """The pool, one for readers and writers."""
        return self._engine

    async def connect(self, *, read_only: bool) -> sa.Connection:
        """A connection that was alive when last heard of. Raises `Unreachable`, also where none comes free."""
        await self._place()
        try:
            connection = await self._alive()
        except BaseException:
            self._places.release()
            raise
        task = asyncio.current_task()
        self._holders[connection] = task.get_name() if task else "no task"
        return connection

    async def _place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._acquire_timeout):
                await self._places.acquire()
        except TimeoutError as error:
            raise Unreachable(self._exhausted()) from error

    async def _alive(self) -> sa.Connection:
        while True:
            connection = self._kept.pop() if self._kept else await self._checked_out()
            driver = connection.connection.driver_connection
            assert isinstance(driver, Connection), "connections are made of this class"
            if not driver.is_closed():
                return connection
            connection.invalidate()  # the server closed it while it was idle
            connection.close()

    async def _checked_out(self) -> sa.Connection:
        try:
            return await self._way.connect()
        except TimeoutError as error:
            raise Unreachable(f"{self} does not answer: see that the server runs and is reachable") from error

    def give_back(self, connection: sa.Connection, *, shared: bool) -> None:
        """Keep it for the next execution; one that others have seen goes to the pool, so that they have it no more."""
        self._holders.pop(connection, None)
        self._places.release()
        if connection.closed:
            return
        if not self._keeping:
            connection.invalidate()  # its pool is gone, and nobody would end it
        if shared or not self._keeping:
            connection.close()
            return
        if (transaction := connection.get_transaction()) is not None:
            transaction.close()  # the database has rolled back already
        self._kept.append(connection)

    def _exhausted(self) -> str:
        holders = sorted(self._holders.values())
        return (
            f"{self}: no connection came free within {self._acquire_timeout:g} s; all {self._pool_size} are held by"
            f" {', '.join(holders) or 'others'}: end units sooner, or raise pool_size"
        )

    def begin(
        self, *, read_only: bool, isolation: str | None = None, timeout: float | None = None, schema: bool = False
    ) -> str:
        """The statement that begins a transaction.

        One for the schema waits for its lock, and sees what the holder before it made.
        """
        if schema:
            return f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"
        level = _LEVELS.get(isolation, "REPEATABLE READ")
        text = f"BEGIN ISOLATION LEVEL {level}{' READ ONLY' if read_only else ''}"
        return text if timeout is None else f"{text}; SET LOCAL statement_timeout = {max(round(timeout * 1000), 1)}"

    def limit(self, driver: Connection, deadline: float | None) -> None:
        """Until when statements on `driver` may run."""
        driver.deadline = deadline

    async def wait(self) -> None:
        """Writers need not wait for one another."""

    def leave(self) -> None:
        """Nobody waits."""

    async def open(self) -> None:
        """Connect once. Raises `Unreachable`."""
        self._keeping = True
        try:
            connection = await self.connect(read_only=True)
        except Exception as error:
            original = getattr(error, "orig", None)
            raise self.translate(original if isinstance(original, Exception) else error) from error
        self.give_back(connection, shared=False)

    async def close(self) -> None:
        """Close every connection; one that an execution still has, when that ends."""
        self._keeping = False
        while self._kept:
            self._kept.pop().close()
        await self._engine.dispose()
        if not self._holders:
            self._places = asyncio.Semaphore(self._pool_size)  # the next event loop has one of its own

    async def fetch(self, driver: Connection, begin: str | None, text: str, row: Row) -> list[Row]:
        """The rows of a query; `begin` runs before it."""
        if begin is not None:
            await driver.execute(begin, timeout=driver.remaining())
        rows: list[Row] = await driver.fetch(text, *row, timeout=driver.remaining())
        return rows

    async def change(self, driver: Connection, begin: str | None, text: str, row: Row) -> int:
        """How many rows a statement has changed; `begin` runs before it."""
        if begin is not None:
            await driver.execute(begin, timeout=driver.remaining())
        status: str = await driver.execute(text, *row, timeout=driver.remaining())
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def apply(self, driver: Connection, begin: str | None, steps: Sequence[Step]) -> None:
        """Run all steps, the rows of one pipelined; `begin` runs before them. Raises `Refused`."""
        if begin is not None:
            await driver.execute(begin, timeout=driver.remaining())
        for step in steps:
            try:
                if step.guarded:
                    await self._guarded(driver, step)
                elif len(step.rows) == 1:
                    await driver.execute(step.text, *step.rows[0], timeout=driver.remaining())
                else:
                    await driver.executemany(step.text, step.rows, timeout=driver.remaining())
            except asyncpg.UniqueViolationError as error:
                raise Refused(step, _place(step, error), error) from error

    async def _guarded(self, driver: Connection, step: Step) -> None:
        if len(step.rows) == 1:
            changed = await driver.fetch(step.text, *step.rows[0], timeout=driver.remaining())
        else:
            changed = await driver.fetchmany(step.text, step.rows, timeout=driver.remaining())
        if len(changed) == len(step.rows):
            return
        keys, width = {tuple(key) for key in changed}, len(step.node.key)
        raise Refused(step, next(at for at, row in enumerate(step.rows) if row[-1 - width : -1] not in keys))

    async def send(self, driver: Connection, text: str | None) -> None:
        """Run one statement without values, if there is one."""
        if text is not None:
            status = await driver.execute(text, timeout=driver.remaining())
            if text == "COMMIT" and status == "ROLLBACK":
                raise UnitAborted(f"{self}: a statement failed earlier in this transaction, and all was rolled back")

    async def undo(self, driver: Connection) -> None:
        """Roll back. A connection that cannot is closed, which rolls back as well."""
        if driver.is_closed():
            return
        try:
            await driver.execute("ROLLBACK", timeout=_UNDO_PATIENCE)
        except Exception:  # noqa: BLE001 - whatever it is, nothing can be undone any more but by closing
            driver.terminate()
        except BaseException:
            driver.terminate()
            raise

    async def interrupt(self, driver: Connection) -> None:
        """What nobody waits for any more, asyncpg has cancelled already."""

    def translate(self, error: Exception) -> Exception:
        """The error of the taxonomy that an error of the driver means."""
        if isinstance(error, StoreError):
            return error
        cause = error if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError) else error.__cause__
        state = getattr(cause, "sqlstate", None) or ""
        if state in _CONFLICTS:
            return Conflict(f"{self}: {_CONFLICTS[state]}: run the unit again")
        if isinstance(cause, asyncpg.InvalidCachedStatementError):
            return Conflict(f"{self}: its tables were altered meanwhile: run the unit again")
        if state == "25P02":
            return UnitAborted(f"{self}: a statement failed earlier in this transaction, only a rollback is possible")
        if state == "57014" or isinstance(error, TimeoutError):
            return UnitTimeout(f"{self}: the time that was given is over; everything is rolled back")
        if state.startswith(_AWAY) or _is_lost(cause or error):
            return Unreachable(f"{self}: {_lost(cause or error)}; what was not committed is rolled back")
        return StoreError(f"{self}: {cause or error}")

    def taken(self, error: Exception | None) -> tuple[str, tuple[str, ...]] | None:
        """Table and columns of a unique value that is taken, if `error` says so."""
        if not isinstance(error, asyncpg.UniqueViolationError):
            return None
        found = _KEY.search(detail(error))
        if found is None:
            return None
        return str(getattr(error, "table_name", "")), tuple(name.strip('"') for name in found["columns"].split(", "))


_KEY: Final = re.compile(r"\((?P<columns>.*?)\)=\((?P<values>.*)\)", re.DOTALL)
"""The part of a message's detail that is the same in each language."""


def detail(error: asyncpg.UniqueViolationError) -> str:
    """What the server says beside the message; asyncpg does not declare it."""
    return getattr(error, "detail", None) or ""


def _place(step: Step, error: asyncpg.UniqueViolationError) -> int:
    """Which row of `step` has the value that is taken; -1 where the message does not tell."""
    if len(step.rows) == 1:
        return 0
    found = _KEY.search(detail(error))
    if found is None:
        return -1
    names = [name.strip('"') for name in found["columns"].split(", ")]
    if not set(names) <= set(step.columns):
        return -1
    places = [step.columns.index(name) for name in names]
    wanted = found["values"]
    for at, row in enumerate(step.rows):
        values = [row[place] for place in places]
        if ", ".join(map(_shown, values)) == wanted or _is_float(values, wanted):
            return at
    return -1


def _is_float(values: list[Any], wanted: str) -> bool:
    """Whether a single value is a float that `wanted` spells, which may be in another way than Python's."""
    try:
        return len(values) == 1 and isinstance(values[0], float) and values[0] == float(wanted)
    except ValueError:
        return False


def _shown(value: Any) -> str:
    """A value as the server's messages show it."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime):
        text = value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f").rstrip("0").rstrip(".")
        return f"{text}+00"
    return str(value)


def _is_lost(error: BaseException) -> bool:
    # An InternalClientError is what a statement gets that crosses the server's farewell.
    return isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def _lost(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"the server is away or refuses the connection ({text})"

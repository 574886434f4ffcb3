"""SQLite through aiosqlite: one writer, many readers, one hop to the thread for each logical step.

aiosqlite runs each call on a thread of its own, and the way there and back costs more than most statements. So the
connection it drives is a `Connection` of ours, which takes a Python function in place of a statement: `on_thread`
sends a whole step (BEGIN and the first query, all statements of a flush) and gets its result, through aiosqlite's public
API. SQLAlchemy uses the same connections and does not notice.

There are two pools for a file. Writers share one connection, and whoever wants it waits in line in the process
(`wait`, first come first served), then begins IMMEDIATE; readers have connections of their own, which refuse to write,
and see the snapshot of their first statement (WAL). A database in memory has one connection, for which all wait.

`synchronous` is FULL unless an option says NORMAL: with either, a killed process loses nothing that was committed;
with FULL, a power cut does not either.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import aiosqlite
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from ...cancellation import put_off, to_its_end
from ...errors import ConfigurationError, Conflict, StoreError, Unreachable
from ...options import number
from ..statements import Refused, Row, Step
from .pool import ShortWay
from .sqlite_expressions import SQLiteExpressions, moment

T = TypeVar("T")

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    }
)


class Moment(sa.TypeDecorator[datetime]):
    """An aware datetime as text of one length, in UTC to the microsecond, so that order of text is order of time."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:
        """To text."""
        return None if value is None else moment(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:
        """To a datetime in UTC."""
        return None if value is None else datetime.fromisoformat(value)


class Real(sa.types.UserDefinedType[float]):
    """A float, kept to the last bit and the sign of zero.

    SQLite stores 1.0 and -0.0 as integers in columns of its own floating types; with BLOB in the name of the type it
    leaves values as they are.
    """

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The name in DDL."""
        return "DOUBLE_BLOB"


class _Outcome:
    """What aiosqlite takes for a cursor: `fetchall` gives the result of a function."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def fetchall(self) -> Any:
        return self._value


class Connection(sqlite3.Connection):
    """A connection that runs a function where it is given one in place of a statement, and knows what we need."""

    def __init__(self, *args: Any, pragmas: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.create_function("wintry_digits", 1, _digits, deterministic=True)
        self.create_function("wintry_real", 1, _real, deterministic=True)
        try:
            for pragma in pragmas:
                super().execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            self.close()  # nobody will have it
            raise

    def execute(self, statement: Any, parameters: Any = (), /) -> Any:
        """Run a statement; or a function, with this connection and `parameters`."""
        if isinstance(statement, str):
            return super().execute(statement, parameters)
        return _Outcome(statement(self, *parameters))


def _digits(value: float | None) -> str | None:
    """All digits of a float, since SQLite writes fifteen of them into JSON."""
    return None if value is None else repr(float(value))


def _real(digits: str | None) -> float | None:
    """The float that the digits mean, to the last bit."""
    return None if digits is None else float(digits)


async def on_thread(driver: aiosqlite.Connection, function: Callable[..., T], *arguments: Any) -> T:
    """Run `function(connection, *arguments)` on the thread of `driver`, in turn with its other calls."""
    return cast(T, await driver.execute_fetchall(cast(str, function), arguments))


def _fetch(connection: Connection, begin: str | None, text: str, row: Row) -> list[Row]:
    if begin is not None:
        connection.execute(begin)
    return cast("list[Row]", connection.execute(text, row).fetchall())


def _change(connection: Connection, begin: str | None, text: str, row: Row) -> int:
    if begin is not None:
        connection.execute(begin)
    return cast(int, connection.execute(text, row).rowcount)


def _apply(connection: Connection, begin: str | None, steps: Iterable[Step]) -> None:
    if begin is not None:
        connection.execute(begin)
    for step in steps:
        if step.guarded:
            _guarded(connection, step)
            continue
        before = connection.total_changes
        try:
            connection.executemany(step.text, step.rows)
        except sqlite3.IntegrityError as error:
            raise Refused(step, connection.total_changes - before, error) from error


def _guarded(connection: Connection, step: Step) -> None:
    for place, row in enumerate(step.rows):
        try:
            changed = connection.execute(step.text, row).rowcount
        except sqlite3.IntegrityError as error:
            raise Refused(step, place, error) from error
        if changed != 1:
            raise Refused(step, place)


def _undo(connection: Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _is_open(connection: Connection) -> bool:
    return connection.in_transaction


class SQLite:
    """One database of SQLite: its types, its connections, and how statements run there.

    Options: `pool_size` (readers, 8), `acquire_timeout` (seconds that a reader waits for a connection, 30),
    `busy_timeout` (seconds that a writer waits for another process, 5), `synchronous` ("FULL" or "NORMAL").
    """

    kind = "sqlite"
    isolations = ("snapshot", "serializable")
    remote = False
    locks = False
    expressions = SQLiteExpressions()
    table_options = MappingProxyType({"sqlite_with_rowid": False})
    types: Mapping[type, sa.types.TypeEngine[Any]] = MappingProxyType(
        {
            str: sa.Text(),
            int: sa.BigInteger(),
            float: Real(),
            bool: sa.Boolean(),
            date: sa.Date(),
            datetime: Moment(),
            list: sa.Text(),
        }
    )

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        parsed = sa.make_url(url)
        if parsed.host or parsed.query or parsed.username:
            raise ConfigurationError(f"{parsed!r}: an URL of SQLite is sqlite:///relative.db or sqlite:////absolute.db")
        database = parsed.database or ":memory:"
        self.path = None if database == ":memory:" else Path(database)
        self._options = _Options(options)
        self._line = asyncio.Lock()
        self._writer = self._engine(size=1, read_only=False)
        self._writing = self._reading = ShortWay(self._writer)
        self._readers = self._writer
        if self.path:
            self._readers = self._engine(size=self._options.pool_size, read_only=True)
            self._reading = ShortWay(self._readers)

    def __str__(self) -> str:
        return str(self.path.absolute()) if self.path else "in memory"

    @property
    def compiler(self) -> sa.Dialect:
        """What SQLAlchemy compiles with."""
        return self._writer.dialect

    def engine(self, *, read_only: bool) -> AsyncEngine:
        """The pool that an execution's connection comes from."""
        return self._readers if read_only else self._writer

    async def connect(self, *, read_only: bool) -> sa.Connection:
        """A connection of its pool. A transaction that SQLAlchemy begins on it must be begun here with `begin` too."""
        return await (self._reading if read_only else self._writing).connect()

    def give_back(self, connection: sa.Connection, *, shared: bool) -> None:
        """Give it back to its pool."""
        connection.close()

    def begin(
        self, *, read_only: bool, isolation: str | None = None, timeout: float | None = None, schema: bool = False
    ) -> str:
        """The statement that begins a transaction; they are all serializable, and a writer is the only one."""
        return "BEGIN" if read_only else "BEGIN IMMEDIATE"

    def limit(self, driver: Any, deadline: float | None) -> None:
        """What runs in this process is stopped by `interrupt`."""

    async def wait(self) -> None:
        """Wait for this writer's turn, first come first served."""
        await self._line.acquire()

    def leave(self) -> None:
        """Let the next writer in."""
        self._line.release()

    def _engine(self, *, size: int, read_only: bool) -> AsyncEngine:
        options = self._options
        pragmas = [f"busy_timeout = {round(options.busy_timeout * 1000)}", "foreign_keys = ON"]
        if self.path is not None:
            pragmas.append(f"synchronous = {options.synchronous}")
            if read_only:
                pragmas.append("query_only = ON")

        def connect(*args: Any, **kwargs: Any) -> Connection:
            return Connection(*args, pragmas=pragmas, **kwargs)

        engine = create_async_engine(
            sa.URL.create("sqlite+aiosqlite", database=str(self.path) if self.path else ":memory:"),
            poolclass=AsyncAdaptedQueuePool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=options.acquire_timeout,
            pool_use_lifo=True,
            pool_reset_on_return=None,  # an execution leaves none open, and a ROLLBACK would be one more hop
            connect_args={"factory": connect, "isolation_level": None, "cached_statements": 256},
        )
        for end in ("do_commit", "do_rollback"):
            setattr(engine.dialect, end, _unless_over(getattr(engine.dialect, end)))
        event.listen(engine.sync_engine, "handle_error", _keep)
        return engine

    async def open(self) -> None:
        """Switch the file to WAL and see that it can be written. Raises `Unreachable`."""
        if self.path is None:
            return
        # The switch to WAL does not wait for others: where several processes open a new file at once, one wins.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.busy_timeout
        while True:
            try:
                mode = await asyncio.to_thread(_prepare, str(self.path))
                break
            except (sqlite3.Error, OSError) as error:
                if _code(error) not in _BUSY or loop.time() > deadline:
                    raise self.translate(error) from error
            await asyncio.sleep(0.01)
        if mode != "wal":
            raise Unreachable(f"{self}: this file system cannot hold a database in WAL mode: use a local one")

    async def close(self) -> None:
        """Close every connection."""
        await self._writer.dispose()
        if self._readers is not self._writer:
            await self._readers.dispose()

    async def fetch(self, driver: Any, begin: str | None, text: str, row: Row) -> list[Row]:
        """The rows of a query; `begin` runs before it."""
        return await on_thread(driver, _fetch, begin, text, row)

    async def change(self, driver: Any, begin: str | None, text: str, row: Row) -> int:
        """How many rows a statement has changed; `begin` runs before it."""
        return await on_thread(driver, _change, begin, text, row)

    async def apply(self, driver: Any, begin: str | None, steps: Sequence[Step]) -> None:
        """Run all steps; `begin` runs before them. Raises `Refused`."""
        return await on_thread(driver, _apply, begin, steps)

    async def send(self, driver: Any, text: str | None) -> None:
        """Run one statement without values, if there is one.

        The thread goes on with a COMMIT when nobody waits for it any more. If it goes through it is one, and the
        cancellation is put off.
        """
        if text is None:
            return
        try:
            await on_thread(driver, _change, None, text, ())
        except asyncio.CancelledError:
            if text != "COMMIT" or await to_its_end(on_thread(driver, _is_open)):
                raise
            put_off()

    async def undo(self, driver: Any) -> None:
        """Roll back what is open once all that was sent before has run. A cancellation does not stop it."""
        with suppress(ValueError):  # it is closed, which rolls back too
            await on_thread(driver, _undo)

    async def interrupt(self, driver: Any) -> None:
        """Stop what runs on `driver`."""
        with suppress(ValueError):  # it is closed
            await cast(aiosqlite.Connection, driver).interrupt()

    def translate(self, error: Exception) -> Exception:
        """The error of the taxonomy that an error of the driver means."""
        if isinstance(error, StoreError):
            return error
        if isinstance(error, PoolTimeout):
            return Unreachable(
                f"{self}: all {self._options.pool_size} connections for reading are in use: end units sooner, "
                "or raise pool_size"
            )
        code = _code(error)
        if code in _BUSY:
            return Conflict(f"{self}: another process kept the database locked: run the unit again")
        if code in _AWAY or isinstance(error, OSError):
            return Unreachable(f"{self}: {error}: {self._advice()}")
        return StoreError(f"{self}: {error}")

    def _advice(self) -> str:
        if self.path is None:
            return "try again"
        folder = self.path.absolute().parent
        if not folder.is_dir():
            return f"the folder {folder} does not exist: create it"
        return f"see that it is a database of SQLite, that {folder} is writable and that its disk is not full"

    def taken(self, error: Exception | None) -> tuple[str, tuple[str, ...]] | None:
        """Table and columns of a unique value that is taken, if `error` says so."""
        marker = "UNIQUE constraint failed: "
        if error is None or not str(error).startswith(marker):
            return None
        places = [place.rsplit(".", 1) for place in str(error).removeprefix(marker).split(", ")]
        return places[0][0], tuple(place[1] for place in places)


class _Options:
    """The connection options, checked."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        known = {"pool_size": 8, "acquire_timeout": 30.0, "busy_timeout": 5.0, "synchronous": "FULL"}
        if unknown := sorted(set(options) - set(known)):
            raise ConfigurationError(f"SQLite has no option {', '.join(unknown)}: it has {', '.join(sorted(known))}")
        values = {**known, **options}
        self.pool_size = number("pool_size", values["pool_size"], 1)
        self.acquire_timeout = number("acquire_timeout", values["acquire_timeout"], 0.0)
        self.busy_timeout = number("busy_timeout", values["busy_timeout"], 0.0)
        self.synchronous = str(values["synchronous"]).upper()
        if self.synchronous not in ("FULL", "NORMAL"):
            raise ConfigurationError(f"synchronous is FULL or NORMAL, not {values['synchronous']!r}")


def _unless_over(end: Callable[[Any], None]) -> Callable[[Any], None]:
    """How SQLAlchemy ends a transaction: without a trip to the thread where the database's own is over already."""

    def end_what_is_open(connection: Any) -> None:
        if connection.driver_connection.in_transaction:
            end(connection)

    return end_what_is_open


def _keep(context: sa.ExceptionContext) -> None:
    """A cancelled statement does not cost the connection: there is no server to lose, and one in memory lives in it."""
    context.is_disconnect = False


def _prepare(path: str) -> str:
    """The journal mode of a file that can be written."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    return cast(str, mode)


def _code(error: Exception) -> int | None:
    """The primary result code of SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF

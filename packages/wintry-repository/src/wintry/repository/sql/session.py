"""A transaction on a SQL database, begun at its first statement.

SQLAlchemy hands out the connection and owns the transaction; the statements of the hot path go to its driver. So the
order is fixed: `_acquire` takes the writer's place in line and lets SQLAlchemy begin, and only then may a statement
reach the driver, the first one carrying the database's own BEGIN (`_begin`). Until that was sent, `connection`,
`session` and `driver` are refused: `begin()` sends it where nothing else has.

Whatever happens, also a cancellation in the middle of a statement, `close` ends with the transaction rolled back, the
connection in its pool and the next writer let in. A driver goes on with a statement that nobody waits for any more;
the rollback queues behind it, in a task of its own, so that a second cancellation cannot stop it.

An error of the database poisons the transaction: what follows is `UnitAborted`, also its commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from ..errors import StoreError, UnitAborted, UnitTimeout, Unreachable
from .statements import Refused, Row, Step

if TYPE_CHECKING:
    from .backend import SqlBackend


class SqlExecution:
    """One transaction, which `begin` begins; None: each statement stands for itself. Made by `SqlBackend.execution`."""

    __slots__ = (
        "_autocommit",
        "_backend",
        "_begin",
        "_closed",
        "_connection",
        "_deadline",
        "_dialect",
        "_driver",
        "_failure",
        "_holds_line",
        "_session",
        "_shared",
        "_sync",
        "_timer",
        "_transaction",
        "read_only",
    )

    def __init__(
        self,
        backend: SqlBackend,
        begin: str | None,
        *,
        read_only: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.read_only = read_only
        self._backend = backend
        self._dialect = backend.dialect
        self._autocommit = begin is None
        self._begin = begin
        self._sync: sa.Connection | None = None
        self._transaction: sa.Transaction | None = None
        self._connection: AsyncConnection | None = None
        self._session: AsyncSession | None = None
        self._shared = False
        self._driver: Any = None
        self._failure: BaseException | None = None
        self._holds_line = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout

    @property
    def begun(self) -> bool:
        """Whether the database has begun the transaction."""
        return self._driver is not None and self._begin is None

    @property
    def connection(self) -> AsyncConnection:
        """SQLAlchemy's connection, in the transaction. Raises `StoreError` before it has begun and after its end."""
        if self._sync is None or self._begin is not None:
            raise StoreError("no transaction is open here: `await execution.begin()` opens it")
        return self._async(self._sync)

    @property
    def driver(self) -> Any:
        """The driver's own connection, in the transaction. Raises like `connection`."""
        return self.connection and self._driver

    @property
    def session(self) -> AsyncSession:
        """An `AsyncSession` in the transaction; its `commit` flushes and leaves the transaction open."""
        if self._session is None:
            self._session = AsyncSession(self.connection, expire_on_commit=False, join_transaction_mode="rollback_only")
        return self._session

    async def begin(self) -> None:
        """Begin, if nothing has yet. Raises `Conflict`, `UnitAborted`, `UnitTimeout`, `Unreachable`."""
        await self._start()
        if self._begin is not None:
            with self._statement() as begin:
                await self._dialect.send(self._driver, begin)

    async def fetch(self, text: str, row: Row) -> list[Row]:
        """The rows of a prebuilt query."""
        await self._start()
        with self._statement() as begin:
            return await self._dialect.fetch(self._driver, begin, text, row)

    async def change(self, text: str, row: Row) -> int:
        """How many rows a prebuilt statement has changed."""
        self._writing()
        await self._start()
        with self._statement() as begin:
            return await self._dialect.change(self._driver, begin, text, row)

    async def apply(self, steps: Sequence[Step]) -> None:
        """Run all of `steps`. Raises `Refused` for the row that the database did not take; then call `abort`."""
        self._writing()
        await self._start()
        with self._statement() as begin:
            await self._dialect.apply(self._driver, begin, steps)

    @contextmanager
    def _statement(self) -> Iterator[str | None]:
        """Around a call of the driver: the BEGIN that it must carry, and what its errors mean."""
        begin, self._begin = self._begin, None
        try:
            yield begin
        except Refused:
            raise
        except Exception as error:
            meant = self._backend.translate(error)
            self.abort(meant if isinstance(meant, UnitTimeout) else error)
            if isinstance(self._failure, UnitTimeout):
                raise self._failure from error
            raise meant from error
        except BaseException as error:  # cancelled: whether the statement ran is not known
            self.abort(error)
            raise

    def _writing(self) -> None:
        if self.read_only:
            raise StoreError("this transaction may only read")

    async def _start(self) -> None:
        failure = self._failed()
        if failure is not None:
            reason = f"a statement failed earlier in this transaction, only a rollback is possible: {failure}"
            raise UnitAborted(reason) from failure
        if self._driver is not None:
            return
        if self._closed:
            raise StoreError("this transaction is over")
        if self._deadline is None:
            await self._acquire()
            return
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._acquire()
        except TimeoutError as error:
            raise UnitTimeout(f"{self._backend}: no turn on the database within the time that was given") from error
        self._timer = asyncio.get_running_loop().call_at(self._deadline, self._expire)

    async def _acquire(self) -> None:
        if not self.read_only:
            await self._dialect.wait()
            self._holds_line = True
        try:
            self._sync = await self._dialect.connect(read_only=self.read_only)
        except Exception as error:
            self._leave_line()
            raise self._backend.translate(error) from error
        if not self._autocommit:
            self._transaction = self._sync.begin()
        self._driver = self._sync.connection.driver_connection
        self._dialect.limit(self._driver, self._deadline)

    def _async(self, connection: sa.Connection) -> AsyncConnection:
        if self._connection is None:
            self._shared = True
            self._connection = AsyncConnection(self._dialect.engine(read_only=self.read_only), connection)
        return self._connection

    def _expire(self) -> None:
        self._failure = UnitTimeout(f"{self._backend}: the time that was given is over; everything is rolled back")
        self._backend.spawn(self._dialect.interrupt(self._driver))

    def _failed(self) -> BaseException | None:
        """Why only a rollback is possible; None while all is well."""
        if (
            self._failure is None
            and not self._closed
            and self._transaction is not None
            and not self._transaction.is_active
        ):
            self._failure = StoreError("the transaction was ended through SQLAlchemy's own connection or session")
        return self._failure

    def abort(self, error: BaseException) -> None:
        """Nothing more may run in this transaction, because of `error`."""
        if self._failure is None:
            self._failure = error

    async def commit(self) -> None:
        """Make it durable and close it. Raises `Conflict`, `UnitAborted`, `UnitTimeout`, `Unreachable`."""
        failure = self._failed()
        if failure is not None:
            await self.close()
            if isinstance(failure, UnitTimeout):
                raise failure
            raise UnitAborted(f"a statement failed earlier in this transaction: {failure}") from failure
        if self._closed:
            raise StoreError("this transaction is over")
        if self._sync is not None and self._transaction is not None:
            try:
                if self._session is not None:
                    await self._session.flush()
                await self._dialect.send(self._driver, "COMMIT" if self._begin is None else None)
                self._transaction.commit()  # the database has, so that this has nothing to wait for
            except Exception as error:
                await self.close()
                meant = self._backend.translate(error)
                if isinstance(meant, Unreachable | UnitTimeout) and self._dialect.remote:
                    text = (
                        f"{self._backend}: it did not answer the commit: whether that was done is not known ({error})"
                    )
                    meant = type(meant)(text)
                raise meant from error
            self._transaction = None
            if self._session is None:
                self._connection = None
        await self.close()

    async def rollback(self) -> None:
        """Undo everything and close it."""
        await self.close()

    async def close(self) -> None:
        """Roll back what is open, give the connection back and let the next writer in. Safe to call at any time."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        used = self._transaction is not None or self._connection is not None or self._failure is not None
        if self._sync is None or not used:
            self._give_back(self._sync)  # nothing is open on it, and nothing runs
        elif self._failure is None and self._connection is None:  # all statements were ours, and none still runs
            try:
                await self._dialect.undo(self._driver)
            except BaseException:
                await asyncio.shield(self._backend.spawn(self._undo(self._sync)))
                raise
            self._give_back(self._sync)
        else:
            await asyncio.shield(self._backend.spawn(self._undo(self._sync)))

    async def _undo(self, connection: sa.Connection) -> None:
        try:
            await self._dialect.interrupt(self._driver)  # a statement that nobody waits for any more
            await self._dialect.undo(self._driver)
            if self._session is not None:
                await self._session.close()
            await self._async(connection).close()
        finally:
            self._give_back(connection)

    def _give_back(self, connection: sa.Connection | None) -> None:
        self._sync = self._driver = None
        try:
            if connection is not None:
                self._dialect.give_back(connection, shared=self._shared)
        finally:
            self._leave_line()

    def _leave_line(self) -> None:
        if self._holds_line:
            self._holds_line = False
            self._dialect.leave()

"""A transaction on MongoDB, begun at its first statement; and what the driver's errors mean.

A transaction reads one snapshot and is durable on a majority. A read-only execution in autocommit has no session: each
statement stands for itself. An error poisons the transaction, as it does on the server: what follows is `UnitAborted`.
A commit whose outcome is not known is sent again, it alone: the server tells a second commit what became of the first.

`close` ends the transaction in a task of its own, so that a cancellation leaves nothing open on the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pymongo
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)
from pymongo.errors import (
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from ..cancellation import cancellations, heed, put_off
from ..errors import ConfigurationError, Conflict, StoreError, UnitAborted, UnitTimeout, Unreachable, redacted

if TYPE_CHECKING:
    from .backend import MongoBackend

T = TypeVar("T")

TRANSIENT: Final = "TransientTransactionError"
UNKNOWN_RESULT: Final = "UnknownTransactionCommitResult"
NO_SUCH_TRANSACTION: Final = 251
WRITE_CONFLICT: Final = 112
STANDALONE: Final = (
    "this mongod stands alone, and transactions need a replica set: start it with --replSet NAME and run"
    " rs.initiate() once; one member is enough"
)
_COMMIT_SECONDS: Final = 10.0
_PAUSE: Final = 0.05
_UNDO_SECONDS: Final = 30.0  # a server that takes longer to end a transaction ends it by itself, later


class MongoExecution:
    """One transaction. Made by `MongoBackend.execution`."""

    __slots__ = ("_autocommit", "_backend", "_closed", "_deadline", "_failure", "_session", "read_only", "written")

    def __init__(
        self, backend: MongoBackend, *, read_only: bool = False, autocommit: bool = False, timeout: float | None = None
    ) -> None:
        self.read_only = read_only
        self.written: set[tuple[str, str]] = set()
        """Collection and id of the documents that this transaction has written, ids by their representation."""
        self._backend = backend
        self._autocommit = autocommit
        self._session: Any = None
        self._failure: BaseException | None = None
        self._closed = False
        self._deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout

    @property
    def begun(self) -> bool:
        """Whether a transaction is open."""
        return self._session is not None

    @property
    def client_session(self) -> Any:
        """The driver's session, in the transaction: pass it on as `session=`. Raises `StoreError` before it began."""
        if self._session is None:
            raise StoreError("no transaction is open here: `await execution.begin()` opens it")
        return self._session

    async def begin(self) -> None:
        """Open the transaction, if nothing has yet. Raises `UnitAborted`, `Unreachable`."""
        if self._failure is not None:
            reason = f"a statement failed earlier in this transaction, only a rollback is possible: {self._failure}"
            raise UnitAborted(reason) from self._failure
        if self._closed:
            raise StoreError("this transaction is over")
        if self._session is None and not self._autocommit:
            self._session = await self._backend.client.begin()

    def collection(self, name: str) -> Any:
        """The driver's collection of this name."""
        return self._backend.collection(name)

    async def one(self, collection: str, query: Mapping[str, Any], comment: str) -> dict[str, Any] | None:
        """A document that fulfils `query`."""
        found = self.collection(collection)
        return await self.run(lambda session: found.find_one(query, session=session, comment=comment))

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        comment: str,
        sort: Sequence[tuple[str, int]] | None = None,
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """All documents that fulfil `query`; 0 is no limit."""
        found = self.collection(collection)

        def call(session: Any) -> Awaitable[list[dict[str, Any]]]:
            cursor = found.find(query, sort=sort, limit=limit, session=session, comment=comment)
            result: Awaitable[list[dict[str, Any]]] = cursor.to_list(None)
            return result

        return await self.run(call)

    async def run(
        self, call: Callable[[Any], Awaitable[T]], meaning: Callable[[PyMongoError], Exception | None] | None = None
    ) -> T:
        """What `call(session)` gives; `meaning` tells errors that only the caller can name."""
        await self.begin()
        busy, before = self._backend.busy, cancellations()
        busy[self] = asyncio.current_task()
        try:
            if self._deadline is None:
                result = await call(self._session)
            else:
                left = self._deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise self._late()
                with pymongo.timeout(left):
                    result = await call(self._session)
            heed(before)
            return result
        except PyMongoError as error:
            told = meaning(error) if meaning is not None else None
            failure = told or self.translate(error)
            self.abort(failure)
            raise failure from error
        except BaseException as error:  # cancelled: whether the statement ran is not known
            self.abort(error)
            raise
        finally:
            del busy[self]

    def writing(self) -> None:
        """Raises `StoreError` where only reading is allowed."""
        if self.read_only:
            raise StoreError("this transaction may only read")

    def abort(self, error: BaseException) -> None:
        """Nothing more may run in this transaction, because of `error`."""
        if self._failure is None:
            self._failure = error

    def translate(self, error: PyMongoError) -> Exception:
        """The error of the taxonomy that an error of the driver means here."""
        if self._deadline is not None and (error.timeout or isinstance(error, ExecutionTimeout)):
            return self._late()
        if isinstance(error, WaitQueueTimeoutError):
            return self._exhausted()
        return translate(error, str(self._backend))

    def _exhausted(self) -> Unreachable:
        client, others = self._backend.client, [task for each, task in self._backend.busy.items() if each is not self]
        names = sorted({task.get_name() for task in others if task is not None})
        return Unreachable(
            f"{self._backend}: no connection came free within {client.wait:g} s; all {client.pool_size} are held by"
            f" statements of {', '.join(names) or 'others'}, of which some may wait as well: raise pool_size, or let"
            " fewer units run at once"
        )

    def _late(self) -> UnitTimeout:
        return UnitTimeout(f"{self._backend}: the time that was given is over; everything is rolled back")

    async def commit(self) -> None:
        """Make it durable and close it. Raises `Conflict`, `UnitAborted`, `UnitTimeout`, `Unreachable`."""
        failure = self._failure
        if failure is not None:
            await self.close()
            if isinstance(failure, UnitTimeout):
                raise failure
            raise UnitAborted(f"a statement failed earlier in this transaction: {failure}") from failure
        if self._closed:
            raise StoreError("this transaction is over")
        before = cancellations()
        if self._session is not None and not self.read_only:
            try:
                await self._commit(self._session)
            except PyMongoError as error:
                raise self._unanswered(error) or self.translate(error) from error
            finally:
                await self.close()
        await self.close()
        if cancellations() > before:  # and the driver kept it to itself
            put_off()

    async def _commit(self, session: Any) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _COMMIT_SECONDS if self._deadline is None else self._deadline
        # A time limit makes each command of the driver much dearer: the first attempt has only the unit's own.
        limit: AbstractContextManager[None] = (
            nullcontext() if self._deadline is None else pymongo.timeout(max(until - loop.time(), _PAUSE))
        )
        while True:
            try:
                with limit:
                    await session.commit_transaction()
                return
            except PyMongoError as error:
                if not error.has_error_label(UNKNOWN_RESULT) or loop.time() >= until:
                    raise
            await asyncio.sleep(_PAUSE)
            limit = pymongo.timeout(max(until - loop.time(), _PAUSE))

    def _unanswered(self, error: PyMongoError) -> Exception | None:
        """The error of a commit that was sent, and of which nothing more is known."""
        if not error.has_error_label(UNKNOWN_RESULT):
            return None
        kind = Unreachable if self._deadline is None else UnitTimeout
        text = f"{self._backend}: it did not answer the commit: whether that was done is not known ({told(error)})"
        return kind(text)

    async def rollback(self) -> None:
        """Undo everything and close it."""
        await self.close()

    async def close(self) -> None:
        """Roll back what is open and give the session back. Safe to call at any time."""
        self._closed = True
        await self.end()

    async def end(self) -> None:
        """Roll back what is open on the server, to look at what is stored beside it."""
        session, self._session = self._session, None
        if session is not None and not session.in_transaction:
            await session.end_session()  # which asks nobody
        elif session is not None:
            ending = self._backend.spawn(self._end(session))
            if not isinstance(self._failure, UnitTimeout):  # who has no time left is not kept waiting
                await asyncio.shield(ending)

    async def _end(self, session: Any) -> None:
        try:
            with pymongo.timeout(_UNDO_SECONDS):
                await session.abort_transaction()
        except PyMongoError:
            pass  # the server ends a transaction that it hears nothing of
        finally:
            await session.end_session()


def translate(error: PyMongoError, where: str) -> Exception:
    """The error of the taxonomy that an error of the driver means on the store `where`."""
    text = told(error)
    code = getattr(error, "code", None)
    if isinstance(error, ServerSelectionTimeoutError):
        servers, _, _ = text.partition(", Timeout: ")  # what follows describes the driver's view of them
        return Unreachable(f"{where} does not answer: {servers}")
    if isinstance(error, OperationFailure) and code == 20 and "replica set" in text:
        return ConfigurationError(f"{where}: {STANDALONE}")
    if code == WRITE_CONFLICT:
        return Conflict(f"{where}: another transaction came first: run the unit again ({text})")
    if error.has_error_label(TRANSIENT):
        return Conflict(f"{where}: the server has ended this transaction: run the unit again ({text})")
    if code == NO_SUCH_TRANSACTION:
        return UnitAborted(f"{where}: the server has ended this transaction: {text}")
    if isinstance(error, ConnectionFailure):
        return Unreachable(f"{where} does not answer: {text}")
    if isinstance(error, DocumentTooLarge):
        return StoreError(f"{where}: an aggregate is larger than a document may be (16 MB): {text}")
    if isinstance(error, OperationFailure) and code in (13, 18):
        return Unreachable(f"{where} refuses the login: {text}")
    if isinstance(error, DriverConfigurationError):
        return ConfigurationError(f"{where}: {text}")
    return StoreError(f"{where}: {text}")


def told(error: PyMongoError) -> str:
    """What the server or the driver says, without the documents around it and without passwords."""
    details = error.details if isinstance(error, OperationFailure) else None
    return redacted(str((details or {}).get("errmsg") or error))

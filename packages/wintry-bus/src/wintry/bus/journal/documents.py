"""The collections of the bus in MongoDB, and what their documents have in common.

A document has the fields that a row has elsewhere, and leaves out what is empty. Two fields are there for the indexes
alone, which hold nothing of what is done: `open` is there while a row is pending or held, `dead` while it is parked or
held. Times are dates by the server's clock: a document that carries one is written by a pipeline, with `$$NOW`.

A statement outside a transaction is durable on a majority. In a transaction documents are only added, so that it
conflicts with nobody but with one that adds the same. (`distinct` does not know `$$NOW`; an aggregation does.)
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from pymongo import IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import CollectionInvalid, OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern

from wintry.repository.errors import Conflict
from wintry.repository.mongo import MongoBackend, MongoExecution

from .home import SOON
from .journal import Row, Status
from .names import COUNTERS, DUTIES, INBOX, JOURNAL, OUTGOING
from .rows import headers_of, written

T = TypeVar("T")

logger = logging.getLogger("wintry.bus")

MAJORITY: Final = WriteConcern("majority")
FREE: Final[Mapping[str, Any]] = {
    "$or": [{"lease_owner": {"$exists": False}}, {"$expr": {"$lte": ["$lease_until", "$$NOW"]}}]
}
"""The condition for documents without a running lease."""
DUE: Final[Mapping[str, Any]] = {"$lte": ["$due", "$$NOW"]}
LEASE: Final = ["lease_owner", "lease_until"]
PURGED: Final = 500
"""Documents that are deleted at a time."""
_EXISTS: Final = 48
_ATTEMPTS: Final = 20
_PAUSE: Final = 0.01
"""Seconds: the longest pause before the second attempt at what met a conflict; each further one is longer by it."""
_LONGEST: Final = 0.1

EFFECTS: Final[Mapping[str, Sequence[IndexModel]]] = {
    INBOX: [IndexModel([("at", 1)], name=f"{INBOX}_at")],
    OUTGOING: [IndexModel([("created_at", 1), ("order", 1)], name=f"{OUTGOING}_age")],
    DUTIES: [],
    COUNTERS: [],
}
"""The collections that every backend has, with their indexes."""
DELIVERED: Final[Mapping[str, Sequence[IndexModel]]] = {
    JOURNAL: [
        IndexModel([("id", 1), ("target", 1)], name=f"{JOURNAL}_message", unique=True),
        IndexModel(
            [("status", 1), ("due", 1), ("_id", 1)],
            name=f"{JOURNAL}_pending",
            partialFilterExpression={"status": "pending"},
        ),
        IndexModel([("lane", 1), ("_id", 1)], name=f"{JOURNAL}_lanes", partialFilterExpression={"open": True}),
        IndexModel([("status", 1), ("done_at", 1)], name=f"{JOURNAL}_done", partialFilterExpression={"status": "done"}),
        IndexModel([("dead", 1), ("_id", 1)], name=f"{JOURNAL}_dead", partialFilterExpression={"dead": True}),
    ]
}
"""The collections of the journal's own backend, besides those."""


async def create(backend: MongoBackend, wanted: Mapping[str, Sequence[IndexModel]]) -> None:
    """Make the collections and indexes that are missing: in a transaction nothing is made."""
    there = set(await alone(backend, lambda _: backend.client.database.list_collection_names()))
    for name, indexes in wanted.items():
        if name not in there:
            await _create(backend, name)
        if indexes:
            await alone(backend, lambda _, name=name, indexes=indexes: backend.collection(name).create_indexes(indexes))  # type: ignore[misc]


async def _create(backend: MongoBackend, name: str) -> None:
    try:
        await backend.client.database.create_collection(name)
    except CollectionInvalid:
        pass  # another process was faster
    except OperationFailure as error:
        if error.code != _EXISTS:
            raise


# statements


async def alone(
    backend: MongoBackend,
    call: Callable[[Any], Awaitable[T]],
    meaning: Callable[[PyMongoError], Exception | None] | None = None,
) -> T:
    """What one statement gives that stands for itself; raises the errors of the repository."""
    execution = backend.execution(read_only=True, isolation="autocommit")  # no transaction: it may write all the same
    return await execution.run(call, meaning)


class Numbers:
    """Ascending numbers for the documents of a collection, counted on the server outside of transactions.

    Who asks while others wait for theirs shares the next question with all that ask meanwhile.
    """

    def __init__(self, backend: MongoBackend, name: str) -> None:
        self._backend = backend
        self._name = name
        self._turn = asyncio.Lock()
        self._asked: list[tuple[int, asyncio.Future[int]]] = []

    async def take(self, count: int) -> int:
        """The first of `count` numbers that nobody else is given."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked.append((count, answer))
        async with self._turn:
            if not answer.done():
                await self._ask()
        return answer.result()

    async def _ask(self) -> None:
        asked, self._asked = self._asked, []
        try:
            first = await counted(self._backend, self._name, sum(count for count, _ in asked))
        except BaseException:
            self._asked = asked + self._asked  # the next one asks for all
            raise
        for count, answer in asked:
            if not answer.done():
                answer.set_result(first)
            first += count


async def counted(backend: MongoBackend, name: str, count: int, on: MongoExecution | None = None) -> int:
    """Count `count` things; gives the number of the first. In a transaction, `on`, whoever else counts has to wait."""
    counters = backend.collection(COUNTERS)
    if on is None:
        counters = counters.with_options(write_concern=MAJORITY)

    async def call(session: Any) -> int:
        found = await counters.find_one_and_update(
            {"_id": name}, {"$inc": {"n": count}}, upsert=True, return_document=ReturnDocument.AFTER, session=session
        )
        return int(found["n"]) - count + 1

    return await alone(backend, call) if on is None else await on.run(call)


async def together(backend: MongoBackend, work: Callable[[MongoExecution], Awaitable[T]]) -> T:
    """What `work` gives in a transaction of its own; it is repeated while somebody else is faster."""
    for attempt in range(1, _ATTEMPTS + 1):
        execution = backend.execution()
        try:
            result = await work(execution)
            await execution.commit()
            return result
        except Conflict:
            if attempt == _ATTEMPTS:
                raise
        finally:
            await execution.close()
        await asyncio.sleep(random.uniform(0, min(attempt * _PAUSE, _LONGEST)))
    raise AssertionError("the last attempt returns or raises")


def running(execution: object) -> MongoExecution:
    """A unit's transaction on this backend."""
    assert isinstance(execution, MongoExecution), "an execution of this backend"
    return execution


async def purge(backend: MongoBackend, name: str, field: str, where: Mapping[str, Any], older_than: float) -> int:
    """Delete documents whose `field` is `older_than` seconds ago, some at a time; gives their number."""
    collection = backend.collection(name).with_options(write_concern=MAJORITY)
    old = {**where, "$expr": {"$lt": [f"${field}", ago(older_than)]}}
    total = 0
    while True:
        found = await alone(backend, lambda _: collection.find(old, {"_id": 1}).limit(PURGED).to_list(None))
        if found:
            ids = {"_id": {"$in": [document["_id"] for document in found]}}
            gone = await alone(backend, lambda _: collection.delete_many({**ids, **where}))  # noqa: B023 - awaited here
            total += gone.deleted_count
        if len(found) < PURGED:
            return total


# the pieces of pipelines


def milliseconds(seconds: float) -> int:
    """A length of time, to be added to a date."""
    return round(seconds * 1000)


def hence(seconds: float) -> dict[str, Any]:
    """A time so many seconds from now."""
    return {"$add": ["$$NOW", milliseconds(seconds)]}


def ago(seconds: float) -> dict[str, Any]:
    """A time so many seconds before now."""
    return {"$subtract": ["$$NOW", milliseconds(seconds)]}


def added(where: Mapping[str, Any], document: Mapping[str, Any], computed: Mapping[str, Any]) -> UpdateOne:
    """Add a document, with the fields that the server computes, unless there is one for `where`: then leave that."""
    new = {"$mergeObjects": [{"$literal": document}, computed]}
    missing = {"$eq": [{"$type": "$created_at"}, "missing"]}
    return UpdateOne(where, [{"$replaceWith": {"$cond": [missing, new, "$$ROOT"]}}], upsert=True)


# rows


def contents(row: Row) -> dict[str, Any]:
    """What a row says, as a document; without `due`."""
    document = {
        "id": row.id,
        "target": row.target,
        "type": row.type,
        "version": row.version,
        "body": row.body,
        "correlation_id": row.correlation_id,
        "headers": written(row.headers),
    }
    if row.parent_id is not None:
        document["parent_id"] = row.parent_id
    if row.lane is not None:
        document["lane"] = row.lane
    return document


def row_of(document: Mapping[str, Any]) -> Row:
    """The row that a document is."""
    return Row(
        id=document["id"],
        target=document["target"],
        type=document["type"],
        version=document["version"],
        body=bytes(document["body"]),
        correlation_id=document["correlation_id"],
        parent_id=document.get("parent_id"),
        lane=document.get("lane"),
        headers=headers_of(document["headers"]),
        due=aware(document.get("due")),
        seq=document["_id"] if isinstance(document["_id"], int) else 0,
        status=Status(document.get("status", "pending")),
        attempts=document.get("attempts", 0),
        lease_owner=document.get("lease_owner"),
        lease_until=aware(document.get("lease_until")),
        error=document.get("error"),
        created_at=aware(document.get("created_at")),
        done_at=aware(document.get("done_at")),
    )


def aware(moment: datetime | None) -> datetime | None:
    """A date of the server's as a time in UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def dated(moment: datetime) -> datetime:
    """A time as a date of the server's."""
    return moment.astimezone(UTC).replace(tzinfo=None)


class Gathered(Generic[T]):
    """What one statement may do for many, a little later; what fails is logged."""

    def __init__(self, work: Callable[[list[T]], Awaitable[object]]) -> None:
        self._work = work
        self._items: list[T] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, *items: T) -> None:
        """Do it for these too, in `SOON` seconds at the latest."""
        self._items += items
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        items, self._items = self._items, []
        if items:
            task = asyncio.get_running_loop().create_task(self._run(items))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, items: list[T]) -> None:
        try:
            await self._work(items)
        except Exception:
            logger.exception("what was to be stored in the journal later was not")

    async def flush(self) -> None:
        """Do it now, and wait for it."""
        self._start()
        if self._tasks:
            await asyncio.gather(*self._tasks)

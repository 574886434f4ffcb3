"""A home in MongoDB: `_wintry_inbox`, `_wintry_outgoing` and `_wintry_duties`, beside the documents of aggregates.

What belongs to a unit of work is written in its session, so that it is stored with the unit or not at all: an effect is
recorded by an upsert whose `_id` is message and target, so that the second one finds the first. Results and removals
stand outside of transactions, each one statement, repeated by `alone` while that helps; what may be done a little later
is gathered and done for many (`Gathered`). Times are the server's, `$$NOW`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from bson import ObjectId
from pymongo import IndexModel

from wintry.repository.backend import Execution
from wintry.repository.mongo import MongoBackend

from .documents import (
    EFFECTS,
    MAJORITY,
    Gathered,
    added,
    ago,
    alone,
    aware,
    contents,
    create,
    dated,
    hence,
    purge,
    row_of,
    running,
)
from .journal import Row, Seen
from .names import DUTIES, INBOX, OUTGOING

T = TypeVar("T")


class MongoHome:
    """The home on a MongoDB backend."""

    remote = True

    def __init__(self, backend: MongoBackend) -> None:
        self.backend = backend
        self._collections = dict(EFFECTS)
        self._gathered: list[Gathered[Any]] = []
        self._removed: Gathered[Row] = self.gather(self.remove)

    def declare(self, collections: Mapping[str, Sequence[IndexModel]]) -> None:
        """Have `prepare` make these too, each with its indexes."""
        self._collections.update(collections)

    def gather(self, work: Callable[[list[T]], Awaitable[object]]) -> Gathered[T]:
        """What may be done for many a little later, and is before `flush` returns."""
        gathered = Gathered(work)
        self._gathered.append(gathered)
        return gathered

    async def prepare(self) -> None:
        await create(self.backend, self._collections)

    async def record(self, execution: Execution, message_id: str, target: str, result: bytes | None = None) -> bool:
        inbox, key = self.backend.collection(INBOX), {"message_id": message_id, "target": target}
        known = {"$ifNull": ["$result", {"$literal": result}]}
        noted = [{"$set": {"at": {"$ifNull": ["$at", "$$NOW"]}, "result": known}}]
        done = await running(execution).run(
            lambda session: inbox.update_one({"_id": key}, noted, upsert=True, session=session)
        )
        return done.upserted_id is not None

    async def keep(self, message_id: str, target: str, result: bytes) -> None:
        inbox, key = self.backend.collection(INBOX), {"message_id": message_id, "target": target}
        lasting, change = inbox.with_options(write_concern=MAJORITY), {"$set": {"result": result}}
        await alone(self.backend, lambda _: lasting.update_one({"_id": key}, change))

    async def find(self, message_id: str, target: str) -> Seen | None:
        inbox, key = self.backend.collection(INBOX), {"message_id": message_id, "target": target}
        found = await alone(self.backend, lambda _: inbox.find_one({"_id": key}))
        if found is None:
            return None
        at = aware(found["at"])
        assert at is not None, "a record has its time"
        return Seen(at, found.get("result"))

    async def store(self, execution: Execution, rows: Sequence[Row]) -> None:
        outgoing = self.backend.collection(OUTGOING)
        writes = []
        for row in rows:
            key = {"id": row.id, "target": row.target}
            document = {**contents(row), "_id": key, "order": ObjectId()}
            if row.due is not None:
                document["due"] = dated(row.due)
            writes.append(added({"_id": key}, document, {"created_at": "$$NOW"}))
        await running(execution).run(lambda session: outgoing.bulk_write(writes, session=session))

    async def waiting(self, *, grace: float, limit: int) -> Sequence[Row]:
        outgoing, old = self.backend.collection(OUTGOING), {"$expr": {"$lte": ["$created_at", ago(grace)]}}
        order = [("created_at", 1), ("order", 1)]
        found = await alone(self.backend, lambda _: outgoing.find(old, sort=order, limit=limit).to_list(None))
        return [row_of(document) for document in found]

    async def remove(self, rows: Sequence[Row]) -> None:
        outgoing = self.backend.collection(OUTGOING).with_options(write_concern=MAJORITY)
        keys = [{"id": row.id, "target": row.target} for row in rows]
        await alone(self.backend, lambda _: outgoing.delete_many({"_id": {"$in": keys}}))

    def remove_soon(self, rows: Sequence[Row]) -> None:
        self._removed.add(*rows)

    async def take_duty(self, name: str, *, owner: str, seconds: float) -> bool:
        duties = self.backend.collection(DUTIES).with_options(write_concern=MAJORITY)
        held = {"$gt": ["$until", "$$NOW"]}
        mine = {"_id": "$_id", "owner": {"$literal": owner}, "until": hence(seconds)}
        taken = [{"$replaceWith": {"$cond": [held, "$$ROOT", mine]}}]
        done = await alone(self.backend, lambda _: duties.update_one({"_id": name}, taken, upsert=True))
        return done.upserted_id is not None or bool(done.modified_count)

    async def purge(self, *, older_than: float) -> int:
        return await purge(self.backend, INBOX, "at", {}, older_than)

    async def flush(self) -> None:
        for gathered in self._gathered:
            await gathered.flush()

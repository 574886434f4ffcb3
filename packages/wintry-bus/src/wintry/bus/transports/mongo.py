"""A durable queue in MongoDB, for applications without a broker: what `database.py` is on SQL.

What is published is a document of `_wintry_queue` and, for every group that listens to its channel, one of
`_wintry_queue_deliveries`, in the same transaction. Whoever publishes to a channel or joins it counts on the channel's
counter in that transaction, so that two meet there: numbers of one channel ascend in the order of commits, and no
message misses a group. Publications of one process that wait at the same moment share a transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson import ObjectId
from pymongo import IndexModel

from wintry.repository.mongo import MongoBackend, MongoExecution

from ..journal.documents import MAJORITY, Numbers, added, ago, alone, counted, together
from ..journal.mongo_home import MongoHome
from ..journal.mongo_leases import MongoLeases, held_by
from ..journal.names import COUNTERS, DELIVERIES, GROUPS, MESSAGES
from ..journal.rows import headers_of, written
from .queue import Given, Queue
from .transport import Parked, TransportMessage

Document = dict[str, Any]

COLLECTIONS: Final[Mapping[str, Sequence[IndexModel]]] = {
    MESSAGES: [
        IndexModel([("channel", 1), ("id", 1)], name=f"{MESSAGES}_message", unique=True),
        IndexModel([("channel", 1), ("number", 1)], name=f"{MESSAGES}_channel"),
        IndexModel([("created_at", 1)], name=f"{MESSAGES}_age"),
    ],
    GROUPS: [IndexModel([("channel", 1), ("name", 1)], name=f"{GROUPS}_name", unique=True)],
    DELIVERIES: [
        IndexModel([("message", 1)], name=f"{DELIVERIES}_message"),
        IndexModel(
            [("status", 1), ("group", 1), ("due", 1), ("_id", 1)],
            name=f"{DELIVERIES}_pending",
            partialFilterExpression={"status": "pending"},
        ),
        IndexModel([("lane", 1), ("_id", 1)], name=f"{DELIVERIES}_lanes", partialFilterExpression={"open": True}),
    ],
}
_PURGED: Final = 500


@dataclass(slots=True)
class Batch:
    """Publications that share a transaction."""

    messages: list[tuple[str, TransportMessage]] = field(default_factory=list)
    sent: asyncio.Task[None] | None = None


class MongoQueue(Queue):
    """A transport whose queue is in a MongoDB backend; `owner` names this process, times are seconds."""

    def __init__(
        self,
        backend: MongoBackend,
        *,
        owner: str,
        lease: float = 40.0,
        poll_min: float = 0.05,
        poll_max: float = 2.0,
        home: MongoHome | None = None,
    ) -> None:
        super().__init__(owner=owner, lease=lease, poll_min=poll_min, poll_max=poll_max)
        self.backend = backend
        self._home = home or MongoHome(backend)
        self._home.declare(COLLECTIONS)
        self._leases = MongoLeases(backend, DELIVERIES)
        self._numbers = Numbers(backend, DELIVERIES)
        self._batch: Batch | None = None
        self._turn = asyncio.Lock()

    def _collection(self, name: str) -> Any:
        return self.backend.collection(name).with_options(write_concern=MAJORITY)

    # sending

    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        if not messages:
            return
        batch = self._batch
        if batch is None:
            batch = self._batch = Batch()
            batch.sent = asyncio.get_running_loop().create_task(self._send(batch))
        batch.messages += [(channel, message) for message in messages]
        assert batch.sent is not None, "the task is made with the batch"
        await asyncio.shield(batch.sent)
        self.wake([channel])

    async def _send(self, batch: Batch) -> None:
        async with self._turn:
            self._batch = None
            await together(self.backend, lambda on: self._insert(on, batch.messages))

    async def _insert(self, on: MongoExecution, messages: Sequence[tuple[str, TransportMessage]]) -> None:
        by_channel: dict[str, list[TransportMessage]] = {}
        for channel, message in messages:
            by_channel.setdefault(channel, []).append(message)
        collection = self.backend.collection(MESSAGES)
        for channel, some in sorted(by_channel.items()):
            first = await self._lock(on, channel, len(some))
            given = [_document(channel, message, number) for number, message in enumerate(some, first)]
            writes = [added({"channel": channel, "id": each["id"]}, each, {"created_at": "$$NOW"}) for each in given]
            done = await on.run(lambda session, writes=writes: collection.bulk_write(writes, session=session))  # type: ignore[misc]
            new = [given[at] for at in sorted(done.upserted_ids)]
            groups = await self._find(on, GROUPS, {"channel": channel})
            await self._distribute(on, new, [group["number"] for group in groups])

    async def _lock(self, on: MongoExecution, channel: str, count: int) -> int:
        """Have a channel to oneself until the commit; gives the first of `count` numbers there."""
        return await counted(self.backend, f"{MESSAGES}:{channel}", count, on)

    async def _distribute(self, on: MongoExecution, messages: Sequence[Document], groups: Sequence[int]) -> None:
        """Give messages to groups."""
        pairs = [(message, group) for message in messages for group in groups]
        if not pairs:
            return
        first = await self._numbers.take(len(pairs))
        writes = []
        for number, (message, group) in enumerate(pairs, first):
            row = {"_id": number, "message": message["_id"], "group": group}
            row |= {"status": "pending", "attempts": 0, "open": True}
            if "key" in message:
                row["lane"] = f"{group}:{message['key']}"
            writes.append(added({"_id": number}, row, {"created_at": "$$NOW", "due": "$$NOW"}))
        collection = self.backend.collection(DELIVERIES)
        await on.run(lambda session: collection.bulk_write(writes, session=session))

    async def _find(self, on: MongoExecution, name: str, where: Mapping[str, Any]) -> list[Document]:
        collection = self.backend.collection(name)
        return await on.run(lambda session: collection.find(where, session=session).to_list(None))

    # receiving

    async def _number_of(self, channel: str, group: str) -> int:
        named, seen = {"channel": channel, "name": group}, [{"$set": {"seen_at": "$$NOW"}}]
        found = await alone(self.backend, lambda _: self._collection(GROUPS).find_one_and_update(named, seen))
        if found is not None:
            return int(found["number"])

        async def work(on: MongoExecution) -> int:
            await self._lock(on, channel, 1)
            there = await self._find(on, GROUPS, named)
            if there:
                return int(there[0]["number"])
            number = await counted(self.backend, GROUPS, 1)
            made = added(named, {**named, "number": number}, {"created_at": "$$NOW", "seen_at": "$$NOW"})
            groups = self.backend.collection(GROUPS)
            await on.run(lambda session: groups.bulk_write([made], session=session))
            kept = await self._find(on, MESSAGES, {"channel": channel})
            await self._distribute(on, sorted(kept, key=lambda message: int(message["number"])), [number])
            return number

        async with self._turn:  # many who join at once would beat whoever publishes, time and again
            return await together(self.backend, work)

    async def _claim(self, group: int, limit: int) -> list[Given]:
        rows = await self._leases.claim({"group": group}, limit=limit, owner=self.owner, lease=self.lease)
        if not rows:
            return []
        wanted = {"_id": {"$in": [row["message"] for row in rows]}}
        found = await alone(self.backend, lambda _: self._collection(MESSAGES).find(wanted).to_list(None))
        messages = {each["_id"]: _message(each) for each in found}
        gone = [row["_id"] for row in rows if row["message"] not in messages]  # purged while its group was made
        if gone:
            await alone(self.backend, lambda _: self._leases.collection.delete_many({"_id": {"$in": gone}}))
        return [Given(row["_id"], messages[row["message"]], row["attempts"]) for row in rows if row["_id"] not in gone]

    async def _last(self, channel: str) -> int:
        counted = {"_id": f"{MESSAGES}:{channel}"}
        found = await alone(self.backend, lambda _: self._collection(COUNTERS).find_one(counted))
        return 0 if found is None else int(found["n"])

    async def _following(self, channel: str, after: int, limit: int) -> list[Given]:
        behind = {"channel": channel, "number": {"$gt": after}}
        found = await alone(
            self.backend,
            lambda _: self._collection(MESSAGES).find(behind, sort=[("number", 1)], limit=limit).to_list(None),
        )
        return [Given(int(each["number"]), _message(each)) for each in found]

    # settling

    async def settle(self, seq: int) -> None:
        await alone(self.backend, lambda _: self._leases.collection.delete_one(held_by([seq], self.owner)))

    async def park(self, seq: int, reason: str) -> None:
        await self._leases.park(seq, self.owner, reason, status="parked")

    async def release(self, seq: int) -> None:
        await self._leases.release([seq], self.owner)

    async def _drop(self, seqs: Sequence[int]) -> None:
        await self._leases.change(seqs, self.owner, {})

    async def _renew(self, seqs: Sequence[int]) -> Sequence[int]:
        return await self._leases.renew(seqs, self.owner, self.lease)

    async def parked(self, *, limit: int = 100) -> list[Parked]:
        joins = [
            {"$lookup": {"from": MESSAGES, "localField": "message", "foreignField": "_id", "as": "sent"}},
            {"$lookup": {"from": GROUPS, "localField": "group", "foreignField": "number", "as": "listening"}},
        ]
        found = await self._leases.aggregate(
            [{"$match": {"status": "parked"}}, {"$sort": {"_id": 1}}, {"$limit": limit}, *joins]
        )
        return [
            Parked(sent["channel"], listening["name"], _message(sent), dead["error"])
            for dead in found
            for sent in dead["sent"]
            for listening in dead["listening"]
        ]

    # life

    async def check(self) -> None:
        await self.backend.check()

    async def _prepare(self) -> None:
        await self._home.prepare()

    async def _flush(self) -> None:
        batch = self._batch
        if batch is not None and batch.sent is not None:
            await asyncio.wait([batch.sent])

    async def inherit(self) -> int:
        return await self._leases.expire()

    async def purge(self, *, older_than: float, abandoned: float) -> int:
        await self._keep_groups(abandoned)
        messages, total = self._collection(MESSAGES), 0
        open_one = {
            "$lookup": {
                "from": DELIVERIES,
                "localField": "_id",
                "foreignField": "message",
                "pipeline": [{"$limit": 1}, {"$project": {"_id": 1}}],
                "as": "open",
            }
        }
        old = {"$match": {"$expr": {"$lt": ["$created_at", ago(older_than)]}}}
        ends: list[Document] = [{"$match": {"open": []}}, {"$limit": _PURGED}, {"$project": {"_id": 1}}]
        leases = MongoLeases(self.backend, MESSAGES)
        while True:
            found = await leases.aggregate([old, {"$sort": {"created_at": 1}}, open_one, *ends])
            if found:
                ids = {"_id": {"$in": [each["_id"] for each in found]}}
                total += (await alone(self.backend, lambda _, ids=ids: messages.delete_many(ids))).deleted_count  # type: ignore[misc]
            if len(found) < _PURGED:
                return total

    async def _keep_groups(self, abandoned: float) -> None:
        groups, mine = self._collection(GROUPS), {"number": {"$in": [*self._groups]}}
        await alone(self.backend, lambda _: groups.update_many(mine, [{"$set": {"seen_at": "$$NOW"}}]))
        old = {"$expr": {"$lt": ["$seen_at", ago(abandoned)]}}
        found = await alone(self.backend, lambda _: groups.find(old, {"number": 1}).to_list(None))
        if found:
            gone = [each["number"] for each in found]
            await alone(self.backend, lambda _: self._leases.collection.delete_many({"group": {"$in": gone}}))
            await alone(self.backend, lambda _: groups.delete_many({**old, "number": {"$in": gone}}))


def _document(channel: str, message: TransportMessage, number: int) -> Document:
    document = {
        "_id": ObjectId(),
        "channel": channel,
        "number": number,
        "id": message.id,
        "type": message.type,
        "body": message.body,
        "headers": written(message.headers),
    }
    if message.key is not None:
        document["key"] = message.key
    return document


def _message(document: Mapping[str, Any]) -> TransportMessage:
    body, headers = bytes(document["body"]), headers_of(document["headers"])
    return TransportMessage(document["id"], document["type"], body, document.get("key"), headers)

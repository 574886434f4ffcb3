"""The journal in MongoDB: documents of `_wintry_journal`, beside the state that they belong to.

What a unit hands in is added in its own transaction; a row that it delivers is closed behind that (`home.py`). Numbers
come from a counter, taken outside of every transaction, so that units do not wait for one another there: a number that
is not used is a gap and nothing else. For one aggregate they ascend in the order of commits, because a unit stores its
state first, and whoever else has changed it meanwhile makes it begin anew.

A row whose id and target are known is left alone by the unique index; who adds one beside another transaction that
does the same meets a conflict, and then finds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from wintry.repository.backend import Backend
from wintry.repository.mongo import MongoBackend, MongoExecution

from . import documents
from .documents import DELIVERED, LEASE, Gathered, Numbers, added, alone, contents, dated, hence, row_of, together
from .home import Home, recorded
from .journal import Known, Row, Seen, Stats, Status
from .mongo_home import MongoHome
from .mongo_leases import MongoLeases, changing, held_by
from .names import JOURNAL

_DONE: Mapping[str, Any] = {"status": "done", "done_at": "$$NOW"}
_CLOSED = [*LEASE, "open"]
_ANEW: Mapping[str, Any] = {"status": "pending", "attempts": 0, "due": "$$NOW", "open": True}


class MongoJournal:
    """A journal on a MongoDB backend, whose collections `prepare` makes.

    `home` is the one there; `others` are those of further backends that effects may be stored in.
    """

    closes_in_unit = False

    def __init__(self, backend: MongoBackend, *, home: MongoHome | None = None, others: Sequence[Home] = ()) -> None:
        self.backend = backend
        own = self._home = home or MongoHome(backend)
        own.declare(DELIVERED)
        self.homes: Mapping[Backend, Home] = {each.backend: each for each in (own, *others)}
        self._closing: Gathered[tuple[int, str]] = own.gather(self._close)
        self._leases = MongoLeases(backend, JOURNAL)
        self._numbers = Numbers(backend, JOURNAL)

    async def prepare(self) -> None:
        """Make the collections and indexes that are missing."""
        await self._home.prepare()

    async def flush(self) -> None:
        """Wait until what was to be done later is done."""
        await self._home.flush()

    @property
    def _rows(self) -> Any:
        return self._leases.collection

    # deliveries

    async def append(
        self, rows: Sequence[Row], *, owner: str, lease: float, execution: object | None = None
    ) -> Sequence[Row]:
        if not rows:
            return []
        if execution is not None:
            return await self._add(documents.running(execution), rows, owner, lease)
        stored = await together(self.backend, lambda on: self._add(on, rows, owner, lease))
        return await self.committed(rows, stored, owner=owner)

    async def committed(self, rows: Sequence[Row], stored: Sequence[Row], *, owner: str) -> Sequence[Row]:
        back = await self._leases.step_back([row.seq for row in stored if row.lane and row.lease_owner == owner], owner)
        return [
            replace(row, lease_owner=None, lease_until=None, attempts=0) if row.seq in back else row for row in stored
        ]

    async def adopt(self, rows: Sequence[Row]) -> None:
        await together(self.backend, lambda on: self._add(on, rows, None, 0.0))

    async def _add(self, on: MongoExecution, rows: Sequence[Row], owner: str | None, lease: float) -> list[Row]:
        waiting = await self._lanes_of_others(on, rows, owner)
        first = await self._numbers.take(len(rows))
        given, writes = [], []
        for number, row in enumerate(rows, first):
            free = owner is not None and row.lane not in waiting
            if row.lane is not None and row.due is not None:
                waiting.add(row.lane)
            leased = replace(row, seq=number, lease_owner=owner if free else None, attempts=int(free))
            given.append(leased)
            writes.append(_addition(leased, lease))
        collection = self.backend.collection(JOURNAL)
        done = await on.run(lambda session: collection.bulk_write(writes, session=session))
        stored = [given[at] for at in sorted(done.upserted_ids)]
        return await self._as_stored(on, stored) if any(row.due is not None for row in stored) else stored

    async def _lanes_of_others(self, on: MongoExecution, rows: Sequence[Row], owner: str | None) -> set[str]:
        """The lanes of `rows` in which something is open that is not leased to `owner`."""
        lanes = [*{row.lane for row in rows if row.lane is not None}]
        if not lanes or owner is None:
            return set()
        foreign = {"lane": {"$in": lanes}, "open": True, "lease_owner": {"$ne": owner}}
        collection = self.backend.collection(JOURNAL)
        return {*await on.run(lambda session: collection.distinct("lane", foreign, session=session))}

    async def _as_stored(self, on: MongoExecution, rows: Sequence[Row]) -> list[Row]:
        """What the server made of rows whose time it had to judge."""
        collection, seqs = self.backend.collection(JOURNAL), {"_id": {"$in": [row.seq for row in rows]}}
        found = await on.run(lambda session: collection.find(seqs, sort=[("_id", 1)], session=session).to_list(None))
        return [row_of(document) for document in found]

    async def claim(self, *, limit: int, owner: str, lease: float, known: Known) -> Sequence[Row]:
        where = _condition(known)
        if not where:
            return []
        await self._closing.flush()  # what stands behind these in a lane is free then
        return [
            row_of(each) for each in await self._leases.claim({"$or": where}, limit=limit, owner=owner, lease=lease)
        ]

    async def complete(self, seqs: Sequence[int], *, owner: str, execution: object | None = None) -> int:
        if execution is None:
            return await self._leases.change(seqs, owner, _DONE, drop=_CLOSED)
        collection, changes = self.backend.collection(JOURNAL), changing(_DONE, _CLOSED)
        held = held_by(seqs, owner)
        done = await documents.running(execution).run(
            lambda session: collection.update_many(held, changes, session=session)
        )
        return int(done.matched_count)

    def complete_soon(self, seq: int, *, owner: str) -> None:
        self._closing.add((seq, owner))

    async def _close(self, held: Sequence[tuple[int, str]]) -> None:
        for owner in {owner for _, owner in held}:
            await self.complete([seq for seq, holder in held if holder == owner], owner=owner)

    async def retry(self, seq: int, *, owner: str, error: str, delay: float) -> bool:
        fields = {"due": hence(delay), "error": {"$literal": error}}
        return await self._leases.change([seq], owner, fields) == 1

    async def release(self, seqs: Sequence[int], *, owner: str) -> int:
        return await self._leases.release(seqs, owner)

    async def park(self, seq: int, *, owner: str, error: str, hold: bool = False) -> bool:
        status = Status.HELD if hold else Status.PARKED
        return await self._leases.park(seq, owner, error, status=status.value)

    async def bury(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        first = await self._numbers.take(len(rows))
        writes = []
        for number, row in enumerate(rows, first):
            said = {"_id": number, "status": "parked", "dead": True, "attempts": row.attempts, "error": row.error}
            now = {"due": "$$NOW", "created_at": "$$NOW"}
            writes.append(added({"id": row.id, "target": row.target}, {**contents(row), **said}, now))
        await alone(self.backend, lambda _: self._rows.bulk_write(writes))

    async def renew(self, seqs: Sequence[int], *, owner: str, lease: float) -> Sequence[int]:
        return await self._leases.renew(seqs, owner, lease) if seqs else []

    async def seen(self, message_id: str, target: str) -> Seen | None:
        done = {"id": message_id, "target": target, "status": "done"}
        closed = await alone(self.backend, lambda _: self._rows.find_one(done))
        at = None if closed is None else row_of(closed).done_at
        return Seen(at) if at is not None else await recorded(self.homes.values(), message_id, target)

    # people and housekeeping

    async def inherit(self) -> int:
        return await self._leases.expire()

    async def dead(
        self, *, type: str | None = None, since: datetime | None = None, seq: int | None = None, limit: int = 100
    ) -> Sequence[Row]:
        where: dict[str, Any] = {"dead": True}
        if type is not None:
            where["type"] = type
        if since is not None:
            where["created_at"] = {"$gte": dated(since)}
        if seq is not None:
            where["_id"] = seq
        found = await alone(
            self.backend, lambda _: self._rows.find(where, sort=[("_id", 1)], limit=limit).to_list(None)
        )
        return [row_of(document) for document in found]

    async def redrive(self, seqs: Sequence[int]) -> int:
        dead = {"_id": {"$in": [*seqs]}, "dead": True}
        again = changing(_ANEW, [*LEASE, "dead"])
        done = await alone(self.backend, lambda _: self._rows.update_many(dead, again))
        return int(done.modified_count)

    async def discard(self, seqs: Sequence[int]) -> int:
        dead = {"_id": {"$in": [*seqs]}, "dead": True}
        return int((await alone(self.backend, lambda _: self._rows.delete_many(dead))).deleted_count)

    async def stats(self) -> Stats:
        counts = []
        for where in (
            {"status": "pending"},
            {"dead": True, "status": "parked"},
            {"dead": True, "status": "held"},
            {"status": "done"},
        ):
            counts.append(await alone(self.backend, lambda _, where=where: self._rows.count_documents(where)))  # type: ignore[misc]
        pending, parked, held, done = counts
        return Stats(pending, parked, held, done, await self._oldest())

    async def _oldest(self) -> float | None:
        """How many seconds ago what waits longest was due."""
        now = {"$addFields": {"age": {"$subtract": ["$$NOW", "$due"]}}}
        due = {"$match": {"status": "pending", "$expr": documents.DUE}}
        found = await self._leases.aggregate([due, {"$sort": {"status": 1, "due": 1}}, {"$limit": 1}, now])
        return found[0]["age"] / 1000 if found else None

    async def purge(self, *, older_than: float) -> int:
        return await documents.purge(self.backend, JOURNAL, "done_at", {"status": "done"}, older_than)

    async def replay(self, *, since: datetime, channel: str) -> int:
        done: dict[str, Any] = {"status": "done", "done_at": {"$gte": dated(since)}}
        found = await alone(self.backend, lambda _: self._rows.distinct("target", done))
        targets = [target for target in found if target.partition(":")[2] == channel]
        sends = {**done, "target": {"$in": targets}}
        again = await alone(self.backend, lambda _: self._rows.update_many(sends, changing(_ANEW, ["done_at"])))
        return int(again.modified_count)


def _addition(row: Row, lease: float) -> Any:
    """The write that adds a row, unless it is known; leased to its owner, if it is due by the server's clock."""
    document = {**contents(row), "_id": row.seq, "status": "pending", "open": True}
    computed: dict[str, Any] = {"created_at": "$$NOW", "due": "$$NOW" if row.due is None else dated(row.due)}
    due: Any = True if row.due is None else {"$lte": [dated(row.due), "$$NOW"]}
    if row.lease_owner is None:
        document["attempts"] = 0
    else:
        computed["attempts"] = {"$cond": [due, 1, 0]}
        computed["lease_owner"] = {"$cond": [due, {"$literal": row.lease_owner}, "$$REMOVE"]}
        computed["lease_until"] = {"$cond": [due, hence(lease), "$$REMOVE"]}
    return added({"id": row.id, "target": row.target}, document, computed)


def _condition(known: Known) -> list[dict[str, Any]]:
    """What a process can deliver, one condition for each handler and transport."""
    handlers = [{"target": target, "version": {"$lte": version}} for target, version in known.handlers.items()]
    sends = [{"target": {"$regex": f"^{re.escape(name)}:"}} for name in sorted(known.transports)]
    return [*handlers, *sends]

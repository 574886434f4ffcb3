"""Leases on the documents of a collection: the rules of `leases.py`, in MongoDB.

A claim looks for documents that may be claimed, leases those of them that are still free, each by itself and marked
with the number of the claim, and reads back which ones it has got. As with row locks elsewhere, two may at the same
moment be given documents of one lane; so `crowded` is asked after each lease.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from wintry.repository.mongo import MongoBackend
from wintry.repository.mongo.client import settled

from ..owners import is_gone
from .documents import DUE, FREE, LEASE, MAJORITY, alone, hence

Document = dict[str, Any]


class MongoLeases:
    """The leases on collection `name`; a document is in the lane that its field `lane` names, in none without one."""

    def __init__(self, backend: MongoBackend, name: str) -> None:
        self._backend = backend
        self._name = name

    @property
    def collection(self) -> Any:
        """The driver's collection; what is written is durable on a majority."""
        return self._backend.collection(self._name).with_options(write_concern=MAJORITY)

    async def claim(self, where: Mapping[str, Any], *, limit: int, owner: str, lease: float) -> list[Document]:
        """Lease documents to `owner` for `lease` seconds; gives them, oldest first."""
        seqs = await self._free(where, limit)
        if not seqs:
            return []
        token = os.urandom(8).hex()
        change = {
            "lease_owner": {"$literal": owner},
            "lease_until": hence(lease),
            "attempts": {"$add": ["$attempts", 1]},
            "claim": token,
        }
        free = {"_id": {"$in": seqs}, "status": "pending", **FREE}
        await alone(self._backend, lambda _: self.collection.update_many(free, [{"$set": change}]))
        mine = {"_id": {"$in": seqs}, "claim": token}
        taken = await alone(self._backend, lambda _: self.collection.find(mine, sort=[("_id", 1)]).to_list(None))
        laned = [document["_id"] for document in taken if "lane" in document]
        back = await self.step_back(laned, owner)
        return [document for document in taken if document["_id"] not in back]

    async def _free(self, where: Mapping[str, Any], limit: int) -> list[int]:
        """The numbers of documents that may be claimed, oldest first."""
        found = [each for pipeline in self.pipelines(where, limit) for each in await self.aggregate(pipeline)]
        found.sort(key=lambda document: (document["due"], document["_id"]))
        return [document["_id"] for document in found[:limit]]

    def pipelines(self, where: Mapping[str, Any], limit: int) -> tuple[list[Document], list[Document]]:
        """What finds the oldest documents that may be claimed: those without a lane, and those with one."""
        free = {"status": "pending", "$and": [FREE, where], "$expr": DUE}
        order: list[Document] = [{"$sort": {"due": 1, "_id": 1}}]
        ends: list[Document] = [{"$limit": limit}, {"$project": {"due": 1}}]
        before = {"$and": [{"$ne": ["$_id", "$$seq"]}, {"$or": [{"$lt": ["$_id", "$$seq"]}, _RUNS]}]}
        unlaned = [{"$match": {**free, "lane": {"$exists": False}}}, *order, *ends]
        laned = [
            {"$match": {**free, "lane": {"$exists": True}}},
            *order,
            self._others(before),
            {"$match": {"others": []}},
            *ends,
        ]
        return unlaned, laned

    async def step_back(self, seqs: Sequence[int], owner: str) -> set[int]:
        """Give back those of an owner's documents that have to wait for another process in their lane."""
        if not seqs:
            return set()
        foreign = {
            "$and": [
                {"$ne": ["$_id", "$$seq"]},
                {"$ne": ["$lease_owner", {"$literal": owner}]},
                {"$or": [{"$lt": ["$_id", "$$seq"]}, _RUNS]},
            ]
        }
        found = await self.aggregate(
            [
                {"$match": {"_id": {"$in": [*seqs]}, "lease_owner": owner}},
                self._others(foreign),
                {"$match": {"others": {"$ne": []}}},
                {"$project": {"_id": 1}},
            ]
        )
        crowded = [document["_id"] for document in found]
        await self.release(crowded, owner)
        return {*crowded}

    def _others(self, condition: Mapping[str, Any]) -> Document:
        """The open documents of the same lane that fulfil `condition`, one of them."""
        return {
            "$lookup": {
                "from": self._name,
                "localField": "lane",
                "foreignField": "lane",
                "let": {"seq": "$_id"},
                "pipeline": [
                    {"$match": {"open": True, "$expr": condition}},
                    {"$limit": 1},
                    {"$project": {"_id": 1}},
                ],
                "as": "others",
            }
        }

    async def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        """What a pipeline on the collection gives."""

        async def call(_: object) -> list[Document]:
            cursor = await settled(self.collection.aggregate(pipeline))
            found: list[Document] = await cursor.to_list(None)
            return found

        return await alone(self._backend, call)

    async def expire(self) -> int:
        """End the leases of processes of this host that have ended; gives the number of documents."""
        runs = {"status": "pending", "$expr": {"$gt": ["$lease_until", "$$NOW"]}}
        held = await self.aggregate([{"$match": runs}, {"$group": {"_id": "$lease_owner"}}])
        gone = [each["_id"] for each in held if each["_id"] is not None and is_gone(each["_id"])]
        if not gone:
            return 0
        ended = {**runs, "lease_owner": {"$in": gone}}
        done = await alone(
            self._backend, lambda _: self.collection.update_many(ended, [{"$set": {"lease_until": "$$NOW"}}])
        )
        return int(done.modified_count)

    async def release(self, seqs: Sequence[int], owner: str) -> int:
        """Give documents back, the attempt not counted."""
        return await self.change(seqs, owner, {"attempts": {"$subtract": ["$attempts", 1]}})

    async def renew(self, seqs: Sequence[int], owner: str, lease: float) -> list[int]:
        """Lengthen leases to `lease` seconds from now; gives the documents that are still held."""
        await self.change(seqs, owner, {"lease_until": hence(lease)}, drop=())
        held = held_by(seqs, owner)
        found = await alone(self._backend, lambda _: self.collection.find(held, {"_id": 1}).to_list(None))
        return [document["_id"] for document in found]

    async def park(self, seq: int, owner: str, error: str, *, status: str) -> bool:
        """Take a document out for a person to see; a held one stays open."""
        fields = {"status": status, "error": {"$literal": error}, "dead": True}
        drop = LEASE if status == "held" else [*LEASE, "open"]
        return await self.change([seq], owner, fields, drop=drop) == 1

    async def change(
        self, seqs: Sequence[int], owner: str, fields: Mapping[str, Any], *, drop: Sequence[str] = LEASE
    ) -> int:
        """Set and drop fields of documents that `owner` holds; gives how many there were."""
        if not seqs:
            return 0
        changes = changing(fields, drop)
        done = await alone(self._backend, lambda _: self.collection.update_many(held_by(seqs, owner), changes))
        return int(done.matched_count)


def held_by(seqs: Sequence[int], owner: str) -> Document:
    """The documents of `seqs` that `owner` holds."""
    return {"_id": {"$in": [*seqs]}, "lease_owner": owner, "status": "pending"}


def changing(fields: Mapping[str, Any], drop: Sequence[str]) -> list[Document]:
    """The pipeline that sets and drops fields."""
    return [*([{"$set": dict(fields)}] if fields else []), *([{"$unset": [*drop]}] if drop else [])]


_RUNS: Mapping[str, Any] = {"$gt": ["$lease_until", "$$NOW"]}

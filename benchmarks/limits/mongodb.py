"""One product's unit of work by hand on MongoDB: PyMongo's asynchronous client, the commands that Wintry sends."""

from __future__ import annotations

from typing import Any

from bson.int64 import Int64
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from benchmarks.limits.postgresql import Batch, Line, Product, Stale

OPTIONS: dict[str, Any] = {
    "read_concern": ReadConcern("snapshot"),
    "write_concern": WriteConcern("majority"),
    "read_preference": ReadPreference.PRIMARY,
}


class Store:
    """The commands, each operation in a session of its own."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        self._client = client
        self._products = client.get_default_database()["products"]

    @classmethod
    async def open(cls, url: str) -> Store:
        return cls(AsyncMongoClient(url))

    async def close(self) -> None:
        await self._client.close()

    async def allocate(self, sku: str, orderid: str) -> int:
        """Load, push a line to the first batch, commit; how many lines the batch has then."""
        async with self._client.start_session() as session, await session.start_transaction(**OPTIONS):
            document = await self._products.find_one({"_id": sku}, session=session)
            version, product = built(document)
            batch = product.batches[0]
            batch.lines.append(Line(orderid=orderid, qty=1))
            pushed = {"$push": {"batches.0.lines": {"$each": [{"qty": Int64(1), "orderid": orderid}]}}}
            change = {**pushed, "$set": {"_version": Int64(version + 1)}}
            done = await self._products.update_one({"_id": sku, "_version": version}, change, session=session)
            if done.matched_count != 1:
                raise Stale(sku)
        return len(batch.lines)

    async def read(self, sku: str) -> int:
        """Load in a transaction of its own; how many lines there are."""
        async with self._client.start_session() as session, await session.start_transaction(**OPTIONS):
            _, product = built(await self._products.find_one({"_id": sku}, session=session))
        return sum(len(batch.lines) for batch in product.batches)

    async def get(self, sku: str) -> Product:
        """One command, in no transaction."""
        return built(await self._products.find_one({"_id": sku}))[1]

    async def get_by_reference(self, reference: str) -> Product:
        """The same by a field of a batch."""
        query = {"batches": {"$elemMatch": {"reference": reference}}, "batches.reference": reference}
        (document,) = await self._products.find(query, sort=[("_id", 1)], limit=2).to_list(None)
        return built(document)[1]

    async def count_by_reference(self, reference: str) -> int:
        """How many have such a batch."""
        query = {"batches": {"$elemMatch": {"reference": reference}}, "batches.reference": reference}
        return int(await self._products.count_documents(query))


def built(document: Any) -> tuple[int, Product]:
    """The version and the objects of a document."""
    return int(document["_version"]), Product(
        sku=document["_id"], batches=[_batch(each) for each in document["batches"]]
    )


def _batch(document: Any) -> Batch:
    made = [Line(qty=int(line["qty"]), orderid=line["orderid"]) for line in document["lines"]]
    return Batch(sku=document["sku"], quantity=int(document["quantity"]), reference=document["reference"], lines=made)

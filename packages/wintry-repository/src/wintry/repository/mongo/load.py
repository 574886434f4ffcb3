"""Aggregates by id: one statement for any number of them.

The server gives documents in an order of its own, and each once; the caller gets them in the order of his ids. A single
one is asked for by equality, and needs no ordering.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from .documents import ID, Documents

if TYPE_CHECKING:
    from wintry.models import Model

    from .session import MongoExecution

Loaded: TypeAlias = "tuple[Model, int]"
"""An aggregate and its version."""


async def load(execution: MongoExecution, documents: Documents, ids: Sequence[Any]) -> list[Loaded]:
    """The aggregates of `ids` that are there, in their order."""
    if not ids:
        return []
    decode = documents.decode
    if len(ids) == 1:
        by_id = {ID: {"$eq": documents.id(ids[0])}}
        found = await execution.one(documents.name, by_id, comment=f"{documents.info.name} by id")
        return [] if found is None else [decode(found)]
    among = {ID: {"$in": [documents.id(id) for id in ids]}}
    rows = [decode(row) for row in await execution.find(documents.name, among, f"{documents.info.name} by ids")]
    id_of = documents.info.id_of
    by_key = {id_of(row[0]): row for row in rows}
    return [by_key[id] for id in dict.fromkeys(ids) if id in by_key]

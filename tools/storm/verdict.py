"""The ledger against what is stored, once everything that was begun has come to its end.

The ledger has what clients were answered. A line that was accepted and is in no product is lost; one that is there
twice is doubled. Products are read through the service, the view and the journal in the stores themselves: the view
must have exactly the lines of the products, and the journal nothing open and nothing dead. Until that is so nothing is
judged, for as long as `SETTLE`: what is still open then is stuck.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pymongo

from .traffic import PLENTY, SCARCE, Ledger
from .world import World

SETTLE = 180.0  # seconds until nothing may be under way any more
VIEWS = "allocations_view_models"
OPEN = "SELECT count(*) FROM _wintry_journal WHERE status NOT IN ('done', 'parked', 'held')"
DEAD = "SELECT target || ': ' || coalesce(error, '') FROM _wintry_journal WHERE status IN ('parked', 'held')"

Line = tuple[str, str]
"""Order and product."""


@dataclass
class Verdict:
    """What should not be, by its kind: every list is empty where all is well."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    oversold: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not any(vars(self).values())


@dataclass
class Stored:
    """What the service and its stores say."""

    lines: Counter[Line]
    batch_of: dict[Line, str]
    oversold: list[str]
    view: Counter[tuple[str, str, str]]
    """Order, product and batch of every row."""
    open: int
    dead: list[str]

    def mismatches(self) -> list[str]:
        """Where the view does not say what the products say."""
        wanted = Counter({(*line, batch): 1 for line, batch in self.batch_of.items()})
        missing = [f"{order} {sku} {batch} is not in the view" for order, sku, batch in wanted - self.view]
        surplus = [f"{order} {sku} {batch} is in the view only" for order, sku, batch in self.view - wanted]
        return missing + surplus


async def judge(world: World, ledger: Ledger) -> Verdict:
    """Wait until nothing is under way, at most `SETTLE` seconds, and compare."""
    until = time.monotonic() + SETTLE
    stored = await look(world)
    while (stored.open or stored.mismatches()) and time.monotonic() < until:
        await asyncio.sleep(1)
        stored = await look(world)
    return compare(ledger, stored)


def compare(ledger: Ledger, stored: Stored) -> Verdict:
    """What was answered against what is there."""
    return Verdict(
        lost=[f"{order} {sku}" for order, sku in sorted(ledger.accepted) if not stored.lines[order, sku]],
        doubled=[f"{line}: {count} lines" for line, count in stored.lines.items() if count > 1],
        oversold=stored.oversold + [f"{line} was refused, and is there" for line in ledger.refused & set(stored.lines)],
        mismatched=stored.mismatches(),
        stuck=ledger.stuck + stored.dead + ([f"{stored.open} deliveries are open"] if stored.open else []),
        unexpected=ledger.unexpected,
    )


async def look(world: World) -> Stored:
    """Ask for everything once."""
    stored = Stored(Counter(), {}, [], Counter(), 0, [])
    for sku in PLENTY + SCARCE:
        add_product(stored, await world.service.product(sku))
    async with pymongo.AsyncMongoClient[dict[str, Any]](world.mongodb) as client:
        database = client.get_default_database()
        async for row in database[VIEWS].find():
            stored.view[row["orderid"], row["sku"], row["batchref"]] += 1
        stored.open += await database["_wintry_outgoing"].count_documents({})
    await add_journal(stored, world)
    return stored


def add_product(stored: Stored, product: dict[str, Any]) -> None:
    for batch in product["batches"]:
        for line in batch["lines"]:
            stored.lines[line["orderid"], product["sku"]] += 1
            stored.batch_of[line["orderid"], product["sku"]] = batch["reference"]
        sold = sum(line["qty"] for line in batch["lines"])
        if sold > batch["purchased_quantity"]:
            stored.oversold.append(f"{batch['reference']}: {sold} of {batch['purchased_quantity']}")


async def add_journal(stored: Stored, world: World) -> None:
    connection = await asyncpg.connect(world.postgres)
    try:
        if await connection.fetchval("SELECT to_regclass('_wintry_journal')") is not None:
            stored.open += await connection.fetchval(OPEN)
            stored.dead += [row[0] for row in await connection.fetch(DEAD)]
    finally:
        await connection.close()

"""The clients of the storm, and the ledger of what they were told.

An order is sent until it is answered; so is a batch. A quantity is changed by HTTP or by a message, by turns, and the
next change of that batch comes when this one is seen: which of two changes that are under way comes last, nobody says.

Of most products there is more than all the orders want, also when a batch has shrunk, so that an order that was
accepted must have its line for ever. The scarce ones never shrink: they sell out, and what was accepted of them is
what is there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx2

from allocation.commands import ChangeBatchQuantity
from wintry.bus.transports import TransportMessage
from wintry.web.transports.redis import RedisStreams

from .world import World

PLENTY = [f"PLENTY-{number}" for number in range(120)]
SCARCE = [f"SCARCE-{number}" for number in range(4)]
HOT, STOCK, SHARE = PLENTY[0], 100_000, 10
"""The product of every tenth order; what a plentiful product has; what each of the two batches of a scarce one has."""
CLIENTS, PAUSE = 12, 0.2
"""How many send orders, and the seconds between two of one client, on average."""
SHIFTING = 6  # batches whose quantity changes, each by a client of its own
PATIENCE = 120.0  # seconds that a change may take until it is seen
AGAIN = 0.1


@dataclass
class Ledger:
    """What the clients were told. Orders are `(orderid, sku)`."""

    accepted: set[tuple[str, str]] = field(default_factory=set)
    refused: set[tuple[str, str]] = field(default_factory=set)
    unexpected: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    changes: int = 0
    batches: int = 0


class Traffic:
    """The clients, until `until`, a time of `time.monotonic`."""

    def __init__(self, world: World, chance: random.Random, until: float) -> None:
        self.world = world
        self.ledger = Ledger()
        self._chance = chance
        self._until = until
        self._sender = RedisStreams(world.redis, owner="storm")

    async def prepare(self) -> None:
        """Store the first batches."""
        for sku in PLENTY:
            await self._batch(f"{sku}-first", sku, STOCK)
        for number in range(SHIFTING):
            await self._batch(f"shifting-{number}", PLENTY[number], 50)
        for sku in SCARCE:
            for half in ("a", "b"):
                await self._batch(f"{sku}-{half}", sku, SHARE)

    async def run(self) -> Ledger:
        """All clients at once; returns when the last of them has its last answer."""
        try:
            await asyncio.gather(
                *(self._orders(f"c{number}") for number in range(CLIENTS)),
                *(self._shift(number) for number in range(SHIFTING)),
                self._batches(),
            )
        finally:
            await self._sender.stop()
        return self.ledger

    async def _orders(self, client: str) -> None:
        sent: list[tuple[str, str]] = []
        while time.monotonic() < self._until:
            await asyncio.sleep(self._chance.expovariate(1 / PAUSE))
            what = self._chance.random()
            if what < 0.1 and sent:
                await self._order(*self._chance.choice(sent))  # once more: nothing may change
            elif what < 0.2 and sent:
                await self._ask("GET", f"/allocations/{self._chance.choice(sent)[0]}")
            else:
                sent.append((f"{client}-{len(sent)}", self._sku()))
                await self._order(*sent[-1])

    def _sku(self) -> str:
        what = self._chance.random()
        if what < 0.1:
            return HOT
        return self._chance.choice(SCARCE if what < 0.15 else PLENTY)

    async def _order(self, orderid: str, sku: str) -> None:
        answer = await self._ask("POST", "/allocate", orderid=orderid, sku=sku, qty=1)
        if answer.status_code == 202:
            self.ledger.accepted.add((orderid, sku))
        elif answer.status_code == 409 and sku in SCARCE and "Out of stock" in answer.text:
            self.ledger.refused.add((orderid, sku))
        else:
            self.ledger.unexpected.append(f"{orderid} {sku}: {answer.status_code} {answer.text}")

    async def _batches(self) -> None:
        while time.monotonic() < self._until:
            await asyncio.sleep(self._chance.expovariate(1 / 2))
            await self._batch(f"later-{self.ledger.batches}", self._chance.choice(PLENTY), 10)

    async def _batch(self, ref: str, sku: str, qty: int) -> None:
        answer = await self._ask("POST", "/add_batch", ref=ref, sku=sku, qty=qty)
        self.ledger.batches += 1
        if answer.status_code != 201:
            self.ledger.unexpected.append(f"{ref}: {answer.status_code} {answer.text}")

    async def _shift(self, number: int) -> None:
        ref, sku = f"shifting-{number}", PLENTY[number]
        while time.monotonic() < self._until:
            await asyncio.sleep(self._chance.expovariate(1 / 3))
            change = ChangeBatchQuantity(ref=ref, qty=self._chance.randrange(60))
            if self.ledger.changes % 2:
                await self._send(change)
            else:
                answer = await self._ask("POST", "/change_batch_quantity", **change.model_dump())
                if answer.status_code != 202:
                    self.ledger.unexpected.append(f"{change}: {answer.status_code} {answer.text}")
            self.ledger.changes += 1
            if not await self._seen(sku, change):
                self.ledger.stuck.append(f"{change} was not done within {PATIENCE:g} s")
                return

    async def _send(self, change: ChangeBatchQuantity) -> None:
        """Publish until the broker has it."""
        id = f"{change.ref}-{self.ledger.changes}"
        message = TransportMessage(id, "ChangeBatchQuantity", change.model_dump_json().encode())
        while True:
            try:
                await self._sender.publish("change_batch_quantity", [message])
            except OSError:
                await asyncio.sleep(AGAIN)
            else:
                return

    async def _seen(self, sku: str, change: ChangeBatchQuantity) -> bool:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            product = (await self._ask("GET", f"/products/{sku}")).json()
            if any((b["reference"], b["purchased_quantity"]) == (change.ref, change.qty) for b in product["batches"]):
                return True
            await asyncio.sleep(AGAIN)
        return False

    async def _ask(self, method: str, path: str, **body: object) -> httpx2.Response:
        """Ask until somebody answers: a process that ends, or a store that is away, is asked again."""
        service = self.world.service
        while True:
            try:
                answer = await service.http.request(method, f"{service.url}{path}", json=body or None)
            except httpx2.TransportError as error:
                self.ledger.answers[type(error).__name__] += 1
            else:
                self.ledger.answers[str(answer.status_code)] += 1
                if answer.status_code != 503:
                    return answer
            await asyncio.sleep(AGAIN)

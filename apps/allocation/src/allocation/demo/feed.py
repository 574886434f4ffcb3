"""Feeding the day: batches and order lines over HTTP, changes of quantity over the broker.

What concerns one product is sent in the order of the file, different products side by side. A change is answered by
nobody: its effect is waited for, and the lines that have lost their place by then are asked for once more. The service
may have found them another one meanwhile, or does so now; the same line is never allocated twice.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import httpx2

from allocation.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.demo.day import Day
from allocation.demo.errors import DemoError
from wintry.bus import Publisher

CLIENTS = 16
APPLIED_SECONDS = 30.0
POLL_SECONDS = 0.05

STEP = TypeVar("STEP", CreateBatch, Allocate, ChangeBatchQuantity)
Product = dict[str, Any]
Advance = Callable[[], object]


class Feed:
    """One feeding of a service. `refused` has the reason for each step that was turned down."""

    def __init__(self, http: httpx2.AsyncClient, day: Day) -> None:
        self.http = http
        self.day = day
        self.refused: dict[tuple[str, str], str] = {}

    async def add_batches(self, advance: Advance) -> None:
        changed = {change.ref for change in self.day.changes}

        async def add(batch: CreateBatch) -> None:
            reason = await self.post("add_batch", batch)
            # A batch that a change of this very file has altered is known with other data the second time.
            if reason is not None and batch.ref not in changed:
                self.refused[batch.sku, f"{batch.ref}×{batch.qty}"] = reason
            advance()

        await side_by_side(self.day.batches, lambda batch: batch.sku, add)

    async def allocate_lines(self, advance: Advance) -> None:
        async def allocate(line: Allocate) -> None:
            await self.allocate(line)
            advance()

        await side_by_side(self.day.lines, lambda line: line.sku, allocate)

    async def allocate(self, line: Allocate) -> None:
        reason = await self.post("allocate", line)
        if reason is not None:
            self.refused[line.sku, f"{line.orderid}×{line.qty}"] = reason

    async def change_quantities(self, publisher: Publisher, advance: Advance) -> None:
        async def change(step: ChangeBatchQuantity) -> None:
            sku = self.day.skus[step.ref]
            before = await self.product(sku)
            await publisher.send("change_batch_quantity", step.model_dump())
            after = await self.changed(sku, step)
            for line in sorted(held(before) - held(after)):
                await self.allocate(Allocate(orderid=line[0], sku=sku, qty=line[1]))
            advance()

        await side_by_side(self.day.changes, lambda step: self.day.skus[step.ref], change)

    async def changed(self, sku: str, step: ChangeBatchQuantity) -> Product:
        """The product as soon as the service has applied the change.

        Raises:
            DemoError: it has not within `APPLIED_SECONDS`.
        """
        try:
            async with asyncio.timeout(APPLIED_SECONDS):
                while True:
                    product = await self.product(sku)
                    if purchased(product, step.ref) == step.qty:
                        return product
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise DemoError(
                f"the service has not heard within {APPLIED_SECONDS:g} s that {step.ref} has a new quantity; "
                "give the demo the --data and --settings of the service"
            ) from None

    async def products(self) -> list[Product]:
        """Every product of the file, as the service has it."""
        return [await self.product(sku) for sku in sorted(set(self.day.skus.values()))]

    async def product(self, sku: str) -> Product:
        answer = await self.http.get(f"/products/{sku}")
        failed(answer)
        found: Product = answer.json()
        return found

    async def post(self, path: str, step: STEP) -> str | None:
        """Send a step; the reason, if it is refused."""
        answer = await self.http.post(f"/{path}", json=step.model_dump(mode="json"))
        failed(answer)
        return None if answer.is_success else str(answer.json()["message"])


def failed(answer: httpx2.Response) -> None:
    """Raises DemoError for an answer that is the service's own failure."""
    if answer.is_server_error:
        raise DemoError(f"{answer.request.method} {answer.request.url} was answered {answer.status_code}")


async def side_by_side(
    steps: Iterable[STEP], product: Callable[[STEP], str], send: Callable[[STEP], Awaitable[None]]
) -> None:
    """Send the steps of each product one after another, those of `CLIENTS` products at a time."""
    lanes: defaultdict[str, list[STEP]] = defaultdict(list)
    for step in steps:
        lanes[product(step)].append(step)
    waiting = iter(lanes.values())

    async def client() -> None:
        for lane in waiting:
            for step in lane:
                await send(step)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def held(product: Product) -> set[tuple[str, int]]:
    """The lines that have a place in a batch: order and quantity."""
    return {(line["orderid"], line["qty"]) for batch in product["batches"] for line in batch["lines"]}


def purchased(product: Product, ref: str) -> int | None:
    return next((batch["purchased_quantity"] for batch in product["batches"] if batch["reference"] == ref), None)

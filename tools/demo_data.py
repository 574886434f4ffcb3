"""The demo's data file: what a furniture retailer is asked in a day, drawn with a seed.

    python tools/demo_data.py       writes apps/allocation/src/allocation/demo/day.jsonl anew

Feeding the file again must change nothing, though it holds lines that are refused and batches that shrink. So products
are of two kinds. Of most there is plenty: every line finds a place, also after a batch has shrunk. Of the others there
is too little: their last orders take exactly what is left, and a batch that shrinks keeps exactly the lines that still
fit, so that every batch of theirs is full in the end and what was refused once is refused again. The rules that decide
are the service's own (`allocation.models`).
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from allocation.models import Batch, OrderLine, Product

TARGET = Path(__file__).parents[1] / "apps" / "allocation" / "src" / "allocation" / "demo" / "day.jsonl"
SEED = 1943
STYLES = ("OAK", "RETRO", "SMALL", "BLUE")
FURNITURE = ("ARMCHAIR", "BED", "BENCH", "BOOKCASE", "CHAIR", "DESK", "LAMP", "SOFA", "STOOL", "TABLE")
BATCHES = 6  # of each product
ORDERS = 900
SCARCE = 7  # products of which there is too little
SHRINKING, GROWING = 18, 6  # batches of the others
FIRST_ETA = date(2030, 1, 7)

Step = dict[str, dict[str, object]]


class Day:
    """The steps of a day, and the products as they are after them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.products = {f"{style}-{name}": Product(sku=f"{style}-{name}") for name in FURNITURE for style in STYLES}
        self.scarce = set(self.chance.sample(sorted(self.products), SCARCE))
        self.lines: list[OrderLine] = []
        self.orders = 0

    def steps(self) -> Iterator[Step]:
        self.draw_orders()
        batches = self.draw_batches()
        yield from batches
        yield from self.mistaken(batches)
        for line in self.lines:
            self.products[line.sku].allocate(line)
        self.clear_the_shelves()
        yield from map(allocate, self.lines)
        yield from self.odd_lines()
        yield from self.changes()

    def order(self) -> str:
        self.orders += 1
        return f"order-{self.orders:04}"

    def draw_orders(self) -> None:
        skus = sorted(self.products)
        weights = [self.chance.uniform(0.5, 1.5) for _ in skus]
        for _ in range(ORDERS):
            order = self.order()
            chosen = dict.fromkeys(self.chance.choices(skus, weights, k=self.chance.randint(1, 4)))
            self.lines += [OrderLine(orderid=order, sku=sku, qty=self.quantity()) for sku in chosen]

    def quantity(self) -> int:
        """Mostly a few; now and then a whole office."""
        return self.chance.randint(8, 20) if self.chance.random() < 0.06 else self.chance.choice((1, 1, 2, 2, 3, 4, 6))

    def draw_batches(self) -> list[Step]:
        """Stock for what will be ordered, in parts of about the same size; a part of them is still to come."""
        wanted: defaultdict[str, int] = defaultdict(int)
        for line in self.lines:
            wanted[line.sku] += line.qty
        steps: list[Step] = []
        for sku, product in sorted(self.products.items()):
            share = self.chance.uniform(0.85, 0.93) if sku in self.scarce else self.chance.uniform(1.25, 2.1)
            in_stock = self.chance.randint(1, 2)
            for number in range(BATCHES):
                weeks = self.chance.randint(0, 3) + 4 * (number - in_stock)
                batch = Batch(
                    reference=f"batch-{len(steps) + 1:03}",
                    sku=sku,
                    purchased_quantity=max(5, round(wanted[sku] * share / BATCHES * self.chance.uniform(0.7, 1.3))),
                    eta=None if number < in_stock else FIRST_ETA + timedelta(weeks=weeks),
                )
                product.batches.append(batch)
                steps.append(add_batch(batch))
        return steps

    def mistaken(self, batches: list[Step]) -> list[Step]:
        """Deliveries that somebody has typed in twice, the second time with a slip."""
        slips = self.chance.sample(batches[: BATCHES * len(STYLES)], 3)
        return [{"add_batch": {**slip["add_batch"], "qty": 7 + number}} for number, slip in enumerate(slips)]

    def clear_the_shelves(self) -> None:
        """The last orders of what is scarce: the greatest remainder first, which fits nowhere else."""
        for sku in sorted(self.scarce):
            product = self.products[sku]
            for left in sorted((batch.available_quantity for batch in product.batches), reverse=True):
                if left:
                    line = OrderLine(orderid=self.order(), sku=sku, qty=left)
                    product.allocate(line)
                    self.lines.append(line)
            assert not any(batch.available_quantity for batch in product.batches)

    def odd_lines(self) -> Iterator[Step]:
        """Lines that are sent twice, lines whose quantity has changed meanwhile, and skus that do not exist."""
        plenty = [line for line in self.lines if line.sku not in self.scarce]
        yield from map(allocate, self.chance.sample(plenty, 5))
        for line in self.chance.sample(plenty, 4):
            yield allocate(OrderLine(orderid=line.orderid, sku=line.sku, qty=line.qty + 1))
        for sku in ("OAK-TABEL", "BLUE-CHIAR", "OAK-TABEL"):
            yield allocate(OrderLine(orderid=self.order(), sku=sku, qty=self.chance.randint(1, 4)))

    def changes(self) -> Iterator[Step]:
        """One batch of a product each, so that changes may arrive in any order."""
        for sku in sorted(self.scarce):
            batch = self.chance.choice([each for each in self.products[sku].batches if len(each.allocations) > 3])
            kept = len(batch.allocations) - self.chance.randint(1, 3)
            yield change(batch, sum(line.qty for line in batch.allocations[:kept]))
        plenty = sorted(self.products.keys() - self.scarce)
        chosen = self.chance.sample(plenty, SHRINKING + GROWING)
        for sku in chosen[:SHRINKING]:
            product = self.products[sku]
            batch = min(product.batches)
            room = max(each.available_quantity for each in product.batches if each is not batch)
            yield change(batch, max(batch.allocated_quantity - room, batch.allocated_quantity * 2 // 3))
        for sku in chosen[SHRINKING:]:
            batch = max(self.products[sku].batches)
            yield change(batch, batch.purchased_quantity + 10 * self.chance.randint(1, 4))


def add_batch(batch: Batch) -> Step:
    eta = {} if batch.eta is None else {"eta": batch.eta.isoformat()}
    return {"add_batch": {"ref": batch.reference, "sku": batch.sku, "qty": batch.purchased_quantity, **eta}}


def allocate(line: OrderLine) -> Step:
    return {"allocate": {"orderid": line.orderid, "sku": line.sku, "qty": line.qty}}


def change(batch: Batch, qty: int) -> Step:
    return {"change_batch_quantity": {"ref": batch.reference, "qty": qty}}


def text() -> str:
    """The whole file."""
    return "".join(json.dumps(step) + "\n" for step in Day(SEED).steps())


if __name__ == "__main__":
    TARGET.write_text(text(), "utf-8")

"""The write side: a product, its batches of stock, and the order lines allocated to them. Plain objects and plain rules.

A product is the aggregate: whatever happens to one of its batches or lines is saved, versioned and refused with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

from wintry.models import Array, Field, Model, RequiredId


class LineConflict(Exception):
    """The line is allocated already, with another quantity."""


def now() -> datetime:
    return datetime.now(UTC)


class OrderLine(Model):
    qty: int
    orderid: str = RequiredId()
    sku: str = RequiredId()
    allocated_at: datetime = Field(default_factory=now)


class Batch(Model):
    sku: str
    purchased_quantity: int
    reference: str = RequiredId(unique=True)
    allocations: list[OrderLine] = Array()
    eta: date | None = None

    def allocate(self, line: OrderLine) -> None:
        if self.can_allocate(line):
            self.allocations.append(line)

    def deallocate_one(self) -> OrderLine:
        return self.allocations.pop()

    @property
    def allocated_quantity(self) -> int:
        return sum(line.qty for line in self.allocations)

    @property
    def available_quantity(self) -> int:
        return self.purchased_quantity - self.allocated_quantity

    def can_allocate(self, line: OrderLine) -> bool:
        return self.sku == line.sku and self.available_quantity >= line.qty

    def __gt__(self, other: Batch) -> bool:
        """Warehouse stock, which has no eta, goes first; then what arrives earliest."""
        if self.eta is None:
            return False
        if other.eta is None:
            return True
        return self.eta > other.eta


class Product(Model):
    sku: str = RequiredId()
    batches: list[Batch] = Array()

    def find_line(self, orderid: str) -> tuple[Batch, OrderLine] | None:
        """The order's line of this product and the batch that holds it."""
        return next(((b, line) for b in self.batches for line in b.allocations if line.orderid == orderid), None)

    def batch(self, reference: str) -> Batch | None:
        return next((batch for batch in self.batches if batch.reference == reference), None)

    def allocate(self, line: OrderLine) -> str | None:
        """Allocate a line and give the reference of its batch, None when no batch has enough left.

        The same line again keeps its batch and changes nothing; with another quantity it is a `LineConflict`.
        """
        if (found := self.find_line(line.orderid)) is not None:
            holder, allocated = found
            if allocated.qty != line.qty:
                raise LineConflict(
                    f"Line {line.sku} of order {line.orderid} is allocated with quantity {allocated.qty}"
                )
            return holder.reference
        batch = next((batch for batch in sorted(self.batches) if batch.can_allocate(line)), None)
        if batch is None:
            return None
        batch.allocate(line)
        return batch.reference

    def change_batch_quantity(self, ref: str, qty: int) -> Iterator[OrderLine]:
        """Set what was purchased of a batch, and yield the lines that no longer fit, last in first."""
        batch = next(b for b in self.batches if b.reference == ref)
        batch.purchased_quantity = qty
        while batch.available_quantity < 0:
            yield batch.deallocate_one()

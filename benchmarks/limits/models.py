"""The aggregate of the quick start as standard dataclasses, and what one would do with them by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any


@dataclass(kw_only=True)
class OrderLine:
    qty: int
    orderid: str
    sku: str


@dataclass(kw_only=True)
class Batch:
    sku: str
    purchased_quantity: int
    reference: str
    allocations: list[OrderLine] = field(default_factory=list)
    eta: date | None = None


@dataclass(kw_only=True)
class Product:
    sku: str
    batches: list[Batch] = field(default_factory=list)


Line = tuple[int, str, str]
Row = tuple[str, int, str, Sequence[Line], date | None]


def rows(batches: int, lines: int) -> tuple[str, list[Row]]:
    """A product as a store would give it."""
    return "chair", [
        ("chair", 100, f"b{b}", [(n, f"o{b}-{n}", "chair") for n in range(lines)], date(2030, 1, 1 + b % 28))
        for b in range(batches)
    ]


def hydrated(sku: str, batches: Sequence[Row]) -> Product:
    return Product(
        sku=sku,
        batches=[
            Batch(
                sku=sku,
                purchased_quantity=quantity,
                reference=reference,
                allocations=[OrderLine(qty=qty, orderid=orderid, sku=sku) for qty, orderid, sku in lines],
                eta=eta,
            )
            for sku, quantity, reference, lines, eta in batches
        ],
    )


def plain(product: Any) -> dict[str, Any]:
    """Any product's state."""
    return {
        "sku": product.sku,
        "batches": [
            {**vars(batch), "allocations": [dict(vars(line)) for line in batch.allocations]}
            for batch in product.batches
        ],
    }

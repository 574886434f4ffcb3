"""The demo's data file: what is in it, and that feeding it again changes nothing, by the rules of the domain alone."""

import json
import runpy
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from allocation.models import Batch, LineConflict, OrderLine, Product

ROOT = Path(__file__).parents[1]
FILE = ROOT / "apps/allocation/src/allocation/demo/day.jsonl"
STEPS: list[tuple[str, dict[str, Any]]] = [
    step for text in FILE.read_text("utf-8").splitlines() for step in json.loads(text).items()
]

pytestmark = pytest.mark.contract("APP-210")


class Shop:
    """The products, and how many lines were turned down."""

    def __init__(self) -> None:
        self.products: dict[str, Product] = {}
        self.turned_down: Counter[str] = Counter()

    def add_batch(self, ref: str, sku: str, qty: int, eta: str | None = None) -> None:
        if any(product.batch(ref) for product in self.products.values()):
            return
        day = None if eta is None else date.fromisoformat(eta)
        product = self.products.setdefault(sku, Product(sku=sku))
        product.batches.append(Batch(reference=ref, sku=sku, purchased_quantity=qty, eta=day))

    def allocate(self, orderid: str, sku: str, qty: int) -> None:
        product = self.products.get(sku)
        try:
            if product is None:
                self.turned_down["invalid sku"] += 1
            elif product.allocate(OrderLine(orderid=orderid, sku=sku, qty=qty)) is None:
                self.turned_down["out of stock"] += 1
        except LineConflict:
            self.turned_down["conflict"] += 1

    def change_batch_quantity(self, ref: str, qty: int) -> None:
        [product] = [each for each in self.products.values() if each.batch(ref)]
        for line in list(product.change_batch_quantity(ref, qty)):
            self.allocate(line.orderid, line.sku, line.qty)

    def feed(self) -> None:
        self.turned_down.clear()
        for word, body in STEPS:
            getattr(self, word)(**body)

    def stock(self) -> dict[str, list[tuple[str, int, int]]]:
        return {
            sku: [(batch.reference, batch.purchased_quantity, batch.available_quantity) for batch in product.batches]
            for sku, product in self.products.items()
        }


def test_it_is_what_the_script_writes() -> None:
    assert runpy.run_path(str(ROOT / "tools/demo_data.py"))["text"]() == FILE.read_text("utf-8")


def test_it_has_a_day_of_batches_orders_and_changes() -> None:
    refs = {body["ref"] for word, body in STEPS if word == "add_batch"}
    lines = {(body["orderid"], body["sku"]) for word, body in STEPS if word == "allocate"}
    changes = [body["ref"] for word, body in STEPS if word == "change_batch_quantity"]

    assert len(refs) >= 200
    assert len(lines) >= 2_000
    assert len(changes) == len(set(changes)) >= 20


def test_feeding_it_again_changes_nothing_and_refuses_the_same() -> None:
    shop = Shop()
    shop.feed()
    stock, turned_down = shop.stock(), shop.turned_down.copy()

    shop.feed()

    assert shop.stock() == stock
    assert shop.turned_down == turned_down
    assert turned_down.keys() == {"invalid sku", "out of stock", "conflict"}

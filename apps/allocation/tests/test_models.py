"""The domain rules, on plain objects with no store near them."""

from datetime import date, timedelta

import pytest

from allocation.models import Batch, LineConflict, OrderLine, Product

TODAY = date(2026, 1, 1)


def line(orderid: str = "order-1", qty: int = 1, sku: str = "SMALL-TABLE") -> OrderLine:
    return OrderLine(orderid=orderid, sku=sku, qty=qty)


def batch(reference: str = "b1", qty: int = 10, eta: date | None = None, sku: str = "SMALL-TABLE") -> Batch:
    return Batch(reference=reference, sku=sku, purchased_quantity=qty, eta=eta)


@pytest.mark.contract("APP-001")
class TestAllocate:
    def test_reduces_the_available_quantity(self) -> None:
        stock = batch(qty=20)
        Product(sku="SMALL-TABLE", batches=[stock]).allocate(line(qty=2))

        assert stock.available_quantity == 18

    def test_takes_exactly_what_is_left(self) -> None:
        stock = batch(qty=2)
        product = Product(sku="SMALL-TABLE", batches=[stock])

        assert product.allocate(line(qty=2)) == "b1"
        assert stock.available_quantity == 0

    def test_never_takes_more_than_is_left(self) -> None:
        product = Product(sku="SMALL-TABLE", batches=[batch(qty=1)])

        assert product.allocate(line(qty=2)) is None
        assert product.batches[0].allocations == []

    def test_prefers_warehouse_stock_to_shipments(self) -> None:
        product = Product(sku="SMALL-TABLE", batches=[batch("shipment", eta=TODAY), batch("warehouse")])

        assert product.allocate(line()) == "warehouse"

    def test_prefers_the_earliest_shipment(self) -> None:
        late, early = batch("late", eta=TODAY + timedelta(days=9)), batch("early", eta=TODAY)
        product = Product(sku="SMALL-TABLE", batches=[late, early])

        assert product.allocate(line()) == "early"

    def test_passes_on_to_the_next_batch_that_fits(self) -> None:
        product = Product(sku="SMALL-TABLE", batches=[batch("small", qty=1), batch("large", eta=TODAY)])

        assert product.allocate(line(qty=5)) == "large"


@pytest.mark.contract("APP-002")
class TestTheSameLineAgain:
    def test_keeps_its_batch_and_changes_nothing(self) -> None:
        product = Product(sku="SMALL-TABLE", batches=[batch("late", eta=TODAY)])
        product.allocate(line(qty=3))
        product.batches.append(batch("warehouse"))

        assert product.allocate(line(qty=3)) == "late"
        assert [b.allocated_quantity for b in product.batches] == [3, 0]

    def test_with_another_quantity_is_a_conflict(self) -> None:
        product = Product(sku="SMALL-TABLE", batches=[batch()])
        product.allocate(line(qty=3))

        with pytest.raises(LineConflict, match="allocated with quantity 3"):
            product.allocate(line(qty=4))
        assert product.batches[0].allocated_quantity == 3

    def test_one_order_has_lines_of_several_skus(self) -> None:
        table, chair = line(sku="TABLE"), line(sku="CHAIR")

        assert table != chair


@pytest.mark.contract("APP-003")
class TestChangeBatchQuantity:
    def test_lines_that_no_longer_fit_leave_last_in_first(self) -> None:
        product = Product(sku="SMALL-TABLE", batches=[batch(qty=10)])
        for number in range(3):
            product.allocate(line(f"order-{number}", qty=3))

        left = list(product.change_batch_quantity("b1", 5))

        assert [gone.orderid for gone in left] == ["order-2", "order-1"]
        assert product.batches[0].available_quantity == 2

    def test_a_quantity_that_fits_moves_nothing(self) -> None:
        product = Product(sku="SMALL-TABLE", batches=[batch(qty=10)])
        product.allocate(line(qty=3))

        assert list(product.change_batch_quantity("b1", 3)) == []

    def test_zero_empties_the_batch(self) -> None:
        product = Product(sku="SMALL-TABLE", batches=[batch(qty=10)])
        product.allocate(line(qty=3))

        assert len(list(product.change_batch_quantity("b1", 0))) == 1
        assert product.batches[0].available_quantity == 0

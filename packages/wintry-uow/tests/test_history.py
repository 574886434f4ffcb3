"""Long histories of one unit, against a dictionary.

The machine keeps what should be stored (`committed`, with versions) and what the unit should see, and compares after
each step: what queries give is structurally the same, there is one object for a row, and after each commit or rollback
the stored form, read outside of any unit, is what it should be.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    rule,
    run_state_machine_as_test,
)

from wintry.models import same
from wintry.uow import AlreadyExists, ConcurrentModification

LOCAL = ("memory", "sqlite")
SKUS = ("A", "B", "C")
skus = st.sampled_from(SKUS)
numbers = st.integers(0, 3)
names = st.sampled_from(("", "x", "y"))


class History(RuleBasedStateMachine):
    """What a unit does to three products."""

    opened: Any
    url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.inbox: asyncio.Queue[tuple[Coroutine[Any, Any, Any], asyncio.Future[Any]]] = asyncio.Queue()
        self.references = itertools.count()
        self.committed: dict[str, tuple[dict[str, Any], int]] = {}
        self.tracked: dict[str, Any] = {}
        self.deleted: set[str] = set()
        self.written: set[str] = set()  # what a query has stored of this transaction, also if it was undone since
        self.stopping = False
        self.task = self.loop.create_task(self._live())
        self.do(asyncio.sleep(0))

    # One task owns the unit for the whole history; the rules send it work.

    async def _live(self) -> None:
        async with self.opened(default=type(self).url()) as self.world:
            await self.world.products.count()
            async with self.world.uow as self.uow:
                while True:
                    work, done = await self.inbox.get()
                    try:
                        done.set_result(await work)
                    except Exception as error:  # noqa: BLE001 - it belongs to the rule that sent the work
                        done.set_exception(error)
                    if self.stopping:
                        await self.uow.rollback()
                        return

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        done = self.loop.create_future()
        self.inbox.put_nowait((work, done))
        return self.loop.run_until_complete(done)

    def outside(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.stopping = True
        self.do(asyncio.sleep(0))
        self.loop.run_until_complete(self.task)
        self.loop.close()

    # What the unit should see.

    def visible(self) -> dict[str, dict[str, Any]]:
        seen = {sku: state for sku, (state, _) in self.committed.items() if sku not in self.deleted}
        seen.update({sku: object.to_dict() for sku, object in self.tracked.items()})
        return seen

    def changed(self) -> set[str]:
        return self.written | {
            sku
            for sku, object in self.tracked.items()
            if sku not in self.committed or sku in self.deleted or object.to_dict() != self.committed[sku][0]
        }

    def get(self, sku: str) -> Any:
        product = self.do(self.uow.products.get(sku))
        if sku in self.tracked:
            assert product is self.tracked[sku]
        elif sku in self.deleted or sku not in self.committed:
            assert product is None
        else:
            assert product.to_dict() == self.committed[sku][0]
            self.tracked[sku] = product
        return product

    def batch(self, number: int) -> Any:
        world = self.world
        lines = [world.Line(orderid=f"o{line}", qty=line) for line in range(number)]
        return world.Batch(reference=f"b{next(self.references)}", quantity=number, lines=lines)

    @rule(sku=skus)
    def load(self, sku: str) -> None:
        self.get(sku)

    @rule(sku=skus, name=names)
    def create(self, sku: str, name: str) -> None:
        product = self.world.Product(sku=sku, name=name)
        if self.get(sku) is not None:
            with pytest.raises(AlreadyExists):
                self.do(self.uow.products.create(entity=product))
        else:
            self.do(self.uow.products.create(entity=product))
            self.tracked[sku] = product

    @rule(sku=skus, name=names)
    def set(self, sku: str, name: str) -> None:
        product = self.get(sku)
        if product is not None:
            product.name = name

    @rule(sku=skus, number=numbers, place=numbers)
    def insert(self, sku: str, number: int, place: int) -> None:
        product = self.get(sku)
        if product is not None:
            product.batches.insert(place, self.batch(number))

    @rule(sku=skus, place=numbers)
    def remove(self, sku: str, place: int) -> None:
        product = self.get(sku)
        if product is not None and product.batches:
            product.batches.pop(place % len(product.batches))

    @rule(sku=skus, place=numbers)
    def replace_by_one_of_the_same_id(self, sku: str, place: int) -> None:
        product = self.get(sku)
        if product is not None and product.batches:
            old = product.batches[place % len(product.batches)]
            product.batches[place % len(product.batches)] = self.world.Batch(reference=old.reference, quantity=99)

    @rule(sku=skus)
    def move(self, sku: str) -> None:
        product = self.get(sku)
        if product is not None:
            product.batches.reverse()

    @rule(sku=skus)
    def sort(self, sku: str) -> None:
        product = self.get(sku)
        if product is not None:
            product.batches.sort(key=lambda batch: (batch.quantity, batch.reference))

    @rule(sku=skus, qty=numbers)
    def edit_deep_down(self, sku: str, qty: int) -> None:
        product = self.get(sku)
        for batch in product.batches if product is not None else ():
            batch.lines = [line for line in batch.lines if line.qty != qty]
            for line in batch.lines:
                line.qty += 1

    @rule(sku=skus)
    def delete(self, sku: str) -> None:
        product = self.get(sku)
        if product is not None:
            self.do(self.uow.products.delete(entity=product))
            del self.tracked[sku]
            self.deleted.add(sku)

    @rule(name=names)
    def query(self, name: str) -> None:
        self.written = self.changed()
        found = self.do(self.uow.products.find_by_name_order_by_sku_desc(name=name))
        expected = {sku: state for sku, state in self.visible().items() if state["name"] == name}
        assert [product.sku for product in found] == sorted(expected, reverse=True)
        for product in found:
            assert self.tracked.setdefault(product.sku, product) is product
            assert product.to_dict() == expected[product.sku]

    @rule(name=names)
    def delete_by_query(self, name: str) -> None:
        self.written = self.changed()
        gone = {sku for sku, state in self.visible().items() if state["name"] == name}
        assert self.do(self.uow.products.delete_by_name(name=name)) == len(gone)
        for sku in gone:
            self.tracked.pop(sku, None)
            self.deleted.add(sku)

    @rule()
    def commit(self) -> None:
        changed = self.changed() & set(self.tracked)
        self.do(self.uow.commit())
        for sku in self.deleted:
            self.committed.pop(sku, None)
        for sku in changed:
            version = self.committed[sku][1] + 1 if sku in self.committed else 1
            self.committed[sku] = (self.tracked[sku].to_dict(), version)
        self.deleted.clear()
        self.written.clear()
        self.compare()

    @rule()
    def rollback(self) -> None:
        self.do(self.uow.rollback())
        self.tracked.clear()
        self.deleted.clear()
        self.written.clear()
        self.compare()

    @rule(sku=skus, name=names)
    def stale_commit(self, sku: str, name: str) -> None:
        """Another task changes a product that this unit holds from before a commit, and this unit changes it too."""
        self.commit()
        product = self.get(sku)
        self.do(self.uow.commit())
        if product is None:
            return

        async def other() -> None:
            async with self.world.uow as uow:
                theirs = await uow.products.get(sku)
                theirs.name += "!"
                theirs.batches.append(self.batch(1))
                await uow.commit()

        self.outside(other())
        product.name += "?"
        with pytest.raises(ConcurrentModification):
            self.do(self.uow.commit())
        state, version = self.committed[sku]
        stored = self.outside(self.world.products.get(sku))
        assert stored.name == state["name"] + "!"
        self.committed[sku] = (stored.to_dict(), version + 1)
        self.rollback()

    def compare(self) -> None:
        products = self.world.products
        stored = {product.sku: product for product in self.outside(products.find())}
        assert {sku: (product.to_dict(), products.version_of(product)) for sku, product in stored.items()} == (
            self.committed
        )
        for sku, product in self.tracked.items():
            assert same(product, stored[sku])


@pytest.mark.contract("UOW-010", "UOW-012", "UOW-018", "UOW-020", "UOW-021", "UOW-023", "UOW-024", "UOW-030", "UOW-031")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [*LOCAL, "postgresql", "mongodb"])
def test_histories(opened: Any, kind: str, fresh_url: Callable[[str], str]) -> None:
    def url() -> str:
        return fresh_url(kind)

    machine = type("Machine", (History,), {"opened": staticmethod(opened), "url": staticmethod(url)})
    examples = settings().max_examples
    # A history costs a connection and a look at the schema on a server, more than its steps.
    run_state_machine_as_test(machine, settings=settings(max_examples=examples if kind in LOCAL else examples // 4))


@pytest.mark.contract("UOW-030")
@pytest.mark.anyio
@pytest.mark.parametrize("kind", [*LOCAL, "postgresql", "mongodb"])
async def test_what_a_query_has_stored_has_a_version_also_if_it_is_undone(
    opened: Any, kind: str, fresh_url: Callable[[str], str]
) -> None:
    async with opened(default=fresh_url(kind)) as world:
        await world.products.create(entity=world.Product(sku="B"))
        async with world.uow as uow:
            product = await uow.products.get("B")
            product.batches.append(world.Batch(reference="b1", quantity=1))
            await uow.products.delete_by_name(name="nobody")
            product.batches.clear()
            await uow.commit()

        stored = await world.products.get("B")

        assert (stored.batches, world.products.version_of(stored)) == ([], 2)

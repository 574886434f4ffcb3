"""Transactions of the memory backend side by side."""

from __future__ import annotations

import pytest

from wintry.models import Model, RequiredId
from wintry.models.tracking import diff, snapshot
from wintry.repository import (
    AlreadyExists,
    Backends,
    ConcurrentModification,
    Conflict,
    Repository,
    StoreError,
    Unsupported,
)
from wintry.repository.backend import Delete, Insert, Update

pytestmark = pytest.mark.anyio


class Item(Model):
    id: str = RequiredId()
    qty: int = 0


class Items(Repository[Item, str], entity=Item): ...


@pytest.fixture
async def items(backends: Backends) -> Items:
    items = Items(backends)
    await items.create_many(entities=[Item(id="a"), Item(id="b")])
    return items


def update(item: Item, qty: int, expected: int = 1) -> Update:
    before = snapshot(item)
    item.qty = qty
    return Update(item, diff(before, item), expected)


@pytest.mark.contract("REPO-083")
async def test_a_transaction_sees_one_moment(items: Items) -> None:
    backend, execution = items.backend, items.backend.execution(read_only=True)
    assert not execution.begun
    await backend.load(execution, Item, ["a"])

    await items.create(entity=Item(id="c"))
    await items.update(entity=Item(id="a", qty=5))

    ((found, version),) = await backend.load(execution, Item, ["a", "c"])
    assert isinstance(found, Item)
    assert (found.qty, version) == (0, 1)
    await execution.commit()


@pytest.mark.contract("REPO-083")
async def test_the_first_committer_wins(items: Items) -> None:
    backend = items.backend
    first, second = backend.execution(), backend.execution()
    await backend.write(first, [update(Item(id="a"), 1)])
    await backend.write(second, [update(Item(id="a"), 2), update(Item(id="b"), 2)])

    await first.commit()
    with pytest.raises(ConcurrentModification) as caught:
        await second.commit()

    assert (caught.value.id, caught.value.expected, caught.value.found) == ("a", 1, 2)
    assert isinstance(caught.value, Conflict)
    assert [item.qty for item in await items.find()] == [1, 0]


@pytest.mark.contract("REPO-083")
async def test_transactions_on_different_rows_both_commit(items: Items) -> None:
    backend = items.backend
    first, second, third = (backend.execution() for _ in range(3))
    await backend.write(first, [update(Item(id="a"), 1)])
    await backend.write(second, [update(Item(id="b"), 2), Insert(Item(id="c"))])
    await backend.write(third, [Delete(Item, "a", 1)])

    await first.commit()
    await second.commit()
    with pytest.raises(ConcurrentModification):
        await third.commit()

    assert [(item.id, item.qty) for item in await items.find()] == [("a", 1), ("b", 2), ("c", 0)]


@pytest.mark.contract("REPO-083")
async def test_two_inserts_of_one_id(items: Items) -> None:
    backend = items.backend
    first, second = backend.execution(), backend.execution()
    await backend.write(first, [Insert(Item(id="c", qty=1))])
    await backend.write(second, [Insert(Item(id="c", qty=2))])

    await first.commit()
    with pytest.raises(AlreadyExists):
        await second.commit()

    assert (await items.one("c")).qty == 1


@pytest.mark.contract("REPO-083")
async def test_a_deleted_row_cannot_be_changed_any_more(items: Items) -> None:
    backend, execution = items.backend, items.backend.execution()
    await backend.write(execution, [update(Item(id="a"), 1)])

    await items.delete_by_id(id="a")
    with pytest.raises(ConcurrentModification) as caught:
        await execution.commit()

    assert caught.value.found is None


async def test_a_transaction_that_may_only_read(items: Items) -> None:
    execution = items.backend.execution(read_only=True)

    with pytest.raises(StoreError, match="may only read"):
        await items.backend.write(execution, [Insert(Item(id="c"))])


async def test_a_transaction_ends_once(items: Items) -> None:
    execution = items.backend.execution()
    await execution.commit()

    with pytest.raises(StoreError, match="over"):
        await execution.commit()
    with pytest.raises(StoreError, match="over"):
        await items.backend.load(execution, Item, ["a"])


async def test_it_isolates_by_snapshot_alone(backends: Backends) -> None:
    with pytest.raises(Unsupported, match="isolates by snapshot"):
        backends["default"].execution(isolation="serializable")

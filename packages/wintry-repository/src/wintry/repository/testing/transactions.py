"""What every backend does inside its transactions, which repositories alone cannot show: executions, by themselves.

Cases as in `contract`, which says how they are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wintry.models import info, same
from wintry.models.tracking import diff, snapshot

from ..backend import LOCKED, Delete, Execution, Insert, Update
from ..errors import AlreadyExists, ConcurrentModification, RepositoryError, UnitAborted
from .contract import Case, case, load, raises
from .models import Order, Orders, orders
from .queries import stored

if TYPE_CHECKING:
    from ..connections import Backends


def _execution(backends: Backends) -> Execution:
    return backends["default"].execution()


@case("REPO-080")
async def a_transaction_sees_its_own_writes(backends: Backends) -> None:
    """What is written in a transaction is there for its later statements, and gone with its rollback."""
    Orders(backends)
    await backends.ready(backends["default"])
    backend, execution = backends["default"], _execution(backends)
    await backend.write(execution, [Insert(Order(id="x", number=1))])
    ((found, version),) = await backend.load(execution, Order, ["x"])
    assert (info(Order).id_of(found), version) == ("x", 1)
    await execution.rollback()
    await execution.rollback()
    await execution.close()
    assert await Orders(backends).get("x") is None


@case("REPO-080")
async def a_rollback_undoes_every_kind_of_statement(backends: Backends) -> None:
    """Also where the first statement of the transaction was a load."""
    repository, backend = Orders(backends), backends["default"]
    await repository.create_many(entities=orders())
    execution = _execution(backends)
    (loaded,) = [object for object, _ in await backend.load(execution, Order, ["B"])]
    assert isinstance(loaded, Order)
    assert execution.begun
    before = snapshot(loaded)
    loaded.parcels.pop()
    loaded.number = 77
    await backend.write(
        execution,
        [Update(loaded, diff(before, loaded), 1), Delete(Order, "c", 1), Insert(Order(id="new", number=1))],
    )
    await execution.close()
    everything = sorted(orders(), key=lambda order: order.id)
    assert all(same(a, stored(b)) for a, b in zip(await repository.find(), everything, strict=True))


@case("REPO-081")
async def versions_guard_updates_and_deletes(backends: Backends) -> None:
    """A write that expects another version than the stored one is refused by the store itself."""
    repository, backend = Orders(backends), backends["default"]
    order = await repository.create(entity=Order(id="x", number=1))
    before = snapshot(order)
    order.number = 2
    changes = diff(before, order)
    for operation in (
        Update(order, changes, 2),
        Delete(Order, "x", 2),
        Delete(Order, "gone", 1),
    ):
        execution = _execution(backends)
        error = await raises(ConcurrentModification, backend.write(execution, [operation]))
        assert error.entity is Order
        await execution.close()
    execution = _execution(backends)
    await backend.write(execution, [Update(order, diff(order, order), 1)])
    await execution.commit()
    ((_, version),) = await load(backends, "x")
    assert version == 2, "an update without changes bumps the version"


@case("REPO-082")
async def a_failed_statement_ends_the_transaction(backends: Backends) -> None:
    """After an error of the store nothing runs in its transaction any more, and nothing of it is kept."""
    repository, backend = Orders(backends), backends["default"]
    await repository.create(entity=Order(id="x", number=1))
    execution = _execution(backends)
    await backend.write(execution, [Insert(Order(id="before", number=1))])
    await raises(AlreadyExists, backend.write(execution, [Insert(Order(id="x", number=2))]))
    await raises(UnitAborted, backend.load(execution, Order, ["x"]))
    await raises(RepositoryError, execution.commit())
    await execution.close()
    assert [order.id for order in await repository.find()] == ["x"]


@case("REPO-401")
async def an_execution_that_locks_loads_and_stores(backends: Backends) -> None:
    """What is locked can be loaded and stored; an id that is not there locks nothing."""
    repository, backend = Orders(backends), backends["default"]
    await repository.create(entity=Order(id="x", number=1))
    execution = backend.execution(isolation=LOCKED)
    await backend.lock(execution, Order, ["x", "y"])
    ((order, version),) = await backend.load(execution, Order, ["x", "y"])
    before = snapshot(order)
    order.number = 2  # type: ignore[attr-defined]  # it is an Order
    await backend.write(execution, [Update(order, diff(before, order), version)])
    await execution.commit()
    assert (await repository.one("x")).number == 2


CASES: Final = tuple(found for found in list(globals().values()) if isinstance(found, Case))
"""Every case of this module, in its order."""

"""Who else takes part in a unit."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from wintry.repository.backend import Backend, Operation
from wintry.repository.sql.dialects.sqlite import SQLite
from wintry.uow import Conflict, ReadOnlyUnit, Unit, UnitAborted, UnitError, UnitHook, current_unit, use_hooks

pytestmark = pytest.mark.anyio


class Told(UnitHook):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.changes: list[Sequence[Operation]] = []

    async def before_commit(self, unit: Unit, changes: Sequence[Operation]) -> None:
        assert unit is current_unit()
        self.told.append(f"before commit, {'in' if unit.in_transaction else 'no'} transaction")
        self.changes.append(changes)

    async def after_commit(self, unit: Unit) -> None:
        written = ", ".join(backend.name for backend in unit.backends_written)
        self.told.append(f"after commit to {written or 'nothing'}, {'in' if unit.in_transaction else 'no'} transaction")

    async def after_rollback(self, unit: Unit) -> None:
        self.told.append("after rollback")


@pytest.mark.contract("UOW-050", "UOW-051", "UOW-052", "UOW-053")
async def test_a_hook_sees_the_stored_changes_and_then_the_commit(world: Any) -> None:
    hook = Told()

    with use_hooks(hook):
        async with world.uow as uow:
            product = await uow.products.create(entity=world.Product(sku="TABLE"))
            assert await uow.products.count() == 1
            product.name = "changed"
            await uow.commit()
    async with world.uow as uow:
        await uow.commit()

    assert hook.told == ["before commit, in transaction", "after commit to default, no transaction"]
    assert [type(operation).__name__ for operation in hook.changes[0]] == ["Insert", "Update"]


def at_the_commit(do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `do` called while SQLite runs a COMMIT."""
    send = SQLite.send

    async def sending(self: SQLite, driver: Any, text: str | None) -> None:
        if text == "COMMIT":
            asyncio.get_running_loop().call_soon(do)
        await send(self, driver, text)

    monkeypatch.setattr(SQLite, "send", sending)


@pytest.mark.contract("UOW-313")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("in_a_unit", [True, False])
async def test_a_cancellation_during_the_commit_comes_when_the_commit_was_told(
    world: Any, in_a_unit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, task, loop = Told(), asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    await world.stock()  # which makes the tables, in a transaction of its own

    async def create(sku: str) -> None:
        if not in_a_unit:
            await world.products.create(entity=world.Product(sku=sku))
            return
        with use_hooks(hook):
            async with world.uow as uow:
                await uow.products.create(entity=world.Product(sku=sku))
                await uow.commit()

    with monkeypatch.context() as patch:
        at_the_commit(lambda: task.cancel(), patch)
        with pytest.raises(asyncio.CancelledError):
            await create("CANCELLED")
        task.uncancel()
    with monkeypatch.context() as patch, pytest.raises(TimeoutError):
        async with asyncio.timeout(60) as limit:
            at_the_commit(lambda: limit.reschedule(loop.time()), patch)
            await create("LATE")
    await asyncio.sleep(0)  # no cancellation is left over

    told = ["before commit, in transaction", "after commit to default, no transaction", "after rollback"]  # of the rest
    assert hook.told == told * 2 * in_a_unit
    assert await world.products.count() == 3


class Slow(UnitHook):
    """Waits while it is told of a commit."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    async def after_commit(self, unit: Unit) -> None:
        await asyncio.sleep(0.001)
        self.log.append(f"{self.name} was told")


@pytest.mark.contract("UOW-313")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_cancellation_that_comes_too_late_disturbs_no_hook(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log, task = list[str](), asyncio.current_task()
    assert task is not None
    await world.stock()
    with monkeypatch.context() as patch, use_hooks(Slow(log, "one"), Slow(log, "two")):
        at_the_commit(lambda: task.cancel(), patch)
        with pytest.raises(asyncio.CancelledError):
            async with world.uow as uow:
                await uow.products.create(entity=world.Product(sku="CANCELLED"))
                await uow.commit()
        task.uncancel()
    assert log == ["one was told", "two was told"]
    assert await world.products.count() == 2


@pytest.mark.contract("UOW-313")
async def test_a_cancellation_of_one_hook_keeps_no_other_from_being_told(world: Any) -> None:
    log, task = list[str](), asyncio.current_task()
    assert task is not None

    class Cancels(UnitHook):
        async def after_commit(self, unit: Unit) -> None:
            task.cancel()
            await asyncio.sleep(0)
            log.append("it went on")

    with pytest.raises(asyncio.CancelledError), use_hooks(Cancels(), Slow(log, "two")):
        async with world.uow as uow:
            await uow.products.create(entity=world.Product(sku="TABLE"))
            await uow.commit()
    task.uncancel()
    assert log == ["two was told"]


@pytest.mark.contract("UOW-052")
async def test_each_commit_is_told_with_what_is_its_own(world: Any) -> None:
    hook = Told()

    with use_hooks(hook):
        async with world.uow as uow:
            await uow.products.create(entity=world.Product(sku="A"))
            await uow.commit()
            await uow.commit()

    assert hook.told == [
        "before commit, in transaction",
        "after commit to default, no transaction",
        "before commit, no transaction",
        "after commit to nothing, no transaction",
    ]
    assert [len(changes) for changes in hook.changes] == [1, 0]


@pytest.mark.contract("UOW-052")
@pytest.mark.parametrize("end", ["rollback", "exception", "leaving", "leaving clean"])
async def test_every_rollback_is_told(world: Any, end: str) -> None:
    hook = Told()

    with use_hooks(hook):
        try:
            async with world.uow as uow:
                if end != "leaving clean":
                    product = await uow.products.create(entity=world.Product(sku="TABLE"))
                    assert await uow.products.count() == 1
                if end == "rollback":
                    await uow.rollback()
                elif end == "exception":
                    raise ZeroDivisionError
                elif end == "leaving":
                    uow.detach(product)
                    await uow.rollback()
        except ZeroDivisionError:
            pass

    assert hook.told == ["after rollback"]


@pytest.mark.contract("UOW-052")
async def test_each_failed_attempt_of_a_retry_is_told(opened: Any, racing_url: str) -> None:
    async with opened(default=racing_url) as world:
        await world.stock()
        hook = Told()
        attempts = 0

        async def work(uow: Any) -> None:
            nonlocal attempts
            attempts += 1
            if attempts < 3:
                raise Conflict("not yet")
            await uow.products.create(entity=world.Product(sku="CHAIR"))

        with use_hooks(hook):
            await world.uow.run(work)

        assert hook.told[:2] == ["after rollback", "after rollback"]
        assert hook.told[2:] == ["before commit, in transaction", "after commit to default, no transaction"]


@pytest.mark.contract("UOW-051")
async def test_what_a_hook_raises_before_the_commit_rolls_back(world: Any) -> None:
    class Refusing(UnitHook):
        async def before_commit(self, unit: Unit, changes: Sequence[Operation]) -> None:
            raise ZeroDivisionError

    told = Told()
    with pytest.raises(ZeroDivisionError), use_hooks(Refusing(), told):
        async with world.uow as uow:
            await uow.products.create(entity=world.Product(sku="TABLE"))
            await uow.commit()

    assert told.told == ["after rollback"]
    assert await world.products.count() == 0


@pytest.mark.contract("UOW-051", "UOW-083")
async def test_after_a_refusal_the_unit_cannot_commit(world: Any) -> None:
    class Once(UnitHook):
        async def before_commit(self, unit: Unit, changes: Sequence[Operation]) -> None:
            raise ZeroDivisionError

    with use_hooks(Once()):
        async with world.uow as uow:
            await uow.products.create(entity=world.Product(sku="TABLE"))
            with pytest.raises(ZeroDivisionError):
                await uow.commit()
            with pytest.raises(UnitAborted, match="a hook refused"):
                await uow.commit()

    assert await world.products.count() == 0


@pytest.mark.contract("UOW-051")
async def test_what_a_hook_changes_before_the_commit_is_committed(world: Any) -> None:
    class Stamping(UnitHook):
        async def before_commit(self, unit: Unit, changes: Sequence[Operation]) -> None:
            for operation in changes:
                operation.object.name += "stamped"  # type: ignore[union-attr]  # the test only creates and updates
            await world.customers.create(entity=world.Customer(id="audit"))

    with use_hooks(Stamping()):
        async with world.uow as uow:
            await uow.products.create(entity=world.Product(sku="TABLE"))
            await uow.commit()

    assert (await world.products.get("TABLE")).name == "stamped"
    assert await world.customers.get("audit") is not None


@pytest.mark.contract("UOW-051")
@pytest.mark.parametrize("end", ["commit", "refused"])
async def test_a_hook_writes_rows_of_its_own_in_the_same_transaction(opened: Any, tmp_path: Any, end: str) -> None:
    import sqlalchemy as sa

    class Writing(UnitHook):
        async def before_commit(self, unit: Unit, changes: Sequence[Operation]) -> None:
            execution: Any = unit.execution(world.backends["default"])
            await execution.begin()
            await execution.connection.execute(sa.text("INSERT INTO notes VALUES ('written')"))
            if end == "refused":
                raise ZeroDivisionError

    async with opened(default=f"sqlite:///{tmp_path / 'shop.db'}") as world:
        async with world.uow as uow:
            connection = await uow.resource(sa.ext.asyncio.AsyncConnection)
            await connection.execute(sa.text("CREATE TABLE notes (text)"))
            await uow.commit()

        with use_hooks(Writing()):
            try:
                async with world.uow as uow:
                    await uow.products.create(entity=world.Product(sku="TABLE"))
                    await uow.commit()
            except ZeroDivisionError:
                pass

        async with world.uow(read_only=True) as uow:
            session = await world.products.get("TABLE")
            assert (session is not None) is (end == "commit")
        async with world.uow as uow:
            session = await uow.resource(sa.ext.asyncio.AsyncSession)
            rows = (await session.execute(sa.text("SELECT text FROM notes"))).all()
            assert rows == ([("written",)] if end == "commit" else [])


@pytest.mark.contract("UOW-052")
async def test_an_error_after_the_commit_is_logged_and_keeps_no_other_hook_from_being_told(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(UnitHook):
        async def after_commit(self, unit: Unit) -> None:
            raise ZeroDivisionError

    told = Told()
    with caplog.at_level(logging.ERROR, "wintry.uow"), use_hooks(Late(), told):
        async with world.uow as uow:
            await uow.products.create(entity=world.Product(sku="TABLE"))
            await uow.commit()

    assert told.told[-1] == "after commit to default, no transaction"
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]
    assert await world.products.count() == 1


@pytest.mark.contract("UOW-050")
async def test_hooks_nest_and_reach_into_child_tasks_but_not_beside(world: Any) -> None:
    outer, inner = Told(), Told()

    async def unit() -> None:
        async with world.uow as uow:
            await uow.commit()

    with use_hooks(outer):
        with use_hooks(inner):
            await unit()
            await asyncio.create_task(unit())
        await unit()
    await unit()

    assert len(outer.told) == 6
    assert len(inner.told) == 4


class Ambient(Unit):
    """A unit over every backend, at home where it first writes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(None, **options)
        self.claims: list[str] = []

    def claim_write(self, backend: Backend) -> None:
        super().claim_write(backend)
        if self.claims and backend.name not in self.claims:
            raise UnitError("two stores")
        self.claims.append(backend.name)

    def reads_only(self, backend: Backend) -> bool:
        return bool(self.claims) and backend.name not in self.claims


@pytest.mark.contract("UOW-054")
async def test_a_unit_over_every_backend(opened: Any, two_urls: dict[str, str]) -> None:
    async with opened(**two_urls) as world:
        elsewhere = world.Elsewhere(world.backends)
        told = Told()

        async with Ambient(hooks=[told]) as unit:
            await world.products.create(entity=world.Product(sku="TABLE"))
            async with world.uow as uow:
                product = await uow.products.get("TABLE")
                product.name = "changed"
                await uow.commit()
            assert unit.claims == ["default"]
            assert await elsewhere.find() == []
            with pytest.raises(UnitError, match="two stores"):
                await elsewhere.create(entity=world.Customer(id="ann"))
            assert [backend.name for backend in unit.backends_written] == ["default"]
            await unit.commit()

        assert (await world.products.get("TABLE")).name == "changed"
        assert told.told == ["before commit, in transaction", "after commit to default, no transaction"]


@pytest.mark.contract("UOW-054")
async def test_a_changed_object_claims_its_backend_when_it_is_stored(opened: Any, two_urls: dict[str, str]) -> None:
    async with opened(**two_urls) as world:
        elsewhere = world.Elsewhere(world.backends)
        await elsewhere.create(entity=world.Customer(id="ann"))

        with pytest.raises(UnitError, match="two stores"):
            async with Ambient() as unit:
                (await elsewhere.get("ann")).sku = "TABLE"
                await world.products.create(entity=world.Product(sku="TABLE"))
                assert unit.claims == ["default"]
                await unit.commit()

        assert await world.products.count() == 0
        assert (await elsewhere.get("ann")).sku == ""


@pytest.mark.contract("UOW-054")
async def test_a_unit_runs_once(world: Any) -> None:
    unit = Ambient()
    async with unit:
        pass

    with pytest.raises(UnitError, match="runs once"):
        async with unit:
            pass


@pytest.mark.contract("UOW-070")
async def test_a_read_only_unit_refuses_every_kind_of_write(world: Any) -> None:
    product = await world.stock()

    async with world.uow(read_only=True) as uow:
        found = await uow.products.get("TABLE")
        found.name = "not tracked"
        assert await uow.products.get("TABLE") is not found
        for write in (
            lambda: uow.products.create(entity=world.Product(sku="CHAIR")),
            lambda: uow.products.delete_by_name(name=""),
            lambda: uow.products.delete_all(),
            lambda: uow.products.update(entity=product),
            lambda: uow.products.upsert(entity=product),
            lambda: uow.products.delete(entity=product),
        ):
            with pytest.raises(ReadOnlyUnit, match="'default'"):
                await write()
        assert uow.changes() == ()
        await uow.commit()

    assert [object.to_dict() for object in await world.products.find()] == [product.to_dict()]


@pytest.mark.contract("UOW-070")
async def test_a_read_only_unit_does_not_wait_for_a_writer(opened: Any, tmp_path: Any) -> None:
    async with opened(default=f"sqlite:///{tmp_path / 'shop.db'}") as world:
        await world.stock()

        async def read() -> str:
            async with world.uow(read_only=True) as uow:
                return str((await uow.products.get("TABLE")).name)

        async with world.uow as uow:
            (await uow.products.get("TABLE")).name = "changed"
            assert await uow.products.count_by_name(name="changed") == 1
            async with asyncio.timeout(10):
                assert await asyncio.create_task(read()) == ""
            await uow.commit()
        assert await read() == "changed"

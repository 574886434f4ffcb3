"""Handlers in units of work: what is committed together, where, and what a delivery may do."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pydantic import BaseModel

from wintry.bus import Command, Event, HandleInsideUnit, ResultUnknown, Retry, command_handler, event_handler
from wintry.bus.journal import Status
from wintry.bus.testing import crash_at
from wintry.repository.errors import ConcurrentModification
from wintry.uow import UnitOfWork, current_unit

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[("sqlite", "sqlite"), ("postgresql", "mongodb"), ("mongodb", "postgresql")], ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


class Go(Command):
    sku: str = "a"


class Went(Event, key="sku"):
    sku: str


class After(Event):
    sku: str


@pytest.mark.contract("BUS-303")
async def test_a_command_stores_its_events_with_its_state(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku=command.sku))
                self.register(Went(sku=command.sku))
                await uow.commit()

        @event_handler(background=True)
        async def went(self, event: Went) -> None: ...

    bus = Bus(house)
    await house.start(bus)

    def refuse() -> None:
        raise RuntimeError("the power is off")

    with crash_at("appended", act=refuse), pytest.raises(RuntimeError):
        await bus.handle(Go())
    assert await bus.stocks.count() == 0
    assert await house.found("_wintry_journal", "id") == []

    await bus.handle(Go())
    assert await bus.stocks.count() == 1
    await house.settled()
    assert (await house.journal.stats()).done == 1


@pytest.mark.contract("BUS-304")
async def test_a_command_that_a_caller_waits_for_has_no_unit_around_it(
    house: Any, shop_class: Any, models: Any
) -> None:
    seen: list[object] = []

    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            seen.append(current_unit())
            await self.stocks.create(entity=models[0](sku=command.sku))
            raise ValueError("after it was stored")

    bus = Bus(house)
    await house.start(bus)
    with pytest.raises(ValueError, match="after it was stored"):
        await bus.handle(Go())
    assert seen == [None]
    assert await bus.stocks.count() == 1


@pytest.mark.contract("BUS-305")
async def test_a_delivery_commits_when_its_handler_returns_and_not_when_it_raises(
    house: Any, shop_class: Any, models: Any
) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(sku=command.sku))
            self.register(After(sku=command.sku))

        @event_handler
        async def stores(self, event: Went) -> None:
            await self.stocks.create(entity=models[0](sku="kept"))
            self.register(After(sku="of the one that returned"))

        @event_handler
        async def fails(self, event: After) -> None:
            await self.stocks.create(entity=models[0](sku=event.sku))
            raise ValueError(event.sku)

    bus = Bus(house)
    await house.start(bus)
    await bus.handle(Go())
    await house.settled()
    assert [stock.sku for stock in await bus.stocks.find()] == ["kept"]
    assert len(await house.journal.dead()) == 2


@pytest.mark.contract("BUS-306")
async def test_the_home_is_the_database_that_is_written_first(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku=command.sku, left=3))
                self.register(Went(sku=command.sku))
                await uow.commit()

        @event_handler
        async def view(self, event: Went) -> None:
            stock = await self.stocks.get(event.sku)
            await self.shelves.upsert(entity=models[1](sku=event.sku, left=stock.left))
            self.register(After(sku=event.sku))

        @event_handler
        async def after(self, event: After) -> None: ...

    bus = Bus(house)
    await house.start(bus)
    await bus.handle(Go())
    await house.settled()
    assert [(shelf.sku, shelf.left) for shelf in await bus.shelves.find()] == [("a", 3)]
    assert await house.seen("Bus.view", "views")
    assert not await house.seen("Bus.view", "default")
    await house.durable.drain(1.0)
    assert await house.found("_wintry_outgoing", "id", backend="views") == []
    done = await house.found("_wintry_journal", "target", "status")
    assert done == [("Bus.view", "done"), ("Bus.after", "done")]


@pytest.mark.contract("REPO-055")
async def test_what_an_upsert_replaces_is_looked_at_in_the_transaction_that_replaces_it(
    house: Any, shop_class: Any, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(sku=command.sku))

        @event_handler
        async def view(self, event: Went) -> None:
            backend = house.backends["views"]
            begin = backend.execution
            monkeypatch.setattr(backend, "execution", lambda **options: begun.append(options) or begin(**options))
            await self.shelves.upsert(entity=models[1](sku=event.sku, left=2))

    begun: list[dict[str, Any]] = []
    bus = Bus(house)
    await house.start(bus)
    await bus.shelves.create(entity=models[1](sku="a", left=1))
    await bus.handle(Go())
    monkeypatch.undo()
    assert [options["read_only"] for options in begun][:1] == [False]
    assert len([options for options in begun if options.get("isolation") is None]) == 1
    assert (await bus.shelves.get("a")).left == 2


@pytest.mark.contract("BUS-307")
async def test_a_delivery_writes_to_one_database(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(sku=command.sku))

        @event_handler
        async def went(self, event: Went) -> None:
            await self.shelves.create(entity=models[1](sku=event.sku))
            await self.stocks.create(entity=models[0](sku=event.sku))

    bus = Bus(house)
    await house.start(bus)
    await bus.handle(Go())
    (dead,) = await house.journal.dead()
    assert dead.status is Status.PARKED
    assert "TwoStores" in str(dead.error)
    assert "make it two handlers" in str(dead.error)
    assert (await bus.shelves.count(), await bus.stocks.count()) == (0, 0)


@pytest.mark.contract("BUS-308")
async def test_an_object_that_was_read_before_the_home_was_known_is_guarded(
    house: Any, shop_class: Any, models: Any
) -> None:
    attempts = 0

    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(sku=command.sku))

        @event_handler(retry=Retry(base=0.001))
        async def went(self, event: Went) -> None:
            nonlocal attempts
            attempts += 1
            stock = await self.stocks.get(event.sku)
            if attempts == 1:
                await asyncio.create_task(self.elsewhere(event.sku))
            stock.left += 10

        async def elsewhere(self, sku: str) -> None:
            async with self.uow as uow:
                (await uow.stocks.get(sku)).left += 1
                await uow.commit()

    bus = Bus(house)
    await house.start(bus)
    await bus.stocks.create(entity=models[0](sku="a"))
    await bus.handle(Go())
    await house.settled()
    assert attempts == 2
    assert (await bus.stocks.get("a")).left == 11


@pytest.mark.contract("BUS-309")
async def test_a_unit_of_work_in_a_delivery_joins_it(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(sku=command.sku))
            self.register(After(sku=command.sku))

        @event_handler
        async def marks(self, event: Went) -> None:
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku="marked"))
                await uow.commit()
            raise ValueError("after the inner commit")

        @event_handler
        async def forgets(self, event: After) -> None:
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku="forgotten"))

    bus = Bus(house)
    await house.start(bus)
    await bus.handle(Go())
    await house.settled()
    assert await bus.stocks.find() == []
    assert sorted(dead.target for dead in await house.journal.dead()) == ["Bus.forgets", "Bus.marks"]


@pytest.mark.contract("BUS-310")
async def test_handle_with_an_open_transaction_is_refused(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None: ...

    bus = Bus(house)
    await house.start(bus)
    async with bus.uow as uow:
        await uow.stocks.count()
        with pytest.raises(HandleInsideUnit):
            await bus.handle(Go())
    async with bus.uow:
        await bus.handle(Go())  # nothing is open yet


@pytest.mark.contract("BUS-311")
async def test_a_rollback_drops_what_was_registered(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            async with self.uow as uow:
                self.register(Went(sku="dropped"))
                await uow.rollback()
                await uow.stocks.create(entity=models[0](sku=command.sku))
                self.register(Went(sku="kept"))
                await uow.commit()

        @event_handler
        async def went(self, event: Went) -> None:
            heard.append(event.sku)

    heard: list[str] = []
    bus = Bus(house)
    await house.start(bus)
    await bus.handle(Go())
    assert heard == ["kept"]


@pytest.mark.contract("BUS-312")
async def test_a_command_that_met_a_conflict_runs_again_with_fresh_objects(
    house: Any, shop_class: Any, models: Any
) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> int:
            nonlocal attempts
            attempts += 1
            self.register(Went(sku=command.sku))
            async with self.uow as uow:
                if attempts == 1:
                    raise ConcurrentModification(models[0], command.sku, 1, 2)
                await uow.stocks.create(entity=models[0](sku=command.sku))
                await uow.commit()
            return attempts

        @event_handler
        async def went(self, event: Went) -> None:
            heard.append(event.sku)

    attempts, heard = 0, []  # type: ignore[var-annotated]
    bus = Bus(house)
    await house.start(bus)
    assert await bus.handle(Go()) == 2
    assert heard == ["a"]


@pytest.mark.contract("BUS-313")
async def test_five_hundred_commands_at_once_keep_their_events_apart(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku=command.sku))
                self.register(After(sku=command.sku))
                await uow.commit()

        @event_handler(background=True)
        async def after(self, event: After) -> None:
            heard.append(event.sku)

    heard: list[str] = []
    bus = Bus(house)
    await house.start(bus)
    await asyncio.gather(*(bus.handle(Go(sku=str(number))) for number in range(500)))
    await house.settled()
    assert sorted(heard, key=int) == [str(number) for number in range(500)]


class Sub(Command):
    pass


@pytest.mark.contract("BUS-700")
async def test_a_command_may_leave_a_unit_between_two_that_it_commits(house: Any, shop_class: Any, models: Any) -> None:
    results: list[str | None] = []

    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(After(sku="a"))

        @event_handler
        async def after(self, event: After) -> None:
            results.append(await self.handle(Sub()))

        @command_handler
        async def sub(self, command: Sub) -> str:
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku="first"))
                await uow.commit()
            async with self.uow(read_only=True) as uow:
                await uow.stocks.count()
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku="second"))
                await uow.commit()
            return "done"

    bus = Bus(house)
    await house.start(bus)
    await bus.handle(Go())
    await house.settled()
    assert results == ["done"]
    assert sorted(stock.sku for stock in await bus.stocks.find()) == ["first", "second"]


@pytest.mark.contract("BUS-701")
async def test_a_failure_that_cannot_be_written_as_it_is_is_parked(
    house: Any, shop_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("wintry.bus"), "disabled", True)  # nor can a report of this test be sent

    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(After(sku="a"))

        @event_handler
        async def after(self, event: After) -> None:
            raise ValueError("nul \0 and half \udc80")

    bus = Bus(house)
    await house.start(bus)
    await bus.handle(Go())
    await house.settled()
    (dead,) = await house.journal.dead()
    assert "nul \\x00 and half \\udc80" in dead.error


@pytest.mark.contract("BUS-312")
async def test_a_command_whose_time_is_over_behind_its_commit_does_not_run_again(
    house: Any, shop_class: Any, models: Any
) -> None:
    runs: list[str] = []
    limits: list[asyncio.Timeout] = []

    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            runs.append(command.sku)
            async with asyncio.timeout(None) as limit, UnitOfWork(shelves=self.shelves) as uow:
                limits.append(limit)
                await uow.shelves.create(entity=models[1](sku=f"{len(runs)}"))
                self.register(Went(sku=command.sku))
                await uow.commit()

        @event_handler
        async def went(self, event: Went) -> None: ...

    bus = Bus(house)
    await house.start(bus)

    def late() -> None:
        limits[0].reschedule(asyncio.get_running_loop().time() - 1)

    with crash_at("home-committed", act=late), pytest.raises(TimeoutError):
        await bus.handle(Go())
    assert [shelf.sku for shelf in await bus.shelves.find()] == ["1"]
    async with asyncio.timeout(10):
        while (await house.journal.stats()).pending:
            await house.take_over()  # the row may be leased to the process that was on the way to deliver it
            await asyncio.sleep(0.01)


class Whole(Command):
    sku: str = "a"


class Part(Command):
    sku: str


@pytest.mark.contract("BUS-312")
async def test_a_command_that_has_handled_another_one_is_not_repeated(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @command_handler
        async def whole(self, command: Whole) -> None:
            attempts.append(command.sku)
            await self.handle(Part(sku=command.sku))
            raise ConcurrentModification(models[0], command.sku, 1, 2)

        @command_handler
        async def part(self, command: Part) -> None:
            async with self.uow as uow:
                stock = await uow.stocks.get(command.sku)
                stock.left += 1
                self.register(Went(sku=command.sku))
                await uow.commit()

        @event_handler
        async def went(self, event: Went) -> None:
            heard.append(event.sku)

    attempts: list[str] = []
    heard: list[str] = []
    bus = Bus(house)
    await house.start(bus)
    await bus.stocks.create(entity=models[0](sku="a"))
    with pytest.raises(ConcurrentModification):
        await bus.handle(Whole())
    await house.take_over()
    await house.settled()
    assert attempts == ["a"]
    assert (await bus.stocks.get("a")).left == 1
    assert {*heard} == {"a"}  # again where its delivery was under way when it was taken over


@pytest.mark.contract("BUS-312")
async def test_a_command_whose_inner_one_failed_without_effect_is_repeated(
    house: Any, shop_class: Any, models: Any
) -> None:
    class Bus(shop_class):
        @command_handler
        async def whole(self, command: Whole) -> int:
            attempts.append(command.sku)
            return await self.handle(Part(sku=command.sku))  # type: ignore[no-any-return]

        @command_handler(retry=Retry(attempts=1))
        async def part(self, command: Part) -> int:
            async with self.uow as uow:
                stock = await uow.stocks.get(command.sku)
                stock.left += 1
                if len(attempts) == 1:
                    raise ConcurrentModification(models[0], command.sku, 1, 2)
                await uow.commit()
                return stock.left  # type: ignore[no-any-return]

    attempts: list[str] = []
    bus = Bus(house)
    await house.start(bus)
    await bus.stocks.create(entity=models[0](sku="a"))
    assert await bus.handle(Whole()) == 1
    assert attempts == ["a", "a"]


class Answer(BaseModel):
    sku: str
    left: int


@pytest.mark.contract("BUS-704")
async def test_a_command_that_a_delivery_handles_again_has_its_first_result(
    house: Any, shop_class: Any, models: Any
) -> None:
    class Bus(shop_class):
        @event_handler(retry=Retry(base=0.001))
        async def went(self, event: Went) -> None:
            results.append(await self.handle(Part(sku=event.sku)))
            if len(results) == 1:
                raise ConcurrentModification(models[0], event.sku, 1, 2)

        @command_handler
        async def part(self, command: Part) -> Answer:
            async with self.uow as uow:
                stock = await uow.stocks.get(command.sku)
                stock.left += 1
                await uow.commit()
            return Answer(sku=stock.sku, left=stock.left)

        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(sku=command.sku))

    results: list[Any] = []
    bus = Bus(house)
    await house.start(bus)
    await bus.stocks.create(entity=models[0](sku="a"))
    await bus.handle(Go())
    await house.settled()
    assert results == [Answer(sku="a", left=1), Answer(sku="a", left=1)]
    assert (await bus.stocks.get("a")).left == 1


@pytest.mark.contract("BUS-704")
async def test_a_result_of_none_is_stored_with_the_effect(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @event_handler(retry=Retry(base=0.001))
        async def went(self, event: Went) -> None:
            attempts.append(event.sku)
            assert await self.handle(Part(sku=event.sku)) is None
            if len(attempts) == 1:
                raise ConcurrentModification(models[0], event.sku, 1, 2)
            results.append(event.sku)

        @command_handler
        async def part(self, command: Part) -> None:
            async with self.uow as uow:
                stock = await uow.stocks.get(command.sku)
                stock.left += 1
                await uow.commit()

        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(sku=command.sku))

    def refuse() -> None:
        raise RuntimeError("a result that is known beforehand is not stored once more")

    attempts: list[str] = []
    results: list[str] = []
    bus = Bus(house)
    await house.start(bus)
    await bus.stocks.create(entity=models[0](sku="a"))
    with crash_at("kept", act=refuse):
        await bus.handle(Go())
        await house.settled()
    assert results == ["a"]
    assert (await bus.stocks.get("a")).left == 1


@pytest.mark.contract("BUS-705")
async def test_a_result_that_is_not_stored_is_said_to_be_unknown(house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @event_handler(retry=Retry(base=0.001))
        async def went(self, event: Went) -> None:
            try:
                results.append(await self.handle(Part(sku=event.sku)))
            except ResultUnknown as error:
                said.append(str(error))
            if not said:
                raise ConcurrentModification(models[0], event.sku, 1, 2)

        @command_handler
        async def part(self, command: Part):  # type: ignore[no-untyped-def]
            async with self.uow as uow:
                stock = await uow.stocks.get(command.sku)
                stock.left += 1
                await uow.commit()
            return stock  # which JSON would give back as a dictionary

        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(sku=command.sku))

    results: list[Any] = []
    said: list[str] = []
    bus = Bus(house)
    await house.start(bus)
    await bus.stocks.create(entity=models[0](sku="a"))
    await bus.handle(Go())
    await house.settled()
    assert [result.left for result in results] == [1]
    assert len(said) == 1
    assert "Bus.part has been handled at" in said[0]
    assert "read the state instead" in said[0]
    assert (await bus.stocks.get("a")).left == 1


@pytest.mark.contract("BUS-707")
async def test_what_was_left_of_a_lane_is_delivered_without_a_pause(
    make_house: Any, shop_class: Any, models: Any
) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku="a"))
                for _ in range(12):
                    self.register(Went(sku="a"))
                await uow.commit()

        @event_handler(background=True)
        async def went(self, event: Went) -> None:
            stock = await self.stocks.get(event.sku)
            stock.left += 1

    def die() -> None:
        raise asyncio.CancelledError

    first = await make_house(lease=0.1)
    bus = Bus(first)
    first.durable.runtime.attach(bus)
    await first.backends.create_schema()
    await first.durable.prepare()
    with crash_at("committed", act=die), pytest.raises(asyncio.CancelledError):
        await bus.handle(Go())
    assert len(await first.found("_wintry_journal", "id")) == 12
    await asyncio.sleep(0.2)
    second = await make_house(poll_min=60.0, poll_max=60.0)
    heir = Bus(second)
    async with asyncio.timeout(30):
        await second.start(heir)
        await second.settled()
    assert (await heir.stocks.get("a")).left == 12

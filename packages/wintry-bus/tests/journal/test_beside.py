"""Where writers run beside one another: several processes on PostgreSQL or MongoDB, and commits that get lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from wintry.bus import Command, Event, command_handler, event_handler
from wintry.bus.errors import AlreadyHandled
from wintry.bus.journal import Known, Row, housekeeping
from wintry.bus.journal.home import UnitJournal
from wintry.bus.journal.housekeeping import Duty
from wintry.bus.journal.relay import Relay
from wintry.bus.stores import home_on, journal_on, queue_on
from wintry.bus.transports import TransportMessage
from wintry.repository import Backends
from wintry.repository.errors import Unreachable

pytestmark = pytest.mark.anyio

LONG = 3600.0
KNOWN = Known({"Bus.went": 1})


@pytest.fixture(params=[("postgresql", "mongodb"), ("mongodb", "postgresql")], ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


class Go(Command):
    sku: str = "a"


class Went(Event, key="sku"):
    sku: str = "a"


def row(id: str, lane: str | None = "Bus:a", target: str = "Bus.went") -> Row:
    return Row(id=id, target=target, type="Went", version=1, body=b"{}", correlation_id="c", lane=lane)


Make = Callable[[], Awaitable[UnitJournal]]


@pytest.fixture
async def make_journal(urls: dict[str, str]) -> AsyncIterator[Make]:
    """Journals as processes of their own have them."""
    async with AsyncExitStack() as stack:

        async def make() -> UnitJournal:
            backends = await stack.enter_async_context(Backends(default=urls["default"]))
            home = home_on(backends["default"])
            journal = journal_on(home, others=(), queues={})
            await home.prepare()
            stack.push_async_callback(home.flush)
            return journal

        yield make


async def claimed(journal: UnitJournal, owner: str, limit: int = 100) -> list[str]:
    return [each.id for each in await journal.claim(limit=limit, owner=owner, lease=LONG, known=KNOWN)]


@pytest.mark.contract("BUS-510")
async def test_two_processes_that_do_not_see_one_another_share_no_lane(make_journal: Make) -> None:
    one, two = await make_journal(), await make_journal()
    units: list[Any] = [journal.backend.execution() for journal in (one, two)]
    first = await one.append([row("a")], owner="one", lease=LONG, execution=units[0])
    second = await two.append([row("b")], owner="two", lease=LONG, execution=units[1])
    assert (first[0].lease_owner, second[0].lease_owner) == ("one", "two")  # neither sees the other
    for unit in units:
        await unit.commit()
    (a,) = await one.committed([row("a")], first, owner="one")
    (b,) = await two.committed([row("b")], second, owner="two")
    assert a.lease_owner is None or b.lease_owner is None
    order = []
    for held, owner, journal in ((a, "one", one), (b, "two", two)):
        if held.lease_owner is not None:
            assert await claimed(one, "one") == []  # while one of a lane runs, nothing before it begins
            order.append(held.id)
            assert await journal.complete([held.seq], owner=owner) == 1
    while len(order) < 2:
        (next_one,) = await one.claim(limit=9, owner="one", lease=LONG, known=KNOWN)
        order.append(next_one.id)
        await one.complete([next_one.seq], owner="one")
    assert sorted(order) == ["a", "b"]


@pytest.mark.contract("BUS-511")
async def test_claims_at_once_hand_out_each_row_once_and_one_of_a_lane(make_journal: Make) -> None:
    journals = [await make_journal() for _ in range(3)]
    for round in range(8):
        await journals[0].adopt([row(f"{round}.{n}", f"Bus:{round}.{n % 4}" if n % 2 else None) for n in range(20)])
        found = await asyncio.gather(*(claimed(journal, f"p{n}") for n, journal in enumerate(journals)))
        ids = [id for each in found for id in each]
        while len(ids) < 12:  # what two claims held back from one another is free again
            ids += await claimed(journals[0], "late")
        # all without a lane, and the first of the lanes 1 and 3
        assert sorted(ids) == sorted(f"{round}.{n}" for n in (*range(0, 20, 2), 1, 3))


@pytest.mark.contract("BUS-512")
async def test_the_rows_of_one_aggregate_have_the_order_of_its_commits(
    make_house: Any, shop_class: Any, models: Any
) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            async with self.uow as uow:
                stock = await uow.stocks.get(command.sku)
                stock.left += 1
                self.register(Went(sku=f"{stock.left:03}"))
                await uow.commit()

        @event_handler(background=True)
        async def went(self, event: Went) -> None: ...

    one, two = await make_house(), await make_house()
    buses = [Bus(house) for house in (one, two)]
    for house, bus in zip((one, two), buses, strict=True):
        await house.start(bus)
    await buses[0].stocks.create(entity=models[0](sku="a"))

    async def several(bus: Any) -> None:
        for _ in range(15):
            await bus.handle(Go())

    await asyncio.gather(*(several(bus) for bus in buses))
    bodies = [body for (body,) in await one.found("_wintry_journal", "body")]
    assert len(bodies) == 30
    assert bodies == sorted(bodies)
    await one.settled()


@pytest.mark.contract("BUS-513")
async def test_a_lease_that_is_renewed_meanwhile_is_no_conflict(make_house: Any, shop_class: Any, models: Any) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(sku=command.sku))

        @event_handler
        async def went(self, event: Went) -> None:
            attempts.append(event.sku)
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku=event.sku))
                await uow.stocks.count()  # stores it: the transaction has begun
                until = await lease()
                while await lease() == until:
                    await asyncio.sleep(0.01)
                await uow.commit()

    async def lease() -> Any:
        ((until,),) = await house.found("_wintry_journal", "lease_until")
        return until

    attempts: list[str] = []
    house = await make_house(lease=3.0)
    bus = Bus(house)
    await house.start(bus)
    await bus.handle(Go())
    await house.settled()
    assert attempts == ["a"]
    assert await bus.stocks.count() == 1


@pytest.mark.contract("BUS-514")
@pytest.mark.parametrize("gone_through", [True, False])
async def test_a_command_whose_commit_got_lost_is_not_done_twice(
    gone_through: bool, house: Any, shop_class: Any, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> str:
            attempts.append(command.sku)
            async with self.uow as uow:
                stock = await uow.stocks.get(command.sku)
                stock.left += 1
                self.register(Went(sku=command.sku))
                await uow.commit()
            return "done"

        @event_handler
        async def went(self, event: Went) -> None:
            heard.append(event.sku)

    attempts: list[str] = []
    heard: list[str] = []
    bus = Bus(house)
    await house.start(bus)
    await bus.stocks.create(entity=models[0](sku="a"))
    kind: Any = type(house.backends["default"].execution())
    commit = kind.commit

    async def lost(execution: Any) -> None:
        if execution._backend is house.backends["default"] and attempts and not fell:
            fell.append(True)
            await (commit(execution) if gone_through else execution.close())
            raise Unreachable("the connection was lost during the commit")
        await commit(execution)

    fell: list[bool] = []
    monkeypatch.setattr(kind, "commit", lost)
    if gone_through:
        with pytest.raises(AlreadyHandled, match="the effect is stored"):
            await bus.handle(Go())
    else:
        assert await bus.handle(Go()) == "done"
    assert len(attempts) == (1 if gone_through else 2)
    await house.take_over()
    await house.settled()
    assert (await bus.stocks.get("a")).left == 1
    assert {*heard} == {"a"}  # again where its delivery was under way when it was taken over


@pytest.mark.contract("BUS-708")
async def test_rows_are_closed_again_when_the_database_is_back(
    make_journal: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await make_journal()
    stored = await journal.append([row(str(n), lane=None) for n in range(4)], owner="one", lease=LONG)
    backend: Any = journal.backend
    kind = type(backend.execution())
    name = "begin" if backend.kind == "postgresql" else "run"

    async def away(*_: object) -> None:
        raise Unreachable("the server is away")

    with monkeypatch.context() as patched:
        patched.setattr(kind, name, away)
        if backend.kind == "mongodb":
            patched.setattr(journal._leases, "change", away)  # type: ignore[attr-defined]
        for each in stored[:2]:
            journal.complete_soon(each.seq, owner="one")
        await journal.homes[backend].flush()
    assert (await journal.stats()).done == 0
    for each in stored[2:]:
        journal.complete_soon(each.seq, owner="one")
    await journal.homes[backend].flush()
    assert (await journal.stats()).done == 2


@pytest.mark.contract("BUS-320")
async def test_what_was_moved_goes_and_nothing_else_of_the_same_message(house: Any, shop_class: Any) -> None:
    await house.start(shop_class(house))
    views = house.backends["views"]
    relay = house.durable._units.relays[views]
    rows = [row("m", None, target=f"Bus.handler{number}") for number in range(3)]
    execution = views.execution()
    await relay.store(execution, rows)
    await execution.commit()
    await relay.home.remove(rows[:1])
    left = await relay.home.waiting(grace=-1.0, limit=9)
    assert [each.target for each in left] == ["Bus.handler1", "Bus.handler2"]
    await relay.home.remove(rows)


@pytest.mark.contract("BUS-518")
@pytest.mark.parametrize("group", ["g", None])
async def test_a_message_that_is_on_its_way_while_somebody_joins_is_heard(
    group: str | None, urls: dict[str, str]
) -> None:
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(Backends(default=urls["default"]))
        backend: Any = backends["default"]
        queue: Any = queue_on(home_on(backend), owner="me", poll_min=0.01, poll_max=0.05)
        await queue.start()
        stack.push_async_callback(queue.stop)
        source = queue.receive("c", group=group, prefetch=9)
        if group is None:  # listens from now on: a number that is taken before another is not passed over
            first = asyncio.ensure_future(anext(source))
            await until_listening(queue)
        early = backend.execution(**({} if backend.kind == "mongodb" else {"isolation": "read committed"}))
        stack.push_async_callback(early.close)
        await queue._insert(early, [("c", TransportMessage("early", "Went", b"{}"))])
        if group is not None:
            first = asyncio.ensure_future(anext(source))
        late = asyncio.ensure_future(queue.publish("c", [TransportMessage("late", "Went", b"{}")]))
        await asyncio.wait([first, late], timeout=0.2)
        await early.commit()
        await asyncio.wait_for(late, 10)
        heard = [await asyncio.wait_for(first, 10), await asyncio.wait_for(anext(source), 10)]
        assert [delivery.message.id for delivery in heard] == ["early", "late"]
        for delivery in heard:
            await delivery.ack()
        await source.aclose()


async def until_listening(queue: Any) -> None:
    async with asyncio.timeout(10):
        while not queue._listeners.get("c"):
            await asyncio.sleep(0.005)


@pytest.mark.contract("BUS-367")
async def test_a_store_that_is_down_keeps_no_other_from_its_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Passing:
        async def recover(self, *, grace: float) -> None:
            done.append("moved")

    async def down() -> None:
        raise ConnectionError("away")

    async def purge() -> None:
        done.append("purged")

    class Mine:
        async def take(self, seconds: float) -> bool:
            return True

    relay, duty = cast(Relay, Passing()), cast(Duty, Mine())
    monkeypatch.setattr(housekeeping, "PAUSE", 0.01)
    keeping = housekeeping.Housekeeping([relay], [down], duty, [down, purge])
    with pytest.raises(ConnectionError):
        await keeping.recover(grace=0.0)
    assert done == ["moved"]
    keeping.start()
    async with asyncio.timeout(10):
        while "purged" not in done:
            await asyncio.sleep(0.01)
    await keeping.stop()

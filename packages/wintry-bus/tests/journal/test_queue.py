"""The queue in a database beyond what every transport does: several processes, crashes, retention."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wintry.bus import Command, Event, command_handler, event_handler
from wintry.bus.journal import Known, Row
from wintry.bus.owners import is_gone, new_owner
from wintry.bus.stores import home_on, queue_on
from wintry.bus.transports import TransportMessage
from wintry.bus.transports.database import message_of
from wintry.bus.transports.queue import Queue
from wintry.repository import Backends

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[("sqlite", "sqlite"), ("postgresql", "mongodb"), ("mongodb", "postgresql")], ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


GONE = f"{new_owner().split(':')[0]}:999999999:dead:1"


def message(id: str, key: str | None = None) -> TransportMessage:
    return TransportMessage(id, "Went", b"{}", key)


@pytest.fixture
async def make_queue(urls: dict[str, str]) -> AsyncIterator[Callable[..., object]]:
    """Queues as processes of their own have them: each with its own connections to one database."""
    async with AsyncExitStack() as stack:

        async def make(owner: str = "me", **options: float) -> Queue:
            backends = Backends(default=urls["default"])
            await stack.enter_async_context(backends)
            queue = queue_on(
                home_on(backends["default"]), owner=owner, **{"poll_min": 0.01, "poll_max": 0.05, **options}
            )
            await queue.start()
            stack.push_async_callback(queue.stop)
            return queue

        yield make


async def first(queue: Queue, group: str | None = "g", channel: str = "c"):
    source = queue.receive(channel, group=group, prefetch=1)
    async with asyncio.timeout(5):
        return source, await anext(source)


async def left(queue: Queue) -> int:
    """How many deliveries are not settled."""
    on: Any = queue.backend
    if on.kind == "mongodb":
        return await on.collection("_wintry_queue_deliveries").count_documents({})
    execution = on.execution(read_only=True)
    try:
        ((count,),) = await execution.fetch("SELECT COUNT(*) FROM _wintry_queue_deliveries", ())
    finally:
        await execution.close()
    return count


@pytest.mark.contract("BUS-330")
async def test_two_processes_share_the_messages_of_a_group(make_queue) -> None:
    one, two = await make_queue("one"), await make_queue("two")
    heard: list[str] = []

    async def listen(queue: Queue) -> None:
        async for delivery in queue.receive("c", group="g", prefetch=4):
            heard.append(delivery.message.id)
            await delivery.ack()

    tasks = [asyncio.create_task(listen(queue)) for queue in (one, two)]
    for number in range(60):
        await (one, two)[number % 2].publish("c", [message(str(number))])
    async with asyncio.timeout(10):
        while len(heard) < 60:
            await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(heard, key=int) == [str(number) for number in range(60)]


@pytest.mark.contract("BUS-342")
@pytest.mark.parametrize(("group", "name"), [("g", "_claim"), (None, "_following")])
async def test_a_look_that_fails_takes_nothing_from_a_listener(make_queue, group: str | None, name: str) -> None:
    queue = await make_queue()
    look, failed = getattr(queue, name), list[str]()

    async def failing(*arguments: Any) -> Any:
        if failed or not heard:
            return await look(*arguments)
        failed.append(name)
        await queue.publish("c", [message("b")])
        raise ConnectionError("away")

    heard: list[tuple[str, int]] = []
    source = queue.receive("c", group=group, prefetch=500)

    async def listen() -> None:
        async for delivery in source:
            heard.append((delivery.message.id, delivery.attempt))

    async with asyncio.timeout(10):
        setattr(queue, name, failing)
        task = asyncio.create_task(listen())
        for number in itertools.count():  # until it listens
            if heard:
                break
            await queue.publish("c", [message(str(number))])
            await asyncio.sleep(0.01)
        while ("b", 1) not in heard:
            await asyncio.sleep(0.01)
    assert failed == [name]
    assert len(heard) == len(dict(heard)), "what it holds was given out once more"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await source.aclose()


@pytest.mark.contract("BUS-341")
async def test_a_listener_looks_once_for_each_publication(make_queue) -> None:
    queue = await make_queue(poll_min=60, poll_max=60)
    looks: list[int] = []
    heard = asyncio.Event()
    look = queue._following

    async def following(channel: str, after: int, limit: int) -> Any:
        looks.append(after)
        return await look(channel, after, limit)

    async def listen() -> None:
        async for delivery in queue.receive("c", group=None, prefetch=10):
            await delivery.ack()
            heard.set()

    queue._following = following
    task = asyncio.create_task(listen())
    async with asyncio.timeout(10):
        while not looks:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await queue.publish("c", [message("a")])
        await heard.wait()
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(looks) == 2


@pytest.mark.contract("BUS-331")
async def test_what_a_dead_process_held_is_taken_over(make_queue) -> None:
    dead, alive = await make_queue(GONE), await make_queue("alive")
    await dead.publish("c", [message("a")])
    source, delivery = await first(dead)
    assert delivery.attempt == 1
    dead._held.clear()  # as a process that renews nothing any more
    assert await alive.inherit() == 1
    other, again = await first(alive)
    assert (again.message.id, again.attempt) == ("a", 2)
    await delivery.ack()  # fenced: it is not ours any more
    assert await left(alive) == 1
    await again.ack()
    assert await left(alive) == 0
    assert await alive.inherit() == 0
    await source.aclose()
    await other.aclose()


@pytest.mark.contract("BUS-331")
async def test_a_lease_that_is_not_renewed_ends(make_queue) -> None:
    slow, other = await make_queue("slow", lease=0.05), await make_queue("other")
    slow._renewing.cancel()
    await slow.publish("c", [message("a")])
    source, _ = await first(slow)
    second, again = await first(other)
    assert again.attempt == 2
    await again.ack()
    await source.aclose()
    await second.aclose()


@pytest.mark.contract("BUS-332")
async def test_a_message_published_twice_is_given_out_once(make_queue) -> None:
    queue = await make_queue()
    source = queue.receive("c", group="g", prefetch=10)
    waiting = asyncio.ensure_future(anext(source))
    while not queue._groups:
        await asyncio.sleep(0.001)
    await queue.publish("c", [message("a"), message("a")])
    await queue.publish("c", [message("a"), message("b")])
    first = await waiting
    await first.ack()
    second = await anext(source)
    await second.ack()
    assert (first.message.id, second.message.id) == ("a", "b")
    assert await left(queue) == 0
    await source.aclose()


@pytest.mark.contract("BUS-333")
async def test_a_publication_wakes_the_listeners_of_its_process_without_a_poll(make_queue) -> None:
    queue = await make_queue(poll_min=30.0, poll_max=30.0)
    sources = [queue.receive("c", group=group, prefetch=1) for group in ("g", None)]
    waiting = [asyncio.ensure_future(anext(source)) for source in sources]
    while len(queue._listeners.get("c", ())) < 2 or not queue._groups:
        await asyncio.sleep(0.001)
    async with asyncio.timeout(15):  # half of the time to the next poll
        await queue.publish("c", [message("a")])
        deliveries = [await waiting[0]]
        while not waiting[1].done():  # it hears what comes behind its start, which "a" may have come before
            await queue.publish("c", [message("b")])
            await asyncio.sleep(0.01)
        deliveries.append(await waiting[1])
    for delivery, source in zip(deliveries, sources, strict=True):
        await delivery.ack()
        await source.aclose()


@pytest.mark.contract("BUS-334")
async def test_parked_messages_keep_their_reason(make_queue) -> None:
    queue = await make_queue()
    await queue.publish("c", [message("a", key="k")])
    source, delivery = await first(queue)
    await delivery.park("there is no such batch")
    (parked,) = await queue.parked()
    assert (parked.channel, parked.group, parked.message.id) == ("c", "g", "a")
    assert parked.reason == "there is no such batch"
    await source.aclose()


@pytest.mark.contract("BUS-335")
async def test_a_channel_that_nobody_listens_to_does_not_grow_for_ever(make_queue) -> None:
    queue = await make_queue()
    await queue.publish("nobody", [message(str(number)) for number in range(700)])
    assert await queue.purge(older_than=3600.0, abandoned=3600.0) == 0
    assert await queue.purge(older_than=-1.0, abandoned=3600.0) == 700


@pytest.mark.contract("BUS-335")
async def test_what_a_group_has_still_to_be_given_is_kept(make_queue) -> None:
    queue = await make_queue()
    source = queue.receive("c", group="g", prefetch=1)
    waiting = asyncio.ensure_future(anext(source))
    await queue.publish("c", [message("a"), message("b")])
    await (await waiting).ack()
    assert await queue.purge(older_than=-1.0, abandoned=3600.0) == 1
    queue._groups.clear()  # nobody listens for it any more
    assert await queue.purge(older_than=-1.0, abandoned=-1.0) == 1
    await source.aclose()


@pytest.mark.contract("BUS-336")
async def test_an_owner_is_gone_when_its_process_has_ended() -> None:
    mine = new_owner()
    host, number, _, _ = mine.split(":")
    assert not is_gone(mine)
    assert is_gone(GONE)
    assert is_gone(f"{host}:{number}:another:1")  # an earlier process with our number
    assert not is_gone(f"{host}:1:init:1") or number == "1"
    assert not is_gone(f"elsewhere.{GONE}")
    assert not is_gone("of an unknown form")


class Go(Command):
    sku: str


class Went(Event, key="sku"):
    sku: str


@pytest.mark.contract("BUS-337")
async def test_a_send_in_the_journals_database_is_stored_with_the_effect(pair, house, shop_class, models) -> None:
    class Bus(shop_class):
        @command_handler
        async def go(self, command: Go) -> None:
            async with self.uow as uow:
                await uow.stocks.create(entity=models[0](sku=command.sku))
                await publisher.send("went", {"sku": command.sku}, key=command.sku)
                if command.sku == "bad":
                    raise ValueError(command.sku)
                await uow.commit()

    from wintry.bus import TransportPublisher

    publisher = TransportPublisher(house.durable.runtime, transport="near")
    bus = Bus(house)
    await house.start(bus)
    await bus.handle(Go(sku="good"))
    with pytest.raises(ValueError, match="bad"):
        await bus.handle(Go(sku="bad"))
    await house.settled()
    assert await house.found("_wintry_queue", "channel", "body", "key") == [("went", b'{"sku":"good"}', "good")]
    stored = await house.found("_wintry_journal", "status")
    assert stored == ([] if pair[0] == "sqlite" else [("done",)])


@pytest.mark.contract("BUS-320")
async def test_what_a_crash_left_in_another_database_is_moved_once(house, shop_class, models) -> None:
    heard: list[str] = []

    class Bus(shop_class):
        @event_handler
        async def went(self, event: Went) -> None:
            heard.append(event.sku)

    bus = Bus(house)
    house.durable.runtime.attach(bus)
    await house.backends.create_schema()
    await house.durable.prepare()
    relay = house.durable._units.relays[house.backends["views"]]
    row = Row(id="m", target="Bus.went", type="Went", version=1, body=b'{"sku": "a"}', correlation_id="c", lane="Bus:a")
    execution = house.backends["views"].execution()
    await relay.store(execution, [row, *(row_of(row, str(number)) for number in range(120))])
    await execution.commit()
    await house.journal.adopt([row])  # moved already, and then the process died
    assert await relay.recover(grace=0.0) == 121
    assert await relay.recover(grace=0.0) == 0
    await house.durable.start()
    await house.settled()
    assert len(heard) == 121


def row_of(row, id):
    return replace(row, id=id, lane=None)


@pytest.mark.contract("BUS-338")
async def test_one_process_at_a_time_purges(make_house, shop_class) -> None:
    one, two = await make_house(), await make_house()
    for house in (one, two):
        await house.start(shop_class(house))
    assert await one.durable.housekeeping.purge()
    assert not await two.durable.housekeeping.purge()


DONE = (
    "INSERT INTO _wintry_journal (id, target, type, version, body, correlation_id, lane, headers, due, status, "
    "attempts, created_at, done_at) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
    "SELECT 'x' || i, 'Bus.went', 'Went', 1, '{}', 'c', 'l' || (i % 10), '{}', i, 'done', 1, i, i FROM n"
)


@pytest.mark.contract("BUS-339")
@pytest.mark.contract("BUS-517")
async def test_the_journal_costs_the_same_with_much_that_is_done(pair, house, shop_class) -> None:
    await house.start(shop_class(house))
    await house.durable.drain(1.0)
    explained = {"sqlite": on_sqlite, "postgresql": on_postgresql, "mongodb": on_mongodb}[pair[0]]
    steps = await explained(house)
    assert any("_wintry_journal_pending" in step for step in steps), steps
    assert any("_wintry_journal_lanes" in step for step in steps), steps
    assert not any(step.startswith(("SCAN item", "Seq Scan", "COLLSCAN")) and "USING" not in step for step in steps)


def free(house):
    """The query for what can be claimed, its values written out, to be explained."""
    where, values = house.journal._where(Known({"Bus.went": 1}, frozenset({"near"})))
    statement = house.journal._statements(house.journal._leases.free(where))
    text: str = statement.text
    for number, name in enumerate(statement._names, 1):
        value = {**values, "limit": 10}[name]
        written = str(value) if isinstance(value, int) else f"'{value}'"
        text = re.sub(rf"\${number}\b", written, text) if "$" in text else text.replace("?", written, 1)
    return text


async def on_sqlite(house) -> list[str]:
    execution = house.backends["default"].execution()
    await execution.change(DONE, ())
    await execution.commit()
    return [step for *_, step in await house.rows("EXPLAIN QUERY PLAN " + free(house))]


async def on_postgresql(house) -> list[str]:
    execution = house.backends["default"].execution()
    await execution.change(DONE, ())
    await execution.commit()
    execution = house.backends["default"].execution()
    await execution.change("ANALYZE _wintry_journal", ())
    await execution.commit()
    return [step.strip().removeprefix("->").strip() for (step,) in await house.rows("EXPLAIN " + free(house))]


async def on_mongodb(house) -> list[str]:
    from wintry.bus.journal.mongo import _condition

    backend = house.backends["default"]
    row = {"type": "Went", "version": 1, "body": b"", "correlation_id": "c", "headers": "{}", "status": "done"}
    rows = [
        {**row, "_id": n, "id": f"x{n}", "target": "Bus.went", "lane": f"l{n % 10}", "done_at": datetime(2000, 1, 1)}
        for n in range(1_000_000, 1_020_000)
    ]
    await backend.collection("_wintry_journal").insert_many(rows)
    await house.journal.adopt([row_of(Row("m", "Bus.went", "Went", 1, b"", "c"), "m"), lane_row])
    leases = house.journal._leases
    where = {"$or": _condition(Known({"Bus.went": 1}, frozenset({"near"})))}
    steps: list[str] = []
    for pipeline in leases.pipelines(where, 10):
        plan = await backend.client.database.command(
            "explain", {"aggregate": "_wintry_journal", "pipeline": pipeline, "cursor": {}}, verbosity="executionStats"
        )
        steps += stages(plan)
    return steps


lane_row = Row("l", "Bus.went", "Went", 1, b"", "c", lane="l")


def stages(plan) -> list[str]:
    """The kinds of stages and the names of indexes anywhere in a plan that was chosen."""
    if isinstance(plan, list):
        return [step for each in plan for step in stages(each)]
    if not isinstance(plan, dict):
        return []
    here = [plan["stage"]] if isinstance(plan.get("stage"), str) else []
    here += [plan["indexName"]] if "indexName" in plan else []
    here += [name for name in plan.get("indexesUsed", ())]
    return here + [step for key, each in plan.items() if key != "rejectedPlans" for step in stages(each)]


@pytest.mark.contract("BUS-333")
async def test_a_broadcast_listener_that_ends_frees_nothing_of_a_group(make_queue) -> None:
    queue = await make_queue()
    group, everybody = (queue.receive("c", group=name, prefetch=1) for name in ("g", None))
    heard = asyncio.ensure_future(anext(everybody))
    held = asyncio.ensure_future(anext(group))
    numbers = itertools.count()  # of messages: what was published before everybody listened is not heard again
    async with asyncio.timeout(15):
        while not (heard.done() and held.done()):
            await queue.publish("c", [message(f"{next(numbers)}"), message(f"{next(numbers)}")])
            await asyncio.sleep(0.01)
    (leased,) = queue._held
    heard.result().seq = leased  # messages and deliveries are numbered apart, so that two may have one number
    await everybody.aclose()
    await asyncio.sleep(0.05)
    assert queue._held == {leased}
    await held.result().ack()
    await group.aclose()


@pytest.mark.contract("BUS-366")
@pytest.mark.parametrize("headers", [{}, {"time": "soon"}])
def test_a_send_with_broken_headers_travels_without_them(headers: dict[str, str]) -> None:
    row = Row(id="a", target=">q:c", type="Went", version=1, body=b"{}", correlation_id="b", headers=headers)
    message = message_of(row)
    assert (message.id, message.headers["correlationid"]) == ("a", "b")
    assert abs(datetime.fromisoformat(message.headers["time"]) - datetime.now(UTC)) < timedelta(minutes=1)

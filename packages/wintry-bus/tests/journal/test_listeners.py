"""What a listener gives up, where there is a journal: one list of dead letters for everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from wintry.bus import DefinitionError, Runtime, UnknownDeadLetter, current
from wintry.bus.journal import MemoryJournal
from wintry.bus.retry import Retry
from wintry.bus.transports import Listener, Memory, Runner, TransportMessage

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[("sqlite", "sqlite"), ("postgresql", "mongodb"), ("mongodb", "postgresql")], ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


def sent(id: str, body: object = "TABLE", **headers: str) -> TransportMessage:
    return TransportMessage(id, "change", json.dumps(body).encode(), headers=headers)


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(10):
        while not (found := await condition()):
            await asyncio.sleep(0.005)
        return found


def text(body: bytes) -> str:
    found = json.loads(body)
    if not isinstance(found, str):
        raise ValueError("a text is wanted")  # noqa: TRY004 - as decoders do
    return found


class Place:
    """A listener on the stocks of a house, and its runner."""

    def __init__(self, house: Any, shop: Any, model: type[Any], transport: str) -> None:
        self.house, self.shop, self.runtime, self.known = house, shop, house.durable.runtime, set[str]()
        self.transport = self.runtime.transports[transport]
        self.ran: list[tuple[str, int]] = []

        async def handle(sku: str) -> None:
            envelope = current()
            self.ran.append((envelope.id, envelope.attempt))
            stock = await shop.stocks.get(sku)
            if stock is None:
                await shop.stocks.create(entity=model(sku=sku, left=1))
            else:
                stock.left += 1
            if sku not in self.known:
                raise LookupError(f"unknown {sku}")

        self.runner = Runner(
            self.runtime, self.transport, [Listener("pkg.Ears.change", "change", text, handle)], group="shop"
        )

    async def letter(self) -> Any:
        letters = await until(self.runtime.dead_letters.list)
        assert len(letters) == 1
        return letters[0]

    async def counts(self) -> list[Any]:
        return [(stock.sku, stock.left) for stock in await self.shop.stocks.find()]


@pytest.fixture(params=["near", "far", "memory"])
async def place(request: pytest.FixtureRequest, house, shop_class, models) -> AsyncIterator[Place]:
    house.durable.runtime.transports["memory"] = Memory()
    shop = shop_class(house)
    await house.start(shop)
    made = Place(house, shop, models[0], request.param)
    await made.runner.start()
    yield made
    await made.runner.drain(1.0)


@pytest.mark.contract("BUS-360")
async def test_a_message_that_a_listener_gave_up_is_a_dead_letter_of_the_bus(place: Place) -> None:
    await place.transport.publish(
        "change", [sent("m1", correlationid="c1", causationid="p1", time="2026-01-02T03:04:05+00:00", other="kept")]
    )
    letter = await place.letter()
    assert (letter.target, letter.type, letter.message_id, letter.correlation_id) == (
        "pkg.Ears.change",
        "change",
        "m1",
        "c1",
    )
    assert letter.body == b'"TABLE"'
    assert "unknown TABLE" in letter.error
    assert letter.attempts == 1
    assert letter.headers["channel"] == "change"
    assert letter.headers["other"] == "kept"
    assert await place.counts() == []


@pytest.mark.contract("BUS-360")
async def test_a_broadcast_that_is_given_up_is_dropped_and_logged(
    house: Any, shop_class: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await house.start(shop_class(house))
    runtime = house.durable.runtime
    transport = runtime.transports["near"]

    async def handle(sku: str) -> None:
        raise LookupError(f"unknown {sku}")

    listener = Listener("pkg.Ears.all", "change", text, handle, broadcast=True)
    runner = Runner(runtime, transport, [listener], group="shop")
    await runner.start()
    numbers = count()

    async def dropped() -> bool:
        await transport.publish("change", [sent(f"m{next(numbers)}")])  # heard from when the listener listens
        return "is dropped" in caplog.text

    await until(dropped)
    await runner.drain(1.0)
    assert "unknown TABLE" in caplog.text
    assert await runtime.dead_letters.list() == []


@pytest.mark.contract("BUS-361")
async def test_what_is_redriven_is_delivered_to_the_listener_with_its_effect(place: Place) -> None:
    await place.transport.publish("change", [sent("m1")])
    letter = await place.letter()
    place.known.add("TABLE")
    assert await place.runtime.dead_letters.redrive([letter.number]) == 1
    await until(place.counts)
    await place.house.settled()
    assert await place.counts() == [("TABLE", 1)]
    assert place.ran == [("m1", 1), ("m1", 1)]
    assert await place.runtime.dead_letters.list() == []


@pytest.mark.contract("BUS-361")
async def test_what_fails_again_is_a_dead_letter_again(place: Place) -> None:
    await place.transport.publish("change", [sent("m1")])
    letter = await place.letter()
    await place.runtime.dead_letters.redrive([letter.number])
    await place.house.settled()
    assert [again.number for again in await place.runtime.dead_letters.list()] == [letter.number]
    assert await place.counts() == []


@pytest.mark.contract("BUS-362")
async def test_a_body_that_does_not_fit_is_a_dead_letter_each_time(place: Place) -> None:
    await place.transport.publish("change", [sent("m1", {"no": "text"})])
    letter = await place.letter()
    assert letter.error == "the body does not fit: a text is wanted"
    await place.runtime.dead_letters.redrive([letter.number])
    await place.house.settled()
    again = await place.letter()
    assert (again.number, again.error) == (letter.number, letter.error)
    assert place.ran == []
    assert await place.runtime.dead_letters.discard([again.number]) == 1
    with pytest.raises(UnknownDeadLetter):
        await place.runtime.dead_letters.show(again.number)


@pytest.mark.contract("BUS-363")
async def test_a_message_that_its_transport_gives_out_once_more_has_its_effect_once(
    place: Place,
) -> None:
    await place.transport.publish("change", [sent("m1")])
    letter = await place.letter()
    await place.runner.drain(1.0)
    place.known.add("TABLE")
    other = Memory()
    place.runtime.transports["other"] = other
    again = Runner(Unlistened(place.runtime), other, [next(iter(place.runner._routes))], group="shop")  # type: ignore[arg-type]
    await again.start()
    await other.publish("change", [sent("m1")])  # as after a crash between storing and acknowledging
    await until(place.counts)
    await again.drain(1.0)
    await place.runtime.dead_letters.redrive([letter.number])
    await place.house.settled()
    assert await place.counts() == [("TABLE", 1)]
    assert place.ran == [("m1", 1), ("m1", 1)]


@pytest.mark.contract("BUS-363")
async def test_two_that_handle_one_message_at_once_have_one_effect(house: Any, shop_class: Any, models: Any) -> None:
    shop, both, ran = shop_class(house), asyncio.Barrier(2), list[str]()
    await house.start(shop)
    runtime = house.durable.runtime

    async def handle(sku: str) -> None:
        ran.append(sku)
        number = len(ran)
        if number == 1:
            raise LookupError(sku)
        async with asyncio.timeout(5):
            await both.wait()
        await shop.stocks.create(entity=models[0](sku=f"{sku} {number}"))

    listener = Listener("pkg.Ears.change", "change", text, handle)
    transports = [runtime.transports["near"], Memory()]
    runners = [
        Runner(runtime, transports[0], [listener], group="shop"),
        Runner(Unlistened(runtime), transports[1], [listener], group="shop"),  # type: ignore[arg-type]
    ]
    for runner in runners:
        await runner.start()
    await transports[0].publish("change", [sent("m1")])
    (letter,) = await until(runtime.dead_letters.list)
    await runtime.dead_letters.redrive([letter.number])
    await transports[1].publish("change", [sent("m1")])

    async def both_ran() -> bool:
        return len(ran) == 3

    await until(both_ran)
    await house.settled()
    for runner in runners:
        await runner.drain(5.0)
    assert await shop.stocks.count() == 1


class Unlistened:
    """A runtime as a second process has it, in this one."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def listen(self, route: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


class Full(MemoryJournal):
    """A journal that cannot store, for a while."""

    failures = 2

    async def bury(self, rows: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        await super().bury(rows)


@pytest.mark.contract("BUS-364")
async def test_a_dead_letter_that_cannot_be_stored_stays_with_its_transport() -> None:
    journal, transport = Full(), Memory()
    runtime = Runtime(journal=journal, transports={"default": transport})
    heard: list[str] = []

    async def handle(sku: str) -> None:
        heard.append(sku)
        raise LookupError(sku)

    runner = Runner(runtime, transport, [Listener("E.change", "change", text, handle)], group="g")
    await runner.start()
    await transport.publish("change", [sent("m1")])
    (letter,) = await until(runtime.dead_letters.list)
    await runner.drain(1.0)
    assert letter.message_id == "m1"
    assert heard == ["TABLE"]


@pytest.mark.contract("BUS-364")
async def test_a_listener_that_is_drained_gives_back_what_it_cannot_store() -> None:
    journal, transport = Full(), Memory()
    journal.failures = 1000
    runtime = Runtime(journal=journal, transports={"default": transport})
    tried = asyncio.Event()

    async def handle(sku: str) -> None:
        tried.set()
        raise LookupError(sku)

    runner = Runner(runtime, transport, [Listener("E.change", "change", text, handle)], group="g")
    await runner.start()
    await transport.publish("change", [sent("m1")])
    await asyncio.wait_for(tried.wait(), 5)
    await runner.drain(0.05)
    source = transport.receive("change", group="g", prefetch=1)
    delivery = await asyncio.wait_for(anext(source), 5)
    assert delivery.message.id == "m1"
    await source.aclose()  # type: ignore[attr-defined]


@pytest.mark.contract("BUS-365")
def test_the_ids_of_listeners_stand_for_one_and_have_no_colon() -> None:
    async def handle(_: object) -> None:
        pass

    with pytest.raises(ValueError, match="colon"):
        Listener("E:change", "change", text, handle)
    transport = Memory()
    runtime = Runtime(transports={"default": transport})
    Runner(runtime, transport, [Listener("E.change", "change", text, handle)], group="g")
    with pytest.raises(DefinitionError, match=r"E\.change"):
        Runner(runtime, transport, [Listener("E.change", "other", text, handle, retry=Retry())], group="g")


@pytest.mark.contract("BUS-366")
async def test_a_row_with_broken_headers_stops_nobody(house, shop_class, models) -> None:
    shop = shop_class(house)
    heard: list[str] = []

    async def handle(sku: str) -> None:
        heard.append(sku)

    Runner(house.durable.runtime, Memory(), [Listener("E.change", "change", text, handle)], group="g")
    await house.backends.create_schema()
    await house.durable.prepare()
    rows = [row_with(body) for body in ("a", "b", "c", "d")]
    await house.journal.bury(rows)
    for id, broken in (("a", "{"), ("b", "[]"), ("c", '{"time": "soon"}')):
        await spoil(house.backends["default"], id, broken)
    letters = await house.durable.runtime.dead_letters.list()
    await house.durable.runtime.dead_letters.redrive([letter.number for letter in letters])
    await house.start(shop)
    await house.settled()
    assert sorted(heard) == ["a", "b", "c", "d"]


async def spoil(backend: Any, id: str, headers: str) -> None:
    if backend.kind == "mongodb":
        await backend.collection("_wintry_journal").update_one({"id": id}, {"$set": {"headers": headers}})
        return
    execution = backend.execution()
    await execution.change(f"UPDATE _wintry_journal SET headers = '{headers}' WHERE id = '{id}'", ())
    await execution.commit()


def row_with(sku: str) -> Any:
    from wintry.bus.journal import Row

    return Row(id=sku, target="E.change", type="change", version=1, body=json.dumps(sku).encode(), correlation_id="c")

"""Listeners, the runner that settles their deliveries, and the publisher."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime

import pytest

from wintry.bus import (
    CapabilityError,
    Command,
    Discard,
    Event,
    Limits,
    MessageQueue,
    Park,
    Retry,
    Runtime,
    TransportPublisher,
    command_handler,
    current,
    event_handler,
)
from wintry.bus.journal import MemoryJournal
from wintry.bus.testing import recording
from wintry.bus.transports import Caps, Listener, Memory, Runner, TransportMessage
from wintry.bus.transports.memory import MemoryDelivery

pytestmark = pytest.mark.anyio

FAST = Retry(attempts=3, base=0.001, cap=0.002)


class Go(Command):
    x: int


class Went(Event, key="x"):
    x: int


def message(body: bytes = b'{"x": 1}', id: str = "m1", **headers: str) -> TransportMessage:
    return TransportMessage(id, "go", body, None, headers)


class Ear:
    """A listener's method, which a test can make fail."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.errors: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()

    async def __call__(self, message: object) -> None:
        self.heard.append(message)
        self.called.set()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)


async def until(condition: object) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(5.0):
        while not condition():  # type: ignore[operator]  # a function without arguments
            await asyncio.sleep(0.001)


@pytest.fixture
def transport() -> Memory:
    return Memory()


@pytest.fixture
def runtime(transport: Memory) -> Runtime:
    return Runtime(transports={"default": transport})


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def runner(runtime: Runtime, transport: Memory, ear: Ear) -> AsyncIterator[Runner]:
    listener = Listener("Ears.go", "go", Go.model_validate_json, ear, retry=FAST, concurrency=2)
    runner = Runner(runtime, transport, [listener], group="service")
    await runner.start()
    yield runner
    ear.gate.set()
    await runner.drain(1.0)


@pytest.mark.contract("BUS-100")
async def test_a_message_is_decoded_handled_and_acknowledged(runner: Runner, transport: Memory, ear: Ear) -> None:
    await transport.publish("go", [message()])
    await until(lambda: ear.heard == [Go(x=1)])
    await runner.drain(1.0)
    assert transport.parked == []
    assert ear.heard == [Go(x=1)]
    await transport.publish("go", [message(id="m2")])
    rest = transport.receive("go", group="service", prefetch=9)
    assert (await anext(rest)).message.id == "m2", "the first one is done"
    await rest.aclose()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.contract("BUS-101")
async def test_an_invalid_body_is_a_dead_letter_with_the_reason(runner: Runner, transport: Memory, ear: Ear) -> None:
    await transport.publish("go", [message(b'{"x": "no"}', "bad"), message(b"\xff", "worse"), message(id="good")])
    await until(lambda: ear.heard and len(transport.parked) == 2)
    assert [parked.message.id for parked in transport.parked] == ["bad", "worse"]
    assert "the body does not fit" in transport.parked[0].reason
    assert "x\n  Input should be a valid integer" in transport.parked[0].reason
    assert runner.ticking


@pytest.mark.contract("BUS-102")
async def test_a_transient_error_is_repeated_here(runner: Runner, transport: Memory, ear: Ear) -> None:
    ear.errors = [ConnectionError("down"), TimeoutError("slow")]
    await transport.publish("go", [message()])
    await until(lambda: len(ear.heard) == 3)
    await runner.drain(1.0)
    assert transport.parked == []


@pytest.mark.contract("BUS-102")
async def test_any_other_error_is_parked_and_the_listener_goes_on(runner: Runner, transport: Memory, ear: Ear) -> None:
    ear.errors = [LookupError("no such batch")]
    await transport.publish("go", [message(id="a")])
    await until(lambda: transport.parked)
    ear.errors = [Park("not wanted"), Discard("not needed")]
    await transport.publish("go", [message(id="b")])
    await until(lambda: len(transport.parked) == 2)
    await transport.publish("go", [message(id="c"), message(id="d")])
    await until(lambda: len(ear.heard) == 4)
    assert "LookupError: no such batch" in transport.parked[0].reason
    assert transport.parked[1].reason == "not wanted"
    assert len(transport.parked) == 2
    assert runner.ticking


@pytest.mark.contract("BUS-103")
async def test_a_listener_that_is_behind_stops_reading(runner: Runner, transport: Memory, ear: Ear) -> None:
    ear.gate.clear()
    await transport.publish("go", [message(id=str(n)) for n in range(10)])
    await until(lambda: len(ear.heard) == 2)
    await asyncio.sleep(0.01)
    assert len(ear.heard) == 2
    ear.gate.set()
    await until(lambda: len(ear.heard) == 10)


@pytest.mark.contract("BUS-104")
async def test_draining_finishes_what_runs_and_leaves_the_rest(
    runtime: Runtime, runner: Runner, transport: Memory, ear: Ear
) -> None:
    ear.gate.clear()
    await transport.publish("go", [message(id=str(n)) for n in range(5)])
    await until(lambda: len(ear.heard) == 2)
    asyncio.get_running_loop().call_later(0.01, ear.gate.set)
    await runner.drain(5.0)
    assert len(ear.heard) == 2
    rest = transport.receive("go", group="service", prefetch=9)
    left = [await anext(rest) for _ in range(3)]
    assert [(delivery.message.id, delivery.attempt) for delivery in left] == [("2", 1), ("3", 1), ("4", 1)]
    await rest.aclose()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.contract("BUS-104")
async def test_what_does_not_finish_in_time_is_released_without_counting_it(
    runner: Runner, transport: Memory, ear: Ear
) -> None:
    ear.gate.clear()
    await transport.publish("go", [message()])
    await until(lambda: ear.heard)
    await asyncio.wait_for(runner.drain(0.01), 10.0)
    rest = transport.receive("go", group="service", prefetch=9)
    assert (await anext(rest)).attempt == 1
    await rest.aclose()  # type: ignore[attr-defined]  # it is a generator


class Failing(Memory):
    """A broker that breaks down now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.breakdowns = 2

    async def start(self) -> None:
        if self.breakdowns == 2:
            self.breakdowns -= 1
            raise OSError("refused")

    async def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncIterator[MemoryDelivery]:
        async for delivery in super().receive(channel, group=group, prefetch=prefetch):
            yield delivery
            if self.breakdowns:
                self.breakdowns -= 1
                raise OSError("connection lost")


@pytest.mark.contract("BUS-105")
async def test_a_listener_survives_its_broker(ear: Ear) -> None:
    transport = Failing()
    runtime = Runtime(transports={"default": transport})
    runner = Runner(runtime, transport, [Listener("E.go", "go", Go.model_validate_json, ear)], group="g")
    await transport.publish("go", [message(id="a"), message(id="b")])
    await runner.start()
    await until(lambda: len(ear.heard) >= 2)
    assert runner.ticking
    await runner.drain(1.0)


@pytest.mark.contract("BUS-106")
async def test_what_a_listener_needs_is_checked_before_it_starts(runtime: Runtime) -> None:
    class Lonely(Memory):
        caps = Caps()

    class Grouped(Memory):
        caps = Caps(groups=True)

    listener = Listener("E.go", "go", Go.model_validate_json, Ear())
    with pytest.raises(CapabilityError, match=r"E\.go: the transport of channel 'go' cannot share messages"):
        Runner(runtime, Lonely(), [listener], group="g")
    with pytest.raises(CapabilityError, match="cannot reach every process"):
        loud = Listener("E.go", "go", Go.model_validate_json, Ear(), broadcast=True)
        Runner(runtime, Lonely(), [loud], group="g")
    Runner(runtime, Grouped(), [listener], group="g")
    with pytest.raises(CapabilityError, match="cannot reach every process"):
        Runner(runtime, Grouped(), [loud], group="g")


@pytest.mark.contract("BUS-107")
async def test_commands_of_a_listener_have_stable_ids_and_its_correlation(runtime: Runtime, transport: Memory) -> None:
    seen: list[tuple[str, str, str | None, str | None]] = []

    class Bus(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            envelope = current()
            seen.append((envelope.id, envelope.correlation_id, envelope.causation_id, envelope.traceparent))

    bus = Bus(runtime=runtime)
    runner = Runner(runtime, transport, [Listener("E.go", "go", Go.model_validate_json, bus.handle)], group="g")
    await runner.start()
    sent = message(id="m1", correlationid="c9", traceparent="00-t", time=datetime.now(UTC).isoformat())
    await transport.publish("go", [sent, sent])
    await until(lambda: len(seen) == 2)
    await runner.drain(1.0)
    assert seen[0] == seen[1]
    assert seen[0][1:] == ("c9", "m1", "00-t")


@pytest.mark.contract("BUS-107")
async def test_a_repeated_listener_makes_the_same_ids(runtime: Runtime, transport: Memory) -> None:
    seen: list[str] = []

    class Bus(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            seen.append(current().id)

    bus = Bus(runtime=runtime)

    async def twice(command: Go) -> None:
        await bus.handle(command)
        await bus.handle(command)
        if len(seen) < 4:
            raise ConnectionError

    runner = Runner(runtime, transport, [Listener("E.go", "go", Go.model_validate_json, twice, retry=FAST)], group="g")
    await runner.start()
    await transport.publish("go", [message()])
    await until(lambda: len(seen) == 4)
    await runner.drain(1.0)
    first, second = seen[:2]
    assert first != second
    assert seen == [first, second] * 2


@pytest.mark.contract("BUS-108")
async def test_every_listener_of_a_broadcast_hears_it(runtime: Runtime, transport: Memory) -> None:
    ears = [Ear(), Ear()]
    runners = [
        Runner(runtime, transport, [Listener("E.go", "go", Go.model_validate_json, ear, broadcast=True)], group="g")
        for ear in ears
    ]
    for runner in runners:
        await runner.start()
    await asyncio.sleep(0.01)
    await transport.publish("go", [message()])
    await until(lambda: all(ear.heard for ear in ears))
    for runner in runners:
        await runner.drain(1.0)


class Telling(MessageQueue):
    sender: TransportPublisher

    @command_handler
    async def go(self, command: Go) -> None:
        await self.sender.send("went", {"x": command.x, "on": date(2026, 1, 2)})
        if command.x < 0:
            raise ValueError("negative")
        self.register(Went(x=command.x))

    @event_handler
    async def went(self, event: Went) -> None:
        await self.sender.send("told", event.dict())


def telling(runtime: Runtime) -> Telling:
    queue = Telling(runtime=runtime)
    queue.sender = TransportPublisher(runtime)
    return queue


async def received(transport: Memory, channel: str, count: int) -> Sequence[TransportMessage]:
    source = transport.receive(channel, group="test", prefetch=99)
    async with asyncio.timeout(5.0):
        got = [(await anext(source)).message for _ in range(count)]
    await source.aclose()  # type: ignore[attr-defined]  # it is a generator
    return got


@pytest.mark.contract("BUS-110")
@pytest.mark.parametrize("durable", [False, True])
async def test_a_send_inside_a_handler_leaves_when_it_has_succeeded(transport: Memory, durable: bool) -> None:
    runtime = Runtime(transports={"default": transport}, journal=MemoryJournal() if durable else None)
    bus = telling(runtime)
    with pytest.raises(ValueError, match="negative"):
        await bus.handle(Go(x=-1))
    async with recording(bus) as rec:
        await bus.handle(Go(x=1))
        assert rec.published("went") == [{"x": 1, "on": "2026-01-02"}]
    (went,) = await received(transport, "went", 1)
    (told,) = await received(transport, "told", 1)
    assert went.body == b'{"x":1,"on":"2026-01-02"}'
    assert told.headers["correlationid"] == went.headers["correlationid"]
    assert told.key == "1", "a send takes over the key of the message being handled"
    assert (went.id, told.id) != (told.id, went.id)


@pytest.mark.contract("BUS-111")
async def test_a_send_is_repeated_until_the_broker_takes_it(transport: Memory) -> None:
    class Down(Memory):
        failures = 2

        async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("the broker says no")
            await super().publish(channel, messages)

    down = Down()
    bus = telling(Runtime(transports={"default": down}))
    async with recording(bus) as rec:
        await bus.handle(Go(x=1))
        await rec.settled()
    assert len(await received(down, "went", 1)) == 1
    assert len(await received(down, "told", 1)) == 1
    assert await bus.dead_letters.list() == []


@pytest.mark.contract("BUS-112")
async def test_a_send_outside_goes_to_the_broker_at_once(runtime: Runtime, transport: Memory) -> None:
    await TransportPublisher(runtime).send("went", {"x": 1}, key="k")
    (sent,) = await received(transport, "went", 1)
    assert (sent.body, sent.key) == (b'{"x":1}', "k")


@pytest.mark.contract("BUS-112")
async def test_an_unknown_transport_is_told_with_the_nearest(runtime: Runtime) -> None:
    with pytest.raises(CapabilityError, match="no transport 'defualt': did you mean 'default'"):
        await TransportPublisher(runtime, transport="defualt").send("went", {})


@pytest.mark.contract("BUS-113")
async def test_sends_that_are_left_over_are_recovered(transport: Memory) -> None:
    journal = MemoryJournal()
    dead = telling(
        Runtime(
            transports={"default": transport}, journal=journal, limits=Limits(lease=0, inline_budget=-1, concurrency=0)
        )
    )
    await dead.handle(Go(x=1))
    runtime = Runtime(transports={"default": transport}, journal=journal)
    survivor = telling(runtime)
    runtime.attach(survivor)
    await runtime.start()
    assert len(await received(transport, "went", 1)) == 1
    assert len(await received(transport, "told", 1)) == 1
    await runtime.drain(1.0)

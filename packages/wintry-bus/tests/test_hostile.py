"""Handlers, bodies and rows that do what they should not: nobody else is to suffer from it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator

import pytest

from wintry.bus import (
    Command,
    Envelope,
    Event,
    Limits,
    MessageQueue,
    Retry,
    Runtime,
    command_handler,
    event_handler,
    upcast,
)
from wintry.bus.journal import MemoryJournal, Row
from wintry.bus.middleware import CallNext
from wintry.bus.transports import Listener, Memory, Runner, TransportMessage

pytestmark = pytest.mark.anyio

LIMITS = Limits(lease=5.0, poll_min=0.002, poll_max=0.01)


class Go(Command):
    count: int = 1


class Went(Event):
    number: int = 0


class Old(Event, version=2):
    number: int


@upcast(Old, from_version=1)
def lift(body: dict[str, int]) -> dict[str, int]:
    return {"number": body["no_such_field"]}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5.0):
        while not condition():
            await asyncio.sleep(0.001)


class Cancels(MessageQueue):
    """Its first handler raises CancelledError, though nobody has cancelled it."""

    ran = 0
    told = 0

    @command_handler
    async def go(self, command: Go) -> str:
        self.register(Went())
        return "done"

    @event_handler
    async def awaits_what_is_cancelled(self, event: Went) -> None:
        self.ran += 1
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    @event_handler
    async def tell(self, event: Went) -> None:
        self.told += 1


@pytest.mark.contract("BUS-089")
async def test_a_handler_that_raises_cancelled_error_by_itself_has_failed() -> None:
    bus = Cancels(runtime=(runtime := Runtime(limits=LIMITS)))
    assert await bus.handle(Go()) == "done"
    (letter,) = await runtime.dead_letters.list()
    assert "CancelledError" in letter.error
    assert (bus.ran, bus.told) == (1, 1)


@pytest.mark.contract("BUS-089")
async def test_a_listener_that_raises_cancelled_error_by_itself_has_failed() -> None:
    ran = 0

    async def handle(_: object) -> None:
        nonlocal ran
        ran += 1
        raise asyncio.CancelledError

    transport = Memory()
    runner = Runner(Runtime(), transport, [Listener("E.go", "go", bytes, handle)], group="g")
    await runner.start()
    await transport.publish("go", [TransportMessage("m", "go", b"1")])
    await until(lambda: transport.parked)
    await runner.drain(1.0)
    assert ran == 1
    assert "CancelledError" in transport.parked[0].reason


class Swallows(MessageQueue):
    @command_handler
    async def go(self, command: Go) -> None:
        self.register(Went())

    @event_handler(timeout=0.02)
    async def hears_nothing(self, event: Went) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass  # what a handler should not do

    @event_handler(timeout=0.02, retry=Retry(attempts=1))
    async def too_slow(self, event: Went) -> None:
        await asyncio.Event().wait()


@pytest.mark.contract("BUS-081")
async def test_a_handler_that_swallows_its_timeout_leaves_nothing_to_the_next_one() -> None:
    bus = Swallows(runtime=(runtime := Runtime(limits=LIMITS)))
    await bus.handle(Go())
    (letter,) = await runtime.dead_letters.list()
    assert "HandlerTimeout" in letter.error
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


class Stumbles(MessageQueue):
    """Waits too long, and fails otherwise when it is repeated."""

    tries = 0

    @command_handler(timeout=0.02, retry=Retry(attempts=2, base=0.0))
    async def go(self, command: Go) -> None:
        self.tries += 1
        if self.tries == 1:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        raise LookupError("the second attempt's own")


@pytest.mark.contract("BUS-402")
async def test_the_timeout_of_one_attempt_is_not_that_of_the_next() -> None:
    bus = Stumbles()
    with pytest.raises(LookupError, match="the second attempt's own"):
        await bus.handle(Go())
    assert bus.tries == 2


class Tidies(MessageQueue):
    """Waits, and has something to do when it is cancelled."""

    def __init__(self, *waits: asyncio.Event, runtime: Runtime | None = None) -> None:
        super().__init__(runtime=runtime)
        self.waits = waits
        self.begun = asyncio.Event()
        self.log: list[str] = []

    @command_handler
    async def go(self, command: Go) -> str:
        self.begun.set()
        try:
            for event in self.waits:
                await event.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.log.append("tidied")
            raise
        finally:
            self.log.append("left")
        return "done"


@pytest.mark.contract("BUS-400")
@pytest.mark.parametrize("open_ones", [0, 1])
async def test_a_cancelled_caller_lets_the_handler_tidy_up_wherever_it_waits(open_ones: int) -> None:
    waits = [asyncio.Event() for _ in range(open_ones + 1)]
    bus = Tidies(*waits)
    task = asyncio.ensure_future(bus.handle(Go()))
    await bus.begun.wait()
    for event in waits[:open_ones]:
        event.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bus.log == ["tidied", "left"]


class Holds(MessageQueue):
    """Goes on although it was cancelled at its first wait."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    @command_handler
    async def go(self, command: Go) -> str:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "had it anyway"
        return "never"


@pytest.mark.contract("BUS-400")
async def test_what_a_handler_returns_after_a_cancellation_is_its_result() -> None:
    bus = Holds()
    task = asyncio.ensure_future(bus.handle(Go()))
    await bus.begun.wait()
    task.cancel()
    assert await task == "had it anyway"


@pytest.mark.contract("BUS-401")
async def test_a_middleware_gives_whatever_can_be_awaited() -> None:
    class Awaited:
        def __init__(self, work: Awaitable[object]) -> None:
            self.work = work

        def __await__(self) -> Generator[object, None, object]:
            return self.work.__await__()

    def layer(envelope: Envelope, call_next: CallNext) -> Awaitable[object]:
        return Awaited(call_next(envelope))

    async def inner() -> None:
        waits.set()

    waits = asyncio.Event()
    bus = Tidies(waits, runtime=Runtime(middleware=[layer]))
    result, _ = await asyncio.gather(bus.handle(Go()), inner())
    assert result == "done"


class Reads(MessageQueue):
    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime=runtime)
        self.seen: list[int] = []

    @event_handler
    async def old(self, event: Old) -> None:
        self.seen.append(event.number)


@pytest.mark.contract("BUS-004")
async def test_an_upcast_that_fails_parks_its_row_and_no_other() -> None:
    runtime = Runtime(journal=(journal := MemoryJournal(keep_done=True)), limits=LIMITS)
    bus = Reads(runtime)
    runtime.attach(bus)
    rows = [
        Row(id=str(n), target="Reads.old", type="Old", version=version, body=b'{"number": 7}', correlation_id="c")
        for n, version in enumerate((1, 2))
    ]
    await journal.append(rows, owner="dead", lease=0.0)
    await runtime.start()
    await until(lambda: bus.seen)
    (letter,) = await runtime.dead_letters.list()
    await runtime.drain(1.0)
    assert bus.seen == [7]
    assert "no_such_field" in letter.error


@pytest.mark.contract("BUS-078")
async def test_many_redriven_messages_of_a_listener_do_not_wait_for_each_other() -> None:
    class Bus(MessageQueue):
        told = 0

        @command_handler
        async def go(self, command: Go) -> None:
            for number in range(4):
                self.register(Went(number=number))

        @event_handler(background=True)
        async def tell(self, event: Went) -> None:
            self.told += 1

    limits = Limits(lease=5.0, poll_min=0.002, poll_max=0.01, concurrency=2, backlog=2)
    runtime = Runtime(journal=(journal := MemoryJournal(keep_done=True)), limits=limits)
    bus = Bus(runtime=runtime)

    def decode(body: bytes) -> Go:
        return Go()

    Runner(runtime, Memory(), [Listener("E.go", "go", decode, bus.handle)], group="g")
    await journal.bury(
        [Row(id=str(n), target="E.go", type="go", version=1, body=b"", correlation_id="c") for n in range(9)]
    )
    await runtime.start()
    await runtime.dead_letters.redrive(range(1, 10))
    await until(lambda: bus.told == 36)
    await runtime.drain(1.0)


@pytest.mark.contract("BUS-084")
async def test_a_handler_that_cannot_be_stopped_does_not_keep_the_process(caplog: pytest.LogCaptureFixture) -> None:
    let_go = False

    class Bus(MessageQueue):
        began = 0

        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went())

        @event_handler(background=True)
        async def tell(self, event: Went) -> None:
            self.began += 1
            while not let_go:
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    pass  # what a handler should not do

    bus = Bus(runtime=(runtime := Runtime(limits=LIMITS)))
    await bus.handle(Go())
    await until(lambda: bus.began)
    try:
        async with asyncio.timeout(4):
            await runtime.drain(0.01)
    finally:
        let_go = True
    assert "do not end" in caplog.text
    await until(lambda: not runtime.dispatcher.busy)

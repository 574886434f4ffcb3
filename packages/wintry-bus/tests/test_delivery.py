"""Deliveries: order, retries, dead letters, the background, draining; in memory and with a journal."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from wintry.bus import (
    Command,
    DeadLetter,
    Discard,
    Event,
    HandlerTimeout,
    Limits,
    MessageQueue,
    Park,
    Retry,
    Runtime,
    UnknownDeadLetter,
    command_handler,
    current,
    event_handler,
)
from wintry.bus.journal import Known, MemoryJournal
from wintry.bus.testing import recording

pytestmark = pytest.mark.anyio

FAST = Retry(attempts=3, base=0.001, cap=0.002)
LIMITS = Limits(lease=5.0, poll_min=0.002, poll_max=0.01)


class Go(Command):
    names: tuple[str, ...] = ("a",)
    key: str = "k"


class Went(Event, key="key"):
    name: str
    key: str


class Flaky(Exception):
    retryable = True


@pytest.fixture(params=["memory", "journal"])
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[Runtime]:
    """A runtime without a journal, and one with."""
    journal = MemoryJournal(keep_done=True) if request.param == "journal" else None
    runtime = Runtime(journal=journal, limits=LIMITS)
    await runtime.start()
    yield runtime
    await runtime.drain(1.0)


class Bus(MessageQueue):
    """Does in `on_went` what the test says, and notes what it did."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime=runtime)
        self.log: list[str] = []
        self.acts: dict[str, Callable[[], object]] = {}

    async def act(self, name: str) -> None:
        self.log.append(name)
        act = self.acts.get(name)
        result = None if act is None else act()
        if asyncio.isfuture(result) or asyncio.iscoroutine(result):
            await result


class Steps(Bus):
    @command_handler
    async def go(self, command: Go) -> None:
        for name in command.names:
            self.register(Went(name=name, key=command.key))

    @event_handler(retry=FAST)
    async def went(self, event: Went) -> None:
        await self.act(event.name)


def fail(times: int, error: Exception) -> Callable[[], None]:
    left = [times]

    def act() -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return act


@pytest.mark.contract("BUS-070")
async def test_a_transient_failure_is_repeated_until_it_passes(runtime: Runtime) -> None:
    bus = Steps(runtime)
    bus.acts["a"] = fail(2, Flaky("not yet"))
    async with recording(bus) as rec:
        await bus.handle(Go())
        await rec.settled()
    assert bus.log == ["a", "a", "a"]
    assert await bus.dead_letters.list() == []


@pytest.mark.contract("BUS-070")
async def test_a_repeated_handler_makes_the_same_ids(runtime: Runtime) -> None:
    seen: list[tuple[str, int]] = []

    class Ids(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a", key="k"))

        @event_handler(retry=FAST)
        async def went(self, event: Went) -> None:
            seen.append((current().id, current().attempt))
            if len(seen) < 3:
                raise ConnectionError

    bus = Ids(runtime=runtime)
    async with recording(bus) as rec:
        await bus.handle(Go())
        await rec.settled()
    assert len({id for id, _ in seen}) == 1
    assert [attempt for _, attempt in seen] == [1, 2, 3]


@pytest.mark.contract("BUS-070")
async def test_nothing_that_a_failed_attempt_registered_is_delivered(runtime: Runtime) -> None:
    class Chained(Bus):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a", key="k"))

        @event_handler(retry=FAST)
        async def went(self, event: Went) -> None:
            self.log.append(event.name)
            if event.name == "a":
                self.register(Went(name=f"b{len(self.log)}", key="k"))
                if len(self.log) < 3:
                    raise Flaky

    bus = Chained(runtime)
    async with recording(bus) as rec:
        await bus.handle(Go())
        await rec.settled()
    assert bus.log == ["a", "a", "a", "b3"]


@pytest.mark.contract("BUS-071")
async def test_a_domain_error_is_parked_at_once_with_its_traceback(runtime: Runtime) -> None:
    bus = Steps(runtime)
    bus.acts["a"] = fail(1, ValueError("broken"))
    async with recording(bus) as rec:
        await bus.handle(Go())
        await rec.settled()
    assert bus.log == ["a"]
    (letter,) = await bus.dead_letters.list()
    assert isinstance(letter, DeadLetter)
    assert (letter.target, letter.type, letter.version, letter.attempts) == ("Steps.went", "Went", 1, 1)
    assert letter.body == b'{"name":"a","key":"k"}'
    assert "Traceback" in letter.error
    assert "ValueError: broken" in letter.error
    assert await bus.dead_letters.show(letter.number) == letter
    assert [(message, handler) for message, handler, _ in rec.failed] == [(Went(name="a", key="k"), "Steps.went")]


@pytest.mark.contract("BUS-071")
async def test_a_delivery_is_parked_when_its_attempts_are_used_up(runtime: Runtime) -> None:
    bus = Steps(runtime)
    bus.acts["a"] = fail(99, Flaky("never"))
    async with recording(bus) as rec:
        await bus.handle(Go())
        await rec.settled()
    assert bus.log == ["a"] * 3
    (letter,) = await bus.dead_letters.list()
    assert letter.attempts == 3


@pytest.mark.contract("BUS-072")
async def test_park_gives_the_reason_and_discard_leaves_nothing(runtime: Runtime) -> None:
    bus = Steps(runtime)
    bus.acts["a"] = fail(1, Park("an unknown batch"))
    bus.acts["b"] = fail(1, Discard("not for us"))
    async with recording(bus) as rec:
        await bus.handle(Go(names=("a", "b", "c")))
        await rec.settled()
    assert bus.log == ["a", "b", "c"]
    (letter,) = await bus.dead_letters.list()
    assert letter.error == "an unknown batch"


@pytest.mark.contract("BUS-073")
async def test_a_failed_registered_command_is_parked(runtime: Runtime) -> None:
    class Chain(MessageQueue):
        @event_handler
        async def went(self, event: Went) -> None: ...

        @command_handler
        async def go(self, command: Go) -> None:
            if command.names:
                self.register(Go(names=()))
            else:
                raise LookupError("nothing to do")

    bus = Chain(runtime=runtime)
    async with recording(bus) as rec:
        await bus.handle(Go())
        await rec.settled()
    (letter,) = await bus.dead_letters.list()
    assert letter.target == "Chain.go"
    assert "nothing to do" in letter.error


@pytest.mark.contract("BUS-074")
async def test_dead_letters_are_redriven_and_discarded(runtime: Runtime) -> None:
    bus = Steps(runtime)
    bus.acts["a"] = fail(1, ValueError("broken"))
    bus.acts["b"] = fail(1, ValueError("broken"))
    async with recording(bus) as rec:
        await bus.handle(Go(names=("a", "b")))
        await rec.settled()
        first, second = await bus.dead_letters.list(type="Went", since=datetime.now(UTC) - timedelta(minutes=1))
        assert await bus.dead_letters.redrive([first.number]) == 1
        await rec.settled()
        assert bus.log == ["a", "b", "a"]
        assert await bus.dead_letters.discard([second.number]) == 1
    assert bus.log == ["a", "b", "a"]
    assert await bus.dead_letters.list() == []
    with pytest.raises(UnknownDeadLetter):
        await bus.dead_letters.show(second.number)


@pytest.mark.contract("BUS-075")
async def test_events_of_one_key_wait_for_the_one_that_is_repeated(runtime: Runtime) -> None:
    bus = Steps(runtime)
    bus.acts["a"] = fail(2, Flaky("not yet"))
    async with recording(bus) as rec:
        await bus.handle(Go(names=("a", "b")))
        await bus.handle(Go(names=("c",)))
        await bus.handle(Go(names=("x",), key="other"))
        await rec.settled()
    assert [name for name in bus.log if name != "x"] == ["a", "a", "a", "b", "c"]


@pytest.mark.contract("BUS-075")
async def test_events_of_one_key_never_overlap_and_keep_the_order_of_commits(runtime: Runtime) -> None:
    running: dict[str, int] = {}
    done: dict[str, list[int]] = {}

    class Step(Event, key="key"):
        key: str
        number: int

    class Next(Command):
        key: str

    class Ordered(MessageQueue):
        counts: ClassVar[dict[str, int]] = {}

        @command_handler
        async def next(self, command: Next) -> None:
            number = self.counts[command.key] = self.counts.get(command.key, 0) + 1
            self.register(Step(key=command.key, number=number))

        @event_handler
        async def step(self, event: Step) -> None:
            assert not running.get(event.key)
            running[event.key] = 1
            await asyncio.sleep(0.001 if event.number % 3 else 0)
            running[event.key] = 0
            done.setdefault(event.key, []).append(event.number)

        @event_handler(background=True)
        async def also(self, event: Step) -> None:
            assert not running.get(event.key)

    bus = Ordered(runtime=runtime)
    async with recording(bus) as rec:
        await asyncio.gather(*(bus.handle(Next(key=f"k{n % 4}")) for n in range(80)))
        await rec.settled()
        assert rec.failed == []
    assert done == {f"k{n}": list(range(1, 21)) for n in range(4)}


@pytest.mark.contract("BUS-076")
async def test_a_lane_goes_on_behind_a_parked_delivery_and_waits_behind_a_held_one(runtime: Runtime) -> None:
    class Held(Bus):
        @command_handler
        async def go(self, command: Go) -> None:
            for name in command.names:
                self.register(Went(name=name, key=command.key))

        @event_handler(on_exhausted="hold")
        async def went(self, event: Went) -> None:
            await self.act(event.name)

    parking, holding = Steps(runtime), Held(runtime)
    for bus in (parking, holding):
        bus.acts["a"] = fail(1, ValueError("broken"))
        await bus.handle(Go(names=("a", "b")))
    async with recording(parking) as rec:
        await asyncio.sleep(0.02)
        assert parking.log == ["a", "b"]
        assert holding.log == ["a"]
        (letter,) = [each for each in await holding.dead_letters.list() if each.held]
        await holding.dead_letters.redrive([letter.number])
        await rec.settled()
    assert holding.log == ["a", "a", "b"]


@pytest.mark.contract("BUS-077")
async def test_the_caller_does_not_wait_for_the_background(runtime: Runtime) -> None:
    gate = asyncio.Event()

    class Later(Bus):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a", key="k"))

        @event_handler(background=True)
        async def went(self, event: Went) -> None:
            await gate.wait()
            self.log.append(event.name)

    bus = Later(runtime)
    async with recording(bus) as rec:
        await asyncio.wait_for(bus.handle(Go()), 5.0)
        assert bus.log == []
        gate.set()
        await rec.settled()
    assert bus.log == ["a"]


@pytest.mark.contract("BUS-078")
async def test_what_is_over_budget_goes_to_the_background() -> None:
    runtime = Runtime(limits=Limits(inline_budget=0.0))
    bus = Steps(runtime)
    gate = asyncio.Event()
    bus.acts["b"] = gate.wait
    async with recording(bus) as rec:
        await asyncio.wait_for(bus.handle(Go(names=("a", "b"))), 10.0)
        gate.set()
        await rec.settled()
    assert bus.log == ["a", "b"]


@pytest.mark.contract("BUS-078")
async def test_handle_waits_when_the_background_is_full() -> None:
    gate = asyncio.Event()

    class Keyless(Event):
        pass

    class Full(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            for _ in range(4):
                self.register(Keyless())

        @event_handler(background=True)
        async def on(self, event: Keyless) -> None:
            await gate.wait()

    bus = Full(runtime=Runtime(limits=Limits(concurrency=1, backlog=2)))
    async with recording(bus) as rec:
        handling = asyncio.ensure_future(bus.handle(Go()))
        done, _ = await asyncio.wait([handling], timeout=0.05)
        assert not done
        gate.set()
        await asyncio.wait_for(handling, 10.0)
        await rec.settled()
    assert len(rec.handled) == 5


@pytest.mark.contract("BUS-078")
@pytest.mark.parametrize("cancelled", [False, True], ids=["all wait", "some give up"])
async def test_of_many_who_wait_for_the_background_each_goes_on(cancelled: bool) -> None:
    gate = asyncio.Event()

    class Keyless(Event):
        pass

    class Full(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Keyless())

        @event_handler(background=True)
        async def on(self, event: Keyless) -> None:
            await gate.wait()

    bus = Full(runtime=Runtime(limits=Limits(concurrency=1, backlog=2)))
    async with recording(bus) as rec:
        handling = [asyncio.ensure_future(bus.handle(Go())) for _ in range(30)]
        await asyncio.wait(handling, timeout=0.05)
        assert len([task for task in handling if not task.done()]) == 27
        gate.set()
        if cancelled:
            for task in handling[5::2]:
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*handling, return_exceptions=True), 10.0)
        await rec.settled()


@pytest.mark.contract("BUS-078")
async def test_room_that_a_failing_lane_leaves_lets_others_go_on() -> None:
    gate = asyncio.Event()

    class Keyed(Event, key="name"):
        name: str = "a"

    class Full(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Keyed())

        @event_handler(retry=Retry(attempts=5, base=60.0, cap=60.0))  # in the caller's task, so that no worker ends
        async def on(self, event: Keyed) -> None:
            await gate.wait()
            raise OSError

    bus = Full(runtime=Runtime(limits=Limits(concurrency=1, backlog=2)))
    handling = [asyncio.ensure_future(bus.handle(Go())) for _ in range(8)]
    await asyncio.wait(handling, timeout=0.05)
    assert not all(task.done() for task in handling)
    gate.set()
    await asyncio.wait_for(asyncio.gather(*handling), 10.0)
    await bus.drain(0.0)


@pytest.mark.contract("BUS-079")
async def test_a_delayed_message_comes_at_its_time(runtime: Runtime) -> None:
    class Delaying(Bus):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="late", key="k"), delay=0.05)
            self.register(Went(name="at", key="x"), at=datetime.now(UTC) + timedelta(seconds=0.03))
            self.register(Went(name="now", key="y"))

        @event_handler
        async def went(self, event: Went) -> None:
            after[event.name] = clock() - begun
            await self.act(event.name)

    after: dict[str, float] = {}
    clock = asyncio.get_running_loop().time
    bus = Delaying(runtime)
    async with recording(bus) as rec:
        begun = clock()
        await bus.handle(Go())
        assert "now" in bus.log
        await rec.settled()
    assert sorted(bus.log) == ["at", "late", "now"]
    assert after["late"] > 0.049  # clocks may differ by a little
    assert after["at"] > 0.029


@pytest.mark.contract("BUS-079")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": 1.0, "at": datetime(2030, 1, 1, tzinfo=UTC)}, "not both"),
        ({"at": datetime(2030, 1, 1)}, "no time zone"),
    ],
)
async def test_a_delay_that_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    class Odd(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a", key="k"), **options)  # type: ignore[arg-type]  # that is what the test is about

    with pytest.raises(ValueError, match=message):
        await Odd().handle(Go())


@pytest.mark.contract("BUS-080")
async def test_a_command_is_repeated_while_its_error_is_transient() -> None:
    class Trying(MessageQueue):
        tries = 0

        @command_handler
        async def go(self, command: Go) -> int:
            self.tries += 1
            self.register(Went(name=str(self.tries), key="k"))
            if self.tries < 4:
                raise Flaky
            return self.tries

    bus = Trying()
    async with recording(bus) as rec:
        assert await bus.handle(Go()) == 4
    assert [event.name for event in rec.of(Went)] == ["4"], "what failed attempts registered is dropped"


@pytest.mark.contract("BUS-080")
async def test_a_command_whose_retries_are_used_up_raises_the_last_error_itself() -> None:
    class Trying(MessageQueue):
        tries = 0

        @command_handler(retry=FAST)
        async def go(self, command: Go) -> None:
            self.tries += 1
            raise Flaky(str(self.tries))

    with pytest.raises(Flaky, match="3"):
        await Trying().handle(Go())


@pytest.mark.contract("BUS-081")
async def test_a_handler_that_takes_too_long_is_cancelled_and_transient(runtime: Runtime) -> None:
    class Slow(Bus):
        @command_handler(timeout=0.02, retry=Retry(attempts=1))
        async def go(self, command: Go) -> None:
            if not command.names:
                await asyncio.sleep(10)
            self.register(Went(name="a", key="k"))

        @event_handler(timeout=0.02, retry=FAST)
        async def went(self, event: Went) -> None:
            self.log.append("went")
            if len(self.log) == 1:
                await asyncio.sleep(10)

    bus = Slow(runtime)
    with pytest.raises(HandlerTimeout, match=r"Slow\.go ran longer than 0\.02 s"):
        await bus.handle(Go(names=()))
    async with recording(bus) as rec:
        await bus.handle(Go())
        await rec.settled()
    assert bus.log == ["went", "went"]


@pytest.mark.contract("BUS-082")
async def test_a_cancelled_caller_leaves_the_rest_to_the_background(runtime: Runtime) -> None:
    bus = Steps(runtime)
    started, gate = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        await gate.wait()

    bus.acts["a"] = wait
    async with recording(bus) as rec:
        task = asyncio.ensure_future(bus.handle(Go(names=("a", "b"))))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        await rec.settled()
    assert bus.log == ["a", "a", "b"]


@pytest.mark.contract("BUS-083")
async def test_every_delivery_has_a_scope_of_its_own() -> None:
    opened: list[object] = []

    class Scope:
        async def get(self, key: type[MessageQueue]) -> MessageQueue:
            opened.append((self, key))
            return key(runtime=runtime)

    @asynccontextmanager
    async def open_scope() -> AsyncIterator[Scope]:
        yield Scope()

    runtime = Runtime(open_scope=open_scope)  # type: ignore[arg-type]  # it knows queues only

    class Scoped(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a", key="k"))
            self.register(Went(name="b", key="k"))

        @event_handler
        async def went(self, event: Went) -> None:
            assert self is not first

    first = Scoped(runtime=runtime)
    async with recording(first) as rec:
        await first.handle(Go())
        await rec.settled()
        assert rec.failed == []
    assert len({id(scope) for scope, _ in opened}) == 2  # type: ignore[attr-defined, misc]  # pairs
    assert [key for _, key in opened] == [Scoped, Scoped]  # type: ignore[attr-defined, misc]


@pytest.mark.contract("BUS-084")
async def test_draining_finishes_what_runs(runtime: Runtime) -> None:
    gate = asyncio.Event()

    class Working(Bus):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a", key="k"))

        @event_handler(background=True)
        async def went(self, event: Went) -> None:
            await gate.wait()
            self.log.append("a")

    bus = Working(runtime)
    await bus.handle(Go())
    asyncio.get_running_loop().call_later(0.01, gate.set)
    await bus.drain(5.0)
    assert bus.log == ["a"]


class Stuck(MessageQueue):
    """Its event handlers wait for ever."""

    @command_handler
    async def go(self, command: Go) -> None:
        for name in command.names:
            self.register(Went(name=name, key=name))

    @event_handler(background=True)
    async def went(self, event: Went) -> None:
        await asyncio.Event().wait()


@pytest.mark.contract("BUS-084")
async def test_draining_gives_back_what_has_not_begun_without_counting_it() -> None:
    journal = MemoryJournal()
    bus = Stuck(runtime=Runtime(journal=journal, limits=Limits(concurrency=1)))
    await bus.handle(Go(names=("a", "b", "c")))
    await asyncio.sleep(0)
    await asyncio.wait_for(bus.drain(0.01), 10.0)
    rows = await journal.claim(limit=9, owner="next", lease=9.0, known=Known({"Stuck.went": 1}))
    assert [row.attempts for row in rows] == [1, 1, 1]


@pytest.mark.contract("BUS-084")
async def test_draining_may_be_asked_for_again() -> None:
    bus = Stuck(runtime=Runtime(limits=Limits(concurrency=1)))
    await bus.handle(Go(names=("a", "b", "c")))
    for _ in range(2):
        await asyncio.wait_for(bus.drain(0.01), 10.0)


@pytest.mark.contract("BUS-085")
async def test_health_tells_what_waits_and_what_is_parked(runtime: Runtime) -> None:
    bus = Steps(runtime)
    health = await bus.health()
    assert (health.ok, health.pending, health.parked, health.oldest) == (True, 0, 0, None)
    bus.acts["a"] = fail(1, ValueError("broken"))
    await bus.handle(Go())
    assert (await bus.health()).parked == 1


@pytest.mark.contract("BUS-086")
async def test_another_process_delivers_what_a_dead_one_left() -> None:
    journal = MemoryJournal()

    class Left(Bus):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a", key="k"))
            self.register(Went(name="b", key="k"))

        @event_handler(background=True)
        async def went(self, event: Went) -> None:
            self.log.append(event.name)

    dead = Runtime(journal=journal, limits=Limits(lease=0.0, concurrency=0))  # it stores and never delivers
    await Left(dead).handle(Go())
    runtime = Runtime(journal=journal, limits=LIMITS)
    survivor = Left(runtime)
    runtime.attach(survivor)
    async with recording(survivor) as rec:
        await runtime.start()
        await rec.settled()
        await runtime.drain(1.0)
    assert survivor.log == ["a", "b"]


@pytest.mark.contract("BUS-702")
@pytest.mark.parametrize(("ended", "runs"), [(2, 1), (3, 0)])
async def test_what_ends_every_process_that_begins_it_is_parked(ended: int, runs: int) -> None:
    journal = MemoryJournal()

    class Deadly(Bus):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a", key="k"))

        @event_handler(background=True, retry=FAST)
        async def went(self, event: Went) -> None:
            self.log.append(event.name)

    dead = Runtime(journal=journal, limits=Limits(lease=0.0, concurrency=0))
    await Deadly(dead).handle(Go())
    for number in range(1, ended):  # the first is counted by the one that stored it
        claimed = await journal.claim(limit=1, owner=f"dead {number}", lease=0.0, known=Known({"Deadly.went": 1}))
        assert [row.attempts for row in claimed] == [number + 1]
    runtime = Runtime(journal=journal, limits=LIMITS)
    survivor = Deadly(runtime)
    runtime.attach(survivor)
    async with recording(survivor) as rec:
        await runtime.start()
        await rec.settled()
        await runtime.drain(1.0)

    assert survivor.log == ["a"] * runs
    letters = await survivor.dead_letters.list()
    assert [letter.error.partition(":")[0] for letter in letters] == (
        [] if runs else ["3 attempts were begun and none came to its end"]
    )


@pytest.mark.contract("BUS-087")
async def test_leases_are_renewed_while_a_handler_runs() -> None:
    journal = MemoryJournal()
    here = Runtime(journal=journal, limits=Limits(lease=0.06, poll_min=0.01, poll_max=0.01))
    there = Runtime(journal=journal, limits=Limits(lease=0.06, poll_min=0.01, poll_max=0.01))
    gate, ran = asyncio.Event(), []

    class Long(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a", key="k"))

        @event_handler(background=True)
        async def went(self, event: Went) -> None:
            ran.append(self.runtime.owner)
            await gate.wait()

    bus, other = Long(runtime=here), Long(runtime=there)
    there.attach(other)
    await here.start()
    await there.start()
    async with recording(bus) as rec:
        await bus.handle(Go())
        await asyncio.sleep(0.2)
        gate.set()
        await rec.settled()
    await here.drain(1.0)
    await there.drain(1.0)
    assert ran == [here.owner]


@pytest.mark.contract("BUS-080")
async def test_the_time_of_the_first_attempt_counts() -> None:
    class Slow(MessageQueue):
        tries = 0

        @command_handler(retry=Retry(attempts=None, base=0.0, within=0.02))
        async def go(self, command: Go) -> None:
            self.tries += 1
            await asyncio.sleep(0.03)
            raise Flaky

    bus = Slow()
    with pytest.raises(Flaky):
        await bus.handle(Go())
    assert bus.tries == 1


@pytest.mark.contract("BUS-082")
async def test_what_a_cancelled_delivery_had_made_ready_is_delivered(runtime: Runtime) -> None:
    class Deep(Bus):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(name="a" if command.names else "b", key=command.key))

        @event_handler
        async def went(self, event: Went) -> None:
            await self.act(event.name)

    bus = Deep(runtime)
    inside, gate = asyncio.Event(), asyncio.Event()

    async def nested() -> None:
        if not inside.is_set():
            await bus.handle(Go(names=(), key="other"))
            inside.set()
            await gate.wait()

    bus.acts["a"] = nested
    async with recording(bus) as rec:
        task = asyncio.ensure_future(bus.handle(Go()))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        await rec.settled()
    assert sorted(bus.log) == ["a", "a", "b"]


@pytest.mark.contract("BUS-084")
async def test_draining_frees_a_caller_that_waits_for_room() -> None:
    gate = asyncio.Event()

    class Full(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            for number in range(9):
                self.register(Went(name=str(number), key=str(number)))

        @event_handler(background=True)
        async def on(self, event: Went) -> None:
            await gate.wait()

    bus = Full(runtime=Runtime(journal=MemoryJournal(), limits=Limits(concurrency=1, backlog=2)))
    handling = asyncio.ensure_future(bus.handle(Go()))
    await asyncio.wait([handling], timeout=0.02)
    assert not handling.done()
    await asyncio.wait_for(bus.drain(0.01), 10.0)
    await asyncio.wait_for(handling, 10.0)

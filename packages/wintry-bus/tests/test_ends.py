"""Where a call or a process ends early: nothing is lost, begun again or begun at all that should not be."""

import asyncio

import pytest

from wintry.bus import Command, Event, Limits, MessageQueue, Retry, Runtime, command_handler, event_handler
from wintry.bus.call import running
from wintry.bus.testing import recording

pytestmark = pytest.mark.anyio


class Go(Command):
    pass


class Then(Command):
    pass


class Went(Event):
    n: int = 0


class Kept(Event, key="key"):
    name: str
    key: str = "k"


class Flaky(Exception):
    retryable = True


@pytest.mark.contract("BUS-084")
async def test_nothing_begins_when_the_time_for_draining_is_over() -> None:
    began: list[int] = []

    class Bus(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            for n in range(6):
                self.register(Went(n=n))

        @event_handler(background=True)
        async def went(self, event: Went) -> None:
            began.append(event.n)
            await asyncio.Event().wait()

    runtime = Runtime(limits=Limits(concurrency=2))
    bus = Bus(runtime=runtime)
    before = asyncio.all_tasks()
    await bus.handle(Go())
    await bus.drain(0.02)
    assert began == [0, 1]
    assert asyncio.all_tasks() == before


@pytest.mark.contract("BUS-082")
async def test_a_caller_cancelled_behind_the_commit_of_a_later_attempt_loses_nothing() -> None:
    tries: list[int] = []
    committed = asyncio.Event()
    delivered = asyncio.Event()

    class Bus(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise Flaky
            self.register(Went())
            call = running.get()
            assert call is not None
            call.commit()  # as a unit of work does
            committed.set()
            await asyncio.Event().wait()

        @event_handler
        async def went(self, event: Went) -> None:
            delivered.set()

    bus = Bus(runtime=Runtime())
    caller = asyncio.ensure_future(bus.handle(Go()))
    async with asyncio.timeout(5):
        await committed.wait()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await delivered.wait()
    await bus.drain(1.0)


@pytest.mark.contract("BUS-019")
async def test_a_command_that_outlives_the_handler_it_began_in_is_drained_by_itself() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    heard: list[int] = []
    tasks: list[asyncio.Future[None]] = []

    class Bus(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            tasks.append(asyncio.ensure_future(self.handle(Then())))
            await began.wait()

        @command_handler
        async def then(self, command: Then) -> None:
            began.set()
            await go_on.wait()
            self.register(Went(n=7))

        @event_handler
        async def went(self, event: Went) -> None:
            heard.append(event.n)

    bus = Bus(runtime=Runtime())
    await bus.handle(Go())
    go_on.set()
    await tasks[0]
    assert heard == [7]


@pytest.mark.contract("BUS-087")
async def test_what_is_repeated_without_a_journal_is_not_claimed_again_while_it_runs() -> None:
    runs: list[int] = []
    again = asyncio.Event()
    looked = asyncio.Event()

    class Bus(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went())
            self.register(Went(n=1), delay=0.1)

        @event_handler(retry=Retry(base=0.001, cap=0.002), timeout=None)
        async def went(self, event: Went) -> None:
            runs.append(event.n)
            if runs == [0]:
                raise Flaky
            if event.n == 1:  # a claim long behind the end of the lease has taken it
                looked.set()
            else:
                await again.wait()

    bus = Bus(runtime=Runtime(limits=Limits(lease=0.02)))
    async with recording(bus) as rec:
        await bus.handle(Go())
        async with asyncio.timeout(5):
            await looked.wait()
        again.set()
        await rec.settled()
    assert runs == [0, 0, 1]


@pytest.mark.contract("BUS-075")
async def test_a_failure_before_a_delayed_message_of_its_key_is_parked_and_not_repeated_behind_it() -> None:
    log: list[str] = []

    class Bus(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Kept(name="a"))
            self.register(Kept(name="b"), delay=0.05)

        @event_handler
        async def kept(self, event: Kept) -> None:
            log.append(event.name)
            if event.name == "a":
                raise ValueError("a bug")

    bus = Bus(runtime=Runtime())
    async with recording(bus) as rec:
        await bus.handle(Go())
        assert len(await bus.dead_letters.list()) == 1
        await rec.settled()
    assert log == ["a", "b"]

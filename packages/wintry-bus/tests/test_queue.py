"""Commands, events, and what is registered."""

import asyncio
import threading
import warnings
from contextvars import ContextVar

import pytest

from wintry.bus import (
    Command,
    Event,
    HandleInsideUnit,
    LateRegister,
    MessageQueue,
    NoHandler,
    NotInHandler,
    command_handler,
    current,
    event_handler,
)
from wintry.bus.testing import recording

pytestmark = pytest.mark.anyio


class Go(Command):
    x: int


class Other(Command):
    x: int = 0


class Went(Event):
    x: int


class Came(Event):
    x: int


class Refused(Exception):
    pass


class Bus(MessageQueue):
    """Notes in `log` what runs, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    @command_handler
    async def go(self, command: Go) -> int:
        self.log.append(f"go {command.x}")
        self.register(Went(x=command.x))
        if command.x < 0:
            raise Refused("negative")
        self.register(Came(x=command.x))
        return command.x * 2

    @event_handler
    async def went(self, event: Went) -> None:
        self.log.append(f"went {event.x}")
        if event.x == 13:
            raise ValueError("unlucky")
        if event.x == 7:
            self.register(Other(x=7))

    @event_handler
    async def went_too(self, event: Went) -> None:
        self.log.append(f"went too {event.x}")

    @event_handler
    async def came(self, event: Came) -> None:
        self.log.append(f"came {event.x}")

    @command_handler
    async def other(self, command: Other) -> None:
        self.log.append(f"other {command.x}")


@pytest.mark.contract("BUS-010")
async def test_handle_returns_what_the_handler_returns() -> None:
    assert await Bus().handle(Go(x=4)) == 8


@pytest.mark.contract("BUS-010")
async def test_handle_raises_what_the_handler_raises() -> None:
    with pytest.raises(Refused) as caught:
        await Bus().handle(Go(x=-1))
    assert type(caught.value) is Refused
    assert caught.value.__cause__ is None


@pytest.mark.contract("BUS-011")
async def test_nothing_that_a_failed_command_registered_leaks() -> None:
    bus = Bus()
    async with recording(bus) as rec:
        with pytest.raises(Refused):
            await bus.handle(Go(x=-1))
        await rec.settled()
    assert bus.log == ["go -1"]
    assert rec.messages == []


@pytest.mark.contract("BUS-012")
async def test_events_are_delivered_to_every_handler_before_handle_returns() -> None:
    bus = Bus()
    await bus.handle(Go(x=1))
    assert bus.log == ["go 1", "went 1", "went too 1", "came 1"]


@pytest.mark.contract("BUS-013")
async def test_a_failing_event_handler_touches_nobody_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()
    assert await bus.handle(Go(x=13)) == 26
    assert bus.log == ["go 13", "went 13", "went too 13", "came 13"]
    (record,) = [each for each in caplog.records if each.exc_info]
    assert "Bus.went" in record.getMessage()
    assert "Went(x=13)" in record.getMessage()


@pytest.mark.contract("BUS-014")
async def test_what_a_delivery_registers_is_appended_never_nested() -> None:
    bus = Bus()
    await bus.handle(Go(x=7))
    assert bus.log == ["go 7", "went 7", "went too 7", "came 7", "other 7"]


@pytest.mark.contract("BUS-015")
async def test_an_event_without_handlers_is_fine() -> None:
    class Quiet(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(x=1))

    queue = Quiet()
    async with recording(queue) as rec:
        await queue.handle(Go(x=1))
    assert rec.of(Went) == [Went(x=1)]


@pytest.mark.contract("BUS-016")
async def test_a_command_without_handler_is_told_with_the_nearest() -> None:
    class Goo(Command):
        pass

    with pytest.raises(NoHandler, match="no command_handler of Bus takes Goo: did you mean 'Go'"):
        await Bus().handle(Goo())


@pytest.mark.contract("BUS-016")
async def test_an_event_is_not_handled_but_registered() -> None:
    with pytest.raises(NoHandler, match="Went is an event: register it inside a handler"):
        await Bus().handle(Went(x=1))  # type: ignore[arg-type]  # that is what the test is about


@pytest.mark.contract("BUS-016")
async def test_a_command_without_handler_cannot_be_registered() -> None:
    class Half(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Other())

    with pytest.raises(NoHandler, match=r"Half\.register"):
        await Half().handle(Go(x=1))


@pytest.mark.contract("BUS-017")
async def test_register_outside_a_handler_is_refused() -> None:
    with pytest.raises(NotInHandler, match="no handler is running here"):
        Bus().register(Went(x=1))


@pytest.mark.contract("BUS-017")
async def test_register_in_a_handler_of_another_bus_is_refused() -> None:
    bus = Bus()

    class Elsewhere(MessageQueue):
        @command_handler
        async def other(self, command: Other) -> None:
            bus.register(Went(x=1))

    with pytest.raises(NotInHandler, match=r"Elsewhere\.other is running"):
        await Elsewhere().handle(Other())
    assert bus.log == []


@pytest.mark.contract("BUS-018")
async def test_a_task_that_outlives_its_handler_registers_too_late() -> None:
    gate, caught = asyncio.Event(), []

    class Hasty(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> asyncio.Task[None]:
            async def late() -> None:
                await gate.wait()
                try:
                    self.register(Went(x=1))
                except LateRegister as error:
                    caught.append(error)

            return asyncio.ensure_future(late())

    task = await Hasty().handle(Go(x=1))
    gate.set()
    await task
    assert "Hasty.go had returned" in str(caught[0])


@pytest.mark.contract("BUS-018")
async def test_a_task_within_its_handler_registers_in_time() -> None:
    class Busy(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            async def one(x: int) -> None:
                await asyncio.sleep(0)
                self.register(Went(x=x))

            await asyncio.gather(*(one(x) for x in range(3)))

    queue = Busy()
    async with recording(queue) as rec:
        await queue.handle(Go(x=1))
    assert rec.of(Went) == [Went(x=0), Went(x=1), Went(x=2)]


@pytest.mark.contract("BUS-019")
async def test_a_nested_command_belongs_to_the_same_correlation_and_is_drained_once_by_the_outermost() -> None:
    log: list[tuple[str, str, str | None]] = []

    class Nested(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            assert await self.handle(Other(x=1)) == "done"
            log.append(("go", current().correlation_id, None))

        @command_handler
        async def other(self, command: Other) -> str:
            log.append(("other", current().correlation_id, current().causation_id))
            self.register(Went(x=1))
            return "done"

        @event_handler
        async def went(self, event: Went) -> None:
            log.append(("went", current().correlation_id, current().causation_id))

    await Nested().handle(Go(x=1))
    assert [name for name, _, _ in log] == ["other", "go", "went"]
    assert len({correlation for _, correlation, _ in log}) == 1


@pytest.mark.contract("BUS-020")
async def test_five_hundred_commands_at_once_do_not_touch_one_another() -> None:
    got: dict[int, list[int]] = {}

    class Shared(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> int:
            for step in range(3):
                self.register(Went(x=command.x))
                await asyncio.sleep(0 if step else 0.001)
            got[command.x] = []
            return command.x

        @event_handler
        async def went(self, event: Went) -> None:
            await asyncio.sleep(0)
            assert current().causation_id is not None
            got[event.x].append(event.x)

    shared = Shared()
    before = set(vars(shared))
    assert await asyncio.gather(*(shared.handle(Go(x=x)) for x in range(500))) == list(range(500))
    assert got == {x: [x] * 3 for x in range(500)}
    assert len(set(vars(shared)) - before) <= 2, "nothing of a call is kept on the instance"


@pytest.mark.contract("BUS-021")
async def test_a_sync_handler_runs_in_a_thread_with_the_callers_context() -> None:
    who: ContextVar[str] = ContextVar("who")
    seen: list[tuple[str, bool, str]] = []

    class Threads(MessageQueue):
        @command_handler
        def go(self, command: Go) -> int:
            self.register(Went(x=command.x))
            seen.append((who.get(), threading.current_thread() is threading.main_thread(), current().handler))
            return 5

        @event_handler
        def went(self, event: Went) -> None:
            seen.append((who.get(), threading.current_thread() is threading.main_thread(), current().handler))

    who.set("me")
    assert await Threads().handle(Go(x=1)) == 5
    assert seen == [("me", False, "Threads.go"), ("me", False, "Threads.went")]


@pytest.mark.contract("BUS-022")
async def test_handlers_belong_to_their_queue_and_its_subclasses() -> None:
    class Sub(Bus):
        @event_handler
        async def more(self, event: Came) -> None:
            self.log.append("more")

        async def other(self, command: Other) -> None:
            self.log.append("overridden")

    sub, bus = Sub(), Bus()
    await sub.handle(Go(x=7))
    await bus.handle(Go(x=7))
    assert sub.log[-2:] == ["more", "overridden"]
    assert "more" not in bus.log


@pytest.mark.contract("BUS-023")
async def test_the_envelope_tells_about_the_message() -> None:
    envelopes = []

    class Looking(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            envelopes.append(current())
            self.register(Went(x=1))

        @event_handler
        async def went(self, event: Went) -> None:
            envelopes.append(current())

        @event_handler
        async def went_too(self, event: Went) -> None:
            envelopes.append(current())

    await Looking().handle(Go(x=1))
    command, one, two = envelopes
    assert command.correlation_id == command.id
    assert command.causation_id is None
    assert one.causation_id == command.id
    assert one.correlation_id == command.id
    assert one.id == two.id, "it is one message"
    assert one.id != command.id
    assert (one.handler, two.handler, one.attempt) == ("Looking.went", "Looking.went_too", 1)
    assert one.time.tzinfo is not None
    with pytest.raises(NotInHandler):
        current()


@pytest.mark.contract("BUS-001")
def test_messages_ignore_unknown_fields_and_are_frozen() -> None:
    command = Go.model_validate({"x": 1, "y": 2})
    assert command == Go(x=1)
    with pytest.raises(ValueError, match="frozen"):
        command.x = 2


@pytest.mark.contract("BUS-002")
def test_dict_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Go(x=1).dict() == {"x": 1}
        assert Allocated(sku="s", qty=1).dict(exclude={"qty"}) == {"sku": "s"}


class Allocated(Event, key="sku", version=2):
    sku: str
    qty: int


@pytest.mark.contract("BUS-024")
async def test_handle_while_the_callers_transaction_is_open_is_refused() -> None:
    inside = True
    bus = Bus()
    bus.runtime.in_transaction = lambda: inside
    with pytest.raises(HandleInsideUnit, match="Go cannot be handled while .* register it, or commit first"):
        await bus.handle(Go(x=1))
    assert bus.log == []
    inside = False
    await bus.handle(Go(x=1))

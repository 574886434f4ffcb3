"""Middleware, contracts of messages, failpoints, the public names, the shell."""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wintry.bus
from wintry.bus import (
    Command,
    DefinitionError,
    Envelope,
    Event,
    Limits,
    MessageQueue,
    Park,
    Retry,
    Runtime,
    Undecodable,
    command_handler,
    event_handler,
    upcast,
)
from wintry.bus.__main__ import main
from wintry.bus.contracts import decode, encode
from wintry.bus.failpoints import reach
from wintry.bus.journal import MemoryJournal, Row
from wintry.bus.testing import NotSettled, crash_at, recording
from wintry.bus.transports import Memory


class Go(Command):
    x: int = 1


class Went(Event):
    x: int


class Renamed(Event, alias="renamed", version=3):
    name: str
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


@upcast(Renamed, from_version=1)
def first(body: dict[str, Any]) -> dict[str, Any]:
    return {"titel": body["t"]}


@upcast(Renamed, from_version=2)
def second(body: dict[str, Any]) -> dict[str, Any]:
    return {"name": body["titel"]}


# middleware


@pytest.mark.anyio
@pytest.mark.contract("BUS-040")
async def test_middleware_surrounds_every_attempt_outermost_first() -> None:
    log: list[str] = []

    async def outer(envelope: Envelope, call_next: Callable[[Envelope], Any]) -> Any:
        log.append(f"outer {envelope.handler} {envelope.attempt}")
        result = await call_next(envelope)
        log.append("outer done")
        return result

    async def inner(envelope: Envelope, call_next: Callable[[Envelope], Any]) -> Any:
        log.append(f"inner {envelope.message!r}")
        return await call_next(envelope)

    class Bus(MessageQueue):
        tries = 0

        @command_handler
        async def go(self, command: Go) -> int:
            self.tries += 1
            if self.tries == 1:
                raise ConnectionError
            self.register(Went(x=1))
            return 7

        @event_handler
        def went(self, event: Went) -> None: ...

    assert await Bus(runtime=Runtime(middleware=[outer, inner])).handle(Go()) == 7
    assert log == [
        "outer Bus.go 1", "inner Go(x=1)", "outer Bus.go 2", "inner Go(x=1)", "outer done",
        "outer Bus.went 1", "inner Went(x=1)", "outer done",
    ]  # fmt: skip


# contracts


@pytest.mark.contract("BUS-003")
@given(st.text(), st.datetimes(timezones=st.just(UTC)))
def test_a_message_survives_its_body(name: str, at: datetime) -> None:
    message = Renamed(name=name, at=at)
    assert decode(Renamed, 3, encode(message)) == message


@pytest.mark.contract("BUS-004")
def test_older_bodies_are_lifted_step_by_step() -> None:
    assert decode(Renamed, 1, b'{"t": "x"}') == Renamed(name="x")
    assert decode(Renamed, 2, b'{"titel": "x"}') == Renamed(name="x")


@pytest.mark.contract("BUS-004")
@pytest.mark.parametrize(
    ("version", "body", "reason"),
    [
        (4, b"{}", "newer than 3"),
        (2, b"nonsense", "not JSON"),
        (3, b"{}", "renamed version 3"),
        (3, b"\xff", "renamed"),
    ],
)
def test_what_does_not_fit_is_undecodable(version: int, body: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(Renamed, version, body)


@pytest.mark.contract("BUS-004")
def test_an_upcast_must_have_a_place() -> None:
    class Twice(Event, version=2):
        pass

    with pytest.raises(DefinitionError, match="Twice is version 2"):
        upcast(Twice, from_version=2)
    upcast(Twice, from_version=1)(first)
    with pytest.raises(DefinitionError, match="lifted already"):
        upcast(Twice, from_version=1)


@pytest.mark.anyio
@pytest.mark.contract("BUS-004")
async def test_an_undecodable_row_is_parked_without_a_retry() -> None:
    journal = MemoryJournal()
    await journal.append([Row("a", "Bus.went", "Went", 1, b"{}", "c")], owner="gone", lease=0.0)

    class Bus(MessageQueue):
        @event_handler
        async def went(self, event: Went) -> None: ...

    runtime = Runtime(journal=journal, limits=Limits(poll_min=0.001))
    runtime.attach(Bus(runtime=runtime))
    async with recording(runtime) as rec:
        await runtime.start()
        await rec.settled()
    await runtime.drain(1.0)
    (letter,) = await runtime.dead_letters.list()
    assert "Field required" in letter.error
    assert letter.body == b"{}"


# retry


@pytest.mark.contract("BUS-088")
@given(
    attempt=st.integers(1, 40),
    base=st.floats(0.001, 1.0),
    cap=st.floats(1.0, 100.0),
    seed=st.integers(0, 10**6),
)
def test_the_delay_doubles_up_to_the_cap_and_jitter_is_added(attempt: int, base: float, cap: float, seed: int) -> None:
    random.seed(seed)
    delay = Retry(attempts=None, base=base, cap=cap).again(ConnectionError(), attempt, 0.0)
    step = min(cap, base * 2 ** (attempt - 1))
    assert delay is not None
    assert step <= delay <= 2 * step


@pytest.mark.contract("BUS-088")
def test_what_is_repeated() -> None:
    class Says(Exception):
        retryable = True

    retry = Retry(attempts=3, base=0.0)
    assert retry.again(Says(), 1, 0.0) == 0.0
    assert retry.again(TimeoutError(), 2, 0.0) == 0.0
    assert retry.again(Says(), 3, 0.0) is None
    assert retry.again(ValueError(), 1, 0.0) is None
    assert Retry(on=ValueError).again(ValueError(), 1, 0.0) is not None
    assert Retry(on=Exception).again(Park("no"), 1, 0.0) is None
    assert Retry(within=1.0).again(Says(), 1, 1.0) is None
    for wrong in ({"attempts": 0}, {"base": -1.0}, {"base": 2.0, "cap": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Retry(**wrong)  # type: ignore[arg-type]  # that is what the test is about


# the test kit


@pytest.mark.anyio
@pytest.mark.contract("BUS-061")
async def test_recording_tells_what_happened() -> None:
    class Bus(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(x=command.x))

        @event_handler
        async def went(self, event: Went) -> None: ...

    bus = Bus()
    async with recording(bus) as rec:
        await bus.handle(Go(x=5))
        await rec.settled()
    await bus.handle(Go(x=6))
    assert rec.of(Went) == [Went(x=5)]
    assert rec.handled == [(Go(x=5), "Bus.go"), (Went(x=5), "Bus.went")]
    assert rec.handled_by("Bus.went") == [Went(x=5)]


@pytest.mark.anyio
@pytest.mark.contract("BUS-061")
async def test_settled_gives_up_in_the_end() -> None:
    class Bus(MessageQueue):
        @command_handler
        async def go(self, command: Go) -> None:
            self.register(Went(x=1), delay=3600)

        @event_handler
        async def went(self, event: Went) -> None: ...

    bus = Bus()
    async with recording(bus) as rec:
        await bus.handle(Go())
        with pytest.raises(NotSettled, match="1 rows wait"):
            await rec.settled(within=0.01)


@pytest.mark.contract("BUS-062")
def test_a_process_dies_at_the_point_that_was_armed() -> None:
    program = """
import asyncio
from wintry.bus.failpoints import reach
from wintry.bus.testing import crash_at
async def main():
    reach("committed")
    print("once", flush=True)
    reach("committed")
    print("twice", flush=True)
with crash_at("committed", times=2):
    asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (137, "once\n")


@pytest.mark.contract("BUS-062")
def test_failpoints_do_nothing_unless_armed() -> None:
    came: list[str] = []
    with crash_at("claimed", act=lambda: came.append("claimed")):
        reach("committed")
        reach("claimed")
    reach("claimed")
    assert came == ["claimed"]
    with pytest.raises(ValueError, match="no failpoint 'nowhere'"), crash_at("nowhere"):
        pass


# the shell


def app(monkeypatch: pytest.MonkeyPatch, name: str = "shell_app") -> Runtime:
    """A runtime that `--app shell_app:runtime` names, with one dead letter."""
    runtime = Runtime(transports={"default": Memory()})
    module = type(sys)(name)
    module.runtime = runtime  # type: ignore[attr-defined]  # a module made on the spot
    monkeypatch.setitem(sys.modules, name, module)
    row = Row("a", "Bus.went", "Went", 1, b'{"x": 1}', "c", headers={"time": "1.0"})
    (stored,) = runtime.memory.store([row], owner="me", lease=60.0)
    asyncio.run(runtime.memory.park(stored.seq, owner="me", error="Traceback\nValueError: broken"))
    return runtime


@pytest.mark.contract("BUS-120")
def test_dead_letters_from_the_shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = app(monkeypatch)
    where = ["--app", "shell_app:runtime"]
    assert main(["dead", "list", *where]) == 0
    assert "1  " in (listed := capsys.readouterr().out)
    assert "Bus.went  Went  parked  ValueError: broken" in listed
    assert main(["dead", "show", "1", *where]) == 0
    shown = capsys.readouterr().out
    assert '{"x": 1}' in shown
    assert "Traceback" in shown
    assert main(["dead", "show", "99", *where]) == 1
    assert "there is no dead letter 99" in capsys.readouterr().err
    assert main(["dead", "redrive", "1", *where]) == 0
    assert capsys.readouterr().out == "1 redriven\n"
    assert main(["dead", "discard", "1", *where]) == 0
    assert capsys.readouterr().out == "0 discarded\n"
    assert asyncio.run(runtime.memory.stats()).pending == 1


@pytest.mark.contract("BUS-121")
def test_sending_from_the_shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = app(monkeypatch)
    assert main(["send", "went", '{"x": 1}', "--app", "shell_app:runtime"]) == 0

    async def first() -> bytes:
        return (await anext(runtime.transports["default"].receive("went", group="g", prefetch=1))).message.body

    assert json.loads(asyncio.run(first())) == {"x": 1}
    with pytest.raises(SystemExit):
        main(["send", "went", "[1]", "--app", "shell_app:runtime"])
    assert "a JSON object" in capsys.readouterr().err
    assert main(["send", "went", "{}", "--app", "shell_app:nothing"]) == 1
    assert "is no runtime" in capsys.readouterr().err


# the package


@pytest.mark.contract("BUS-130")
def test_the_public_names() -> None:
    assert [*wintry.bus.__all__] == sorted(wintry.bus.__all__)
    assert wintry.bus.__all__ == (
        "AlreadyHandled", "BusError", "CapabilityError", "Command", "DeadLetter", "DeadLetters", "DefinitionError",
        "Discard", "Envelope", "Event", "Fault", "HandleInsideUnit", "HandlerTimeout", "Health", "LateRegister",
        "LeaseLost", "Limits", "Message", "MessageQueue", "NoHandler", "NotInHandler", "Park", "Publisher",
        "ResultUnknown", "Retry", "Runtime", "TransportPublisher", "TwoStores", "Undecodable", "UnknownDeadLetter", "collecting",
        "command_handler", "current", "event_handler", "upcast",
    )  # fmt: skip
    for name in wintry.bus.__all__:
        assert hasattr(wintry.bus, name)


@pytest.mark.contract("BUS-130")
def test_it_needs_pydantic_only() -> None:
    program = """
import sys, wintry.bus, wintry.bus.testing, wintry.bus.transports, wintry.bus.journal
foreign = {"sqlalchemy", "pymongo", "motor", "starlette", "punq", "wintry.models", "wintry.repository", "wintry.uow"}
print(sorted(foreign & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.contract("BUS-130")
def test_the_example_of_the_readme_runs() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "allocated A1 to b1\nb1\n"


@pytest.mark.contract("BUS-020")
def test_ids_are_made_fast_and_never_twice() -> None:
    from wintry.bus.call import random_id

    began = time.process_time()
    ids = {random_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(each) == 32 for each in ids)
    assert time.process_time() - began < 1.0

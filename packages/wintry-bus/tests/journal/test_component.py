"""The part of an application that runs its bus: what it provides, and what of the settings cannot work."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from wintry.bus import Command, Event, MessageQueue, Publisher, Runtime, command_handler, event_handler
from wintry.bus.__main__ import main
from wintry.bus.component import BusComponent, open_runtime
from wintry.bus.journal import Row
from wintry.bus.settings import BusSettings
from wintry.bus.transports import Memory
from wintry.bus.transports.database import Database
from wintry.repository import Backends

pytestmark = pytest.mark.anyio


class Go(Command):
    sku: str


class Went(Event):
    sku: str


class Bus(MessageQueue):
    heard: list[str] = []  # noqa: RUF012 - one bus of this class runs at a time

    @command_handler
    async def go(self, command: Go) -> None:
        self.register(Went(sku=command.sku))

    @event_handler
    async def went(self, event: Went) -> None:
        self.heard.append(event.sku)


class Container:
    """A container, by shape: singletons from the component's factories, and one queue class."""

    def __init__(self, values: dict[Any, Any]) -> None:
        self.values = values

    def register(self, factories: Any) -> None:
        for key, factory in factories.items():
            hints = inspect.get_annotations(factory, eval_str=True)
            arguments = {name: self.values[hint] for name, hint in hints.items() if name != "return"}
            self.values[key] = factory(**arguments)

    def get(self, key: Any) -> Any:
        return self.values[key]

    def subclasses(self, base: type) -> list[type]:
        return [Bus]

    @asynccontextmanager
    async def scope(self) -> AsyncGenerator[Any]:
        async def get(key: Any) -> Any:
            return self.values[key]

        yield SimpleNamespace(get=get)


def settings(folder: Path | None = None, **more: Any) -> Any:
    backends = [] if folder is None else [SimpleNamespace(name="default", driver=None, url=f"sqlite:///{folder}/a.db")]
    return SimpleNamespace(**{"backends": backends, "transporters": [], "journal": None, **more})


def entry(name: str, kind: str, backend: str | None = None) -> Any:
    return SimpleNamespace(name=name, kind=kind, backend=backend)


@asynccontextmanager
async def running(given: Any, folder: Path | None) -> AsyncGenerator[Container]:
    component = BusComponent()
    values: dict[Any, Any] = {BusSettings: BusSettings(poll_min=0.01)}
    backends = None
    if folder is not None:
        backends = values[Backends] = Backends(default=f"sqlite:///{folder}/a.db")
        await backends.open()
    container = Container(values)
    container.register(component.providers(given))
    values[Bus] = Bus(runtime=container.get(Runtime))
    values[BusComponent] = component
    Bus.heard.clear()
    await component.start(container)
    try:
        yield container
    finally:
        await component.drain(5.0)
        await component.stop()
        if backends is not None:
            await backends.close()


@pytest.mark.contract("BUS-350")
async def test_without_backends_everything_is_in_memory() -> None:
    async with running(settings(), None) as container:
        runtime = container.get(Runtime)
        assert runtime.journal is None
        assert isinstance(runtime.transports["default"], Memory)
        await container.get(Bus).handle(Go(sku="a"))
        assert Bus.heard == ["a"]
        assert (await container.get(BusComponent).check())["bus"]["status"] == "ok"


@pytest.mark.contract("BUS-706")
async def test_before_it_drains_it_takes_nothing_of_others_and_delivers_what_is_handled_here(tmp_path: Path) -> None:
    async with running(settings(tmp_path, journal="default"), tmp_path) as container:
        runtime, component = container.get(Runtime), container.get(BusComponent)
        journal, target = runtime.journal, next(each for each in runtime.known.handlers if each.endswith("went"))

        async def left_by_another(sku: str) -> None:
            body = b'{"sku":"%b"}' % sku.encode()
            row = Row(id=str(uuid4()), target=target, type="Went", version=1, body=body, correlation_id="c")
            await journal.append([row], owner="another process", lease=0.0)

        await left_by_another("taken")
        async with asyncio.timeout(10):
            while Bus.heard != ["taken"]:
                await asyncio.sleep(0.01)
        await component.quiesce()
        await component.quiesce()
        assert (await component.check())["bus"]["status"] == "ok"
        assert len(runtime.dispatcher.claims._loops) == 1, "leases are not renewed any more"
        claimed = runtime.dispatcher.claims.count
        await left_by_another("left")
        runtime.dispatcher.claims.soon()  # as when a lane becomes free
        for sku in ("here", "and here"):
            await container.get(Bus).handle(Go(sku=sku))
        await container.get(Bus).handle(Go(sku="behind"))
        async with asyncio.timeout(10):
            while len(Bus.heard) < 4:
                await asyncio.sleep(0.01)
    assert Bus.heard == ["taken", "here", "and here", "behind"]
    assert runtime.dispatcher.claims.count == claimed


@pytest.mark.contract("BUS-351")
async def test_a_journal_alone_brings_a_queue_in_its_database(tmp_path: Path) -> None:
    async with running(settings(tmp_path, journal="default"), tmp_path) as container:
        runtime = container.get(Runtime)
        assert isinstance(runtime.transports["default"], Database)
        assert runtime.default_transport == "default"
        await container.get(Bus).handle(Go(sku="a"))
        await container.get(Publisher).send("c", {"x": 1})
        assert Bus.heard == ["a"]
        assert (await runtime.journal.stats()).done == 1
        assert (await container.get(BusComponent).check())["bus"] == {"status": "ok", "detail": "0 pending, 0 parked"}


@pytest.mark.contract("BUS-352")
@pytest.mark.parametrize(
    ("names", "default"), [(["redis", "default"], "default"), (["only"], "only"), (["one", "two"], "default")]
)
async def test_the_default_transport(names: list[str], default: str, tmp_path: Path) -> None:
    given = settings(transporters=[entry(name, "memory") for name in names])
    container = Container({BusSettings: BusSettings()})
    container.register(BusComponent().providers(given))
    assert container.get(Runtime).default_transport == default


@pytest.mark.contract("BUS-353")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"journal": "defualt"}, "journal: there is no backend 'defualt'; there are: default"),
        ({"transporters": [entry("q", "database", "x")]}, "transporters.q: there is no backend 'x'"),
    ],
)
def test_a_backend_that_is_not_there_is_told(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        BusComponent().providers(settings(tmp_path, **more))


@pytest.mark.contract("BUS-353")
async def test_a_journal_needs_a_database(tmp_path: Path) -> None:
    given = SimpleNamespace(backends=[SimpleNamespace(name="default")], transporters=[], journal="default")
    container = Container({BusSettings: BusSettings(), Backends: Backends(default="memory://")})
    told = "the transporter 'default' needs a backend of sqlite, postgresql or mongodb, and 'default' is memory"
    with pytest.raises(ValueError, match=told):
        container.register(BusComponent().providers(given))


@pytest.mark.contract("BUS-354")
def test_the_section_of_the_settings_holds_the_limits() -> None:
    assert BusSettings(lease=3.0).limits.lease == 3.0
    assert BusSettings().limits.concurrency == 16
    with pytest.raises(ValidationError):
        BusSettings(leese=3)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        BusSettings(lease=0)


@pytest.mark.contract("BUS-355")
@pytest.mark.parametrize("by_url", [True, False])
async def test_a_shell_opens_stores_and_delivers_nothing(by_url: bool, tmp_path: Path) -> None:
    source = f"sqlite:///{tmp_path}/a.db" if by_url else settings(tmp_path, journal="default")
    async with open_runtime(source) as runtime:
        assert await runtime.dead_letters.list() == []
        await runtime.transports["default"].publish("c", [])
    async with running(settings(tmp_path, journal="default"), tmp_path) as container:
        assert (await container.get(Runtime).journal.stats()).pending == 0


@pytest.mark.contract("BUS-350")
def test_the_component_is_found_by_its_shape() -> None:
    component: Callable[[], BusComponent] = BusComponent
    assert (component().name, component().after, component().settings) == ("bus", ("repository",), BusSettings)


KINDS = ("sqlite", "postgresql", "mongodb")


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> str:
    match kind:
        case "sqlite":
            return f"sqlite:///{tmp_path}/a.db"
        case "postgresql":
            return request.getfixturevalue("postgres_url")  # type: ignore[no-any-return]
        case _:
            return request.getfixturevalue("mongodb_url")  # type: ignore[no-any-return]


@pytest.mark.contract("BUS-515")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_shell_works_on_the_journal_of_each_database(
    kind: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_runtime(url) as runtime:
        dead = Row(id="m", target="Bus.went", type="Went", version=1, body=b"{}", correlation_id="c", error="it broke")
        await runtime.store.bury([dead])
        (letter,) = await runtime.dead_letters.list()

    async def said(*words: str) -> str:
        assert await asyncio.to_thread(main, ["dead", *words, "--url", url]) == 0
        return capsys.readouterr().out

    assert "it broke" in await said("list")
    assert "message      m" in await said("show", str(letter.number))
    assert await said("redrive", str(letter.number)) == "1 redriven\n"
    assert await said("list") == ""


@pytest.mark.contract("BUS-516")
@pytest.mark.parametrize("kind", KINDS)
def test_a_bus_imports_the_client_of_its_own_database(kind: str, url: str) -> None:
    script = (
        "import asyncio, sys\n"
        "from wintry.bus.component import open_runtime\n"
        "async def main():\n"
        f"    async with open_runtime({url!r}):\n"
        "        print(*sorted({'aiosqlite', 'asyncpg', 'pymongo', 'sqlalchemy'} & set(sys.modules)))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    clients = {"sqlite": "aiosqlite sqlalchemy", "postgresql": "asyncpg sqlalchemy", "mongodb": "pymongo"}
    assert done.stdout.strip() == clients[kind]


@pytest.mark.contract("BUS-703")
@pytest.mark.parametrize("durable", [True, False])
async def test_a_transport_that_does_not_stop_keeps_no_other_from_stopping(
    durable: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped: list[str] = []

    class Broken(Memory):
        async def stop(self) -> None:
            raise OSError("the door sticks")

    class Fine(Memory):
        async def stop(self) -> None:
            stopped.append("fine")

    transports = {"broken": Broken(), "fine": Fine()}
    if durable:
        async with open_runtime(f"sqlite:///{tmp_path}/a.db") as runtime:
            runtime.transports = transports
    else:
        component = BusComponent()
        component._runtime = Runtime(transports=transports)
        await component.stop()

    assert stopped == ["fine"]
    assert "the door sticks" in caplog.text

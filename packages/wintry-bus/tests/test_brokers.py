"""Brokers that other distributions bring: how they are found, what is said of one that is not, and of one that is away."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wintry.bus import Runtime, TransportPublisher
from wintry.bus.component import BusComponent, open_runtime
from wintry.bus.errors import SettingsError
from wintry.bus.settings import BusSettings
from wintry.bus.transports import Memory
from wintry.bus.transports import brokers as module
from wintry.bus.transports.brokers import brokers

pytestmark = [pytest.mark.anyio, pytest.mark.contract("BUS-600")]


class Pigeon(Memory):
    """A broker that is never there."""

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner

    async def check(self) -> None:
        raise ConnectionError("no pigeon came back")


def pigeon(entry: Any) -> Callable[[Runtime], Pigeon]:
    if entry.url is None:
        raise ValueError("a pigeon needs a url")
    return lambda runtime: Pigeon(runtime.owner)


def entry(name: str, kind: str, url: str | None = "loft") -> Any:
    return SimpleNamespace(name=name, kind=kind, backend=None, url=url)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that brings the kind `pigeon`."""
    points = {"wintry.transports": [SimpleNamespace(name="pigeon", load=lambda: pigeon)]}
    monkeypatch.setattr(module, "entry_points", lambda group: points[group])


async def test_a_broker_is_found_by_its_kind_and_made_for_the_runtime() -> None:
    runtime = Runtime()
    found = brokers([entry("a", "pigeon"), entry("b", "memory"), entry("c", "database")])
    assert {name: connect(runtime).owner for name, connect in found.items()} == {"a": runtime.owner}  # type: ignore[attr-defined]  # a Pigeon


async def test_every_entry_that_cannot_work_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        brokers([entry("x", "parrot"), entry("y", "pigeon", url=None), entry("z", "pigeon")])
    assert raised.value.faults == (
        "transporters.x: there is no transport 'parrot'; there are: database, memory, pigeon",
        "transporters.y: a pigeon needs a url",
    )


async def test_a_broker_that_is_away_is_degraded_and_ends_nothing() -> None:
    settings = SimpleNamespace(backends=[], transporters=[entry("birds", "pigeon")], journal=None)
    component = BusComponent()
    provided = component.providers(settings)
    runtime = provided[Runtime](BusSettings())
    container = SimpleNamespace(get=lambda key: runtime, scope=None, subclasses=lambda base: [])

    await component.start(container)
    checks = await component.check()
    await component.stop()

    assert isinstance(runtime.transports["birds"], Pigeon)
    assert runtime.default_transport == "birds"
    assert checks["bus"]["status"] == "ok"
    assert checks["transport:birds"] == {"status": "degraded", "detail": "ConnectionError: no pigeon came back"}


@pytest.mark.contract("BUS-601")
async def test_a_shell_sends_by_the_applications_broker(tmp_path: Path) -> None:
    backend = SimpleNamespace(name="default", driver=None, url=f"sqlite:///{tmp_path}/a.db")
    settings = SimpleNamespace(backends=[backend], transporters=[entry("birds", "pigeon")], journal="default")

    async with open_runtime(settings) as runtime:
        birds = runtime.transports["birds"]
        await TransportPublisher(runtime).send("north", {"n": 1})
        heard = await anext(aiter(birds.receive("north", group="g", prefetch=1)))

    assert heard.message.body == b'{"n":1}'

"""From the settings to brokers: which kinds there are, and an application whose broker is away."""

from types import SimpleNamespace
from typing import Any

import pytest

from wintry.bus import Runtime
from wintry.web import SettingsError, TransporterSettings, WinterSettings
from wintry.web.transports.brokers import Brokers, brokers
from wintry.web.transports.component import TransportsComponent
from wintry.web.transports.redis import RedisStreams
from wintry.web.transports.redis_pubsub import RedisPubSub

pytestmark = [pytest.mark.anyio, pytest.mark.contract("WEB-207")]


def made(*entries: TransporterSettings) -> Any:
    runtime = Runtime()
    provided = brokers(entries)[Brokers](runtime)
    assert runtime.transports == provided.transports
    return provided.transports


async def test_the_driver_or_the_url_or_the_name_decides() -> None:
    transports = made(
        TransporterSettings(name="a", driver="wintry.transporters.redis"),
        TransporterSettings(name="b", url="rediss://localhost"),
        TransporterSettings(name="c", driver="redis_pubsub"),
        TransporterSettings(transporter="redis"),
    )
    kinds = {name: type(each) for name, each in transports.items()}
    assert kinds == {"a": RedisStreams, "b": RedisStreams, "c": RedisPubSub, "redis": RedisStreams}
    for transport in transports.values():
        await transport.stop()


async def test_there_is_nothing_to_do_without_brokers() -> None:
    assert not brokers([TransporterSettings(name="memory"), TransporterSettings(name="database")])


async def test_an_unknown_kind_is_a_fault() -> None:
    with pytest.raises(SettingsError, match="transporters.x: there is no transport 'pigeon'; there are: database"):
        brokers([TransporterSettings(name="x", driver="pigeon")])


async def test_a_client_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(SettingsError, match=r"install wintry-web\[redis\]"):
        brokers([TransporterSettings(name="redis")])


async def test_a_broker_that_is_down_is_degraded_and_starts_nothing_over() -> None:
    entry = TransporterSettings(name="redis", url="redis://127.0.0.1:1/0")
    component, runtime = TransportsComponent(), Runtime()
    provided = component.providers(WinterSettings(transporters=[entry]))
    found = provided[Brokers](runtime)
    listeners = SimpleNamespace(specs=())
    await component.start(SimpleNamespace(get=lambda key: found if key is Brokers else listeners))  # type: ignore[arg-type]  # all that it asks
    checks = await component.check()
    assert checks["transport:redis"]["status"] == "degraded"
    assert "127.0.0.1:1" in checks["transport:redis"]["detail"]
    await runtime.transports["redis"].stop()

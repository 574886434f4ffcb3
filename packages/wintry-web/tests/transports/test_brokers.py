"""From the settings to brokers: which kinds this library brings, and what they say where their client is missing."""

import sys
from typing import Any

import pytest

from wintry.bus import Runtime
from wintry.bus.errors import SettingsError
from wintry.bus.transports.brokers import brokers
from wintry.web import TransporterSettings, TransporterType
from wintry.web.transports.nats import NatsStreams
from wintry.web.transports.rabbitmq import RabbitMQ
from wintry.web.transports.redis import RedisStreams
from wintry.web.transports.redis_pubsub import RedisPubSub

pytestmark = pytest.mark.anyio


def made(*entries: TransporterSettings) -> dict[str, Any]:
    runtime = Runtime()
    return {name: connect(runtime) for name, connect in brokers(entries).items()}


@pytest.mark.contract("WEB-207", "WEB-610")
async def test_the_driver_or_the_url_or_the_name_decides() -> None:
    transports = made(
        TransporterSettings(name="a", driver="wintry.transporters.redis"),
        TransporterSettings(name="b", url="rediss://localhost"),
        TransporterSettings(name="c", driver="redis_pubsub"),
        TransporterSettings(transporter="redis"),
        TransporterSettings(name="d", url="amqp://localhost"),
        TransporterSettings(name="e", driver="wintry.transporters.nats"),
        TransporterSettings(name="f", url="tls://localhost"),
        TransporterSettings(transporter=TransporterType.nats, url="nats://one:4222,nats://two:4222"),
    )
    assert {name: type(each) for name, each in transports.items()} == {
        "a": RedisStreams,
        "b": RedisStreams,
        "c": RedisPubSub,
        "redis": RedisStreams,
        "d": RabbitMQ,
        "e": NatsStreams,
        "f": NatsStreams,
        "nats": NatsStreams,
    }
    assert {name: transports[name].url for name in ("e", "f", "nats")} == {
        "e": "nats://localhost:4222",
        "f": "tls://localhost",
        "nats": "nats://one:4222,nats://two:4222",
    }
    for transport in transports.values():
        await transport.stop()


@pytest.mark.contract("WEB-207", "WEB-610")
@pytest.mark.parametrize(
    ("kind", "client", "extra"),
    [
        ("redis", "redis", "redis"),
        ("redis_pubsub", "redis", "redis"),
        ("rabbitmq", "aio_pika", "rabbitmq"),
        ("nats", "nats", "nats"),
    ],
)
async def test_a_client_that_is_missing_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, kind: str, client: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, client, None)
    with pytest.raises(
        SettingsError, match=rf"^transporters\.queue: .* needs {client}: install wintry-web\[{extra}\]$"
    ):
        brokers([TransporterSettings(name="queue", driver=kind)])

"""What wintry-bus finds under the entry-point group `wintry.transports`: one function for each kind of broker.

Each is given a transporter's entry of the settings and gives what makes its transport of a runtime's owner and leases
(`wintry.bus.transports.brokers`). A client that is not installed is told here, with the extra that brings it; a broker
need not be there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ..settings import TransporterSettings

if TYPE_CHECKING:
    from wintry.bus import Runtime
    from wintry.bus.transports.brokers import Connect

    from .nats import NatsStreams
    from .rabbitmq import RabbitMQ
    from .redis import RedisStreams
    from .redis_pubsub import RedisPubSub

LOCAL_NATS: Final = "nats://localhost:4222"
LOCAL_RABBITMQ: Final = "amqp://guest:guest@localhost:5672/"
LOCAL_REDIS: Final = "redis://localhost:6379/0"


def redis(entry: TransporterSettings) -> Connect:
    """Redis Streams. Raises ValueError: redis-py is not installed."""
    require("redis", extra="redis")
    from .redis import RedisStreams

    def connect(runtime: Runtime) -> RedisStreams:
        url = entry.url or LOCAL_REDIS
        return RedisStreams(url, owner=runtime.owner, lease=runtime.limits.lease, bridge=entry.bridge)

    return connect


def redis_pubsub(entry: TransporterSettings) -> Connect:
    """PUBLISH alone: fire and forget. Raises ValueError: redis-py is not installed."""
    require("redis", extra="redis")
    from .redis_pubsub import RedisPubSub

    def connect(_: Runtime) -> RedisPubSub:
        return RedisPubSub(entry.url or LOCAL_REDIS)

    return connect


def rabbitmq(entry: TransporterSettings) -> Connect:
    """RabbitMQ. Raises ValueError: aio-pika is not installed."""
    require("aio_pika", extra="rabbitmq")
    from .rabbitmq import RabbitMQ

    def connect(runtime: Runtime) -> RabbitMQ:
        return RabbitMQ(entry.url or LOCAL_RABBITMQ, owner=runtime.owner)

    return connect


def nats(entry: TransporterSettings) -> Connect:
    """NATS JetStream. Raises ValueError: nats-py is not installed."""
    require("nats", extra="nats")
    from .nats import NatsStreams

    def connect(runtime: Runtime) -> NatsStreams:
        return NatsStreams(entry.url or LOCAL_NATS, lease=runtime.limits.lease)

    return connect


def require(client: str, *, extra: str) -> None:
    """Raises ValueError: the client is not installed."""
    try:
        import_module(client)
    except ImportError:
        raise ValueError(f"this broker needs {client}: install wintry-web[{extra}]") from None

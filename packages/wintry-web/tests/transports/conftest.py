"""Brokers that tests may kill: a Redis of each kind, a RabbitMQ, and a NATS."""

from collections.abc import Iterator
from typing import Any

import nats
import pytest
from redis.asyncio import Redis
from wintry_test_servers.databases import rabbitmq_virtual_host

FIXTURES = {"valkey": "shared_redis_server", "redis": "shared_redis_system_server"}


@pytest.fixture(params=[*FIXTURES])
async def broker(request: pytest.FixtureRequest, anyio_backend: str) -> Any:
    """Valkey, and the redis-server of the system: empty, and the module's own, to be killed and restarted."""
    server: Any = request.getfixturevalue(FIXTURES[request.param])
    server.start()  # a test that failed may have left it down
    async with Redis.from_url(server.url) as client:
        await client.flushall()
    return server


class Rabbit:
    """A RabbitMQ with an empty virtual host, to be killed and restarted."""

    def __init__(self, server: Any, url: str) -> None:
        self.url = url
        self.kill, self.start, self.pause, self.resume = server.kill, server.start, server.pause, server.resume


@pytest.fixture
def rabbit(shared_rabbitmq_server: Any) -> Iterator[Rabbit]:
    server = shared_rabbitmq_server
    server.start()  # a test that failed may have left it down
    with rabbitmq_virtual_host(server.url, server.control) as url:
        yield Rabbit(server, url)
        server.resume()
        server.start()


@pytest.fixture
async def nats_broker(shared_nats_server: Any, anyio_backend: str) -> Any:
    """A NATS without streams, the module's own, to be killed and restarted."""
    shared_nats_server.start()  # a test that failed may have left it down
    client = await nats.connect(shared_nats_server.url)
    for stream in await client.jsm().streams_info():
        await client.jsm().delete_stream(stream.config.name)
    await client.close()
    return shared_nats_server

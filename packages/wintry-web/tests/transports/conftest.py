"""Brokers that tests may kill, one of each kind for the whole run, and the nursery of the services that they kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from redis.asyncio import Redis
from wintry_test_servers.databases import rabbitmq_virtual_host
from wintry_test_servers.nursery import Nursery
from wintry_test_servers.nursery import nursery as begin_nursery
from wintry_test_servers.run import Server

from .kinds import HASTE, KINDS
from .services import IMPORTED


class Broker:
    """A broker as one test sees it: with nothing in it, to be killed and restarted; the rest is as in its `Kind`."""

    def __init__(self, name: str, server: Server, url: str) -> None:
        self.name = name
        self.kind = KINDS[name]
        self.url = url
        self.kill, self.start, self.pause, self.resume = server.kill, server.start, server.pause, server.resume

    def connect(self, owner: str, lease: float = 40.0) -> Any:
        return self.kind.connect(self.url, owner, lease)

    async def left(self, channel: str, group: str) -> int:
        return await self.kind.left(self.url, channel, group)

    async def tell(self, channel: str, *bodies: bytes) -> None:
        await self.kind.tell(self.url, channel, bodies)


@asynccontextmanager
async def emptied(name: str, request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """The broker of this name, without anything that a test before has left, and running."""
    server = request.getfixturevalue(f"shared_{KINDS[name].server}_server")
    server.resume()
    server.start()  # a test that failed may have left it down
    with ExitStack() as stack:
        url = server.url
        match KINDS[name].transporter:
            case "rabbitmq":
                url = stack.enter_context(rabbitmq_virtual_host(url, server.control))
                stack.callback(server.start)  # so that it can delete that
                stack.callback(server.resume)
            case "redis":
                async with Redis.from_url(url) as client:
                    await client.flushall()
            case "nats":
                await without_streams(url)
        yield Broker(name, server, url)


async def without_streams(url: str) -> None:
    client = await nats.connect(url)
    for stream in await client.jsm().streams_info():
        await client.jsm().delete_stream(stream.config.name)
    await client.close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in HASTE:
        monkeypatch.setattr(module, name, value)


@pytest.fixture(params=[*KINDS])
async def broker(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Broker]:
    """Each broker; `parametrize("broker", […], indirect=True)` names those that a test is about."""
    async with emptied(request.param, request) as made:
        yield made


@pytest.fixture(params=["valkey", "redis"])
async def redis_broker(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Broker]:
    """Valkey, and the redis-server of the system."""
    async with emptied(request.param, request) as made:
        yield made


@pytest.fixture
async def rabbit(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Broker]:
    async with emptied("rabbitmq", request) as made:
        yield made


@pytest.fixture
async def nats_broker(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Broker]:
    async with emptied("nats", request) as made:
        yield made


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Where the services come from."""
    folder, here = tmp_path_factory.mktemp("nursery"), Path(__file__).parent
    with begin_nursery(folder, *IMPORTED, path=[here]) as made:
        yield made

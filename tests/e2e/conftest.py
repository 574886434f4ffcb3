"""The running service on every profile: processes of its own on free ports, killed and started at will."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from wintry_test_servers.nursery import Nursery
from wintry_test_servers.nursery import nursery as begin_nursery
from wintry_test_servers.run import Run
from wintry_test_servers.service import PROFILES, Predicate, Profile, Service, eventually

IMPORTED = (
    "aio_pika",
    "aiosqlite",
    "asyncpg",
    "nats",
    "pymongo",
    "redis.asyncio",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvicorn",
    "wintry.bus.component",
    "wintry.bus.durable",
    "wintry.repository.component",
    "wintry.repository.mongo",
    "wintry.repository.sql.dialects.postgresql",
    "wintry.repository.sql.dialects.sqlite",
    "wintry.web.serve",
    "wintry.web.transports.component",
    "wintry.web.transports.nats",
    "wintry.web.transports.rabbitmq",
    "wintry.web.transports.redis",
)
"""What a service imports before its own modules."""
ServiceFactory = Callable[..., Service]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", params=PROFILES)
def profile(request: pytest.FixtureRequest) -> Profile:
    """Each profile in turn: the whole suite runs unchanged on every one."""
    return PROFILES[request.param]


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Where the processes of services come from, which all import the same."""
    with begin_nursery(tmp_path_factory.mktemp("nursery"), *IMPORTED) as made:
        yield made


@pytest.fixture
async def make_service(
    profile: Profile, servers: Run, nursery: Nursery, tmp_path: Path
) -> AsyncIterator[ServiceFactory]:
    """Services of this test, not started yet; all of them are ended behind it. Those of one name share their stores."""
    made: list[Service] = []
    stores: dict[str, dict[str, str]] = {}

    with ExitStack() as stack:

        def make(name: str = "service", **environment: str) -> Service:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            if name not in stores:
                stores[name] = profile.stand(servers, stack)
            made.append(Service(folder, {**stores[name], **environment}, profile.processes, nursery))
            return made[-1]

        yield make
        for service in made:
            await service.close()


@pytest.fixture
async def service(make_service: ServiceFactory) -> Service:
    """A service that runs."""
    return await make_service().start()


@pytest.fixture(scope="module")
async def shared_service(
    profile: Profile, servers: Run, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """One service for the tests of a module that leave nothing behind which others would see."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("shared")
        service = Service(folder, profile.stand(servers, stack), profile.processes, nursery)
        yield await service.start()
        await service.close()


@pytest.fixture
def own() -> Callable[[str], str]:
    """Names that no other test gives, for those that share a service."""
    mark = uuid.uuid4().hex[:8]
    return lambda name: f"{name}-{mark}"


@pytest.fixture
def settled() -> Callable[[Predicate], Awaitable[Any]]:
    """`eventually`, for tests: wait for a condition instead of sleeping."""
    return eventually


@asynccontextmanager
async def events(service: Service) -> AsyncIterator[AsyncIterator[tuple[str, str]]]:
    """The event stream of the stock board: (event, data), one after another."""

    async def read(response: httpx2.Response) -> AsyncIterator[tuple[str, str]]:
        event, data = "message", ""
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                data += value
            elif not line and data:
                yield event, data
                event, data = "message", ""

    async with service.http.stream("GET", f"{service.url}/events", timeout=30) as response:
        assert response.status_code == 200
        yield read(response)


@pytest.fixture
def open_events() -> Callable[[Service], Any]:
    return events

"""The running service on every profile: processes of its own on free ports, killed and started at will."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from wintry_test_servers.run import Run
from wintry_test_servers.service import PROFILES, Predicate, Profile, Service, eventually

ServiceFactory = Callable[..., Service]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", params=PROFILES)
def profile(request: pytest.FixtureRequest) -> Profile:
    """Each profile in turn: the whole suite runs unchanged on every one."""
    return PROFILES[request.param]


@pytest.fixture
async def make_service(profile: Profile, servers: Run, tmp_path: Path) -> AsyncIterator[ServiceFactory]:
    """Services of this test, not started yet; all of them are ended behind it. Those of one name share their stores."""
    made: list[Service] = []
    stores: dict[str, dict[str, str]] = {}

    with ExitStack() as stack:

        def make(name: str = "service", **environment: str) -> Service:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            if name not in stores:
                stores[name] = profile.stand(servers, stack)
            made.append(Service(folder, {**stores[name], **environment}, profile.processes))
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
    profile: Profile, servers: Run, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """One service for the tests of a module that leave nothing behind which others would see."""
    with ExitStack() as stack:
        service = Service(tmp_path_factory.mktemp("shared"), profile.stand(servers, stack), profile.processes)
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

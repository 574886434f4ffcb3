"""The running service: a process of its own on a free port with a folder of its own, killed and started at will."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

START_SECONDS = 30.0
SETTLE_SECONDS = 30.0
PR_SET_PDEATHSIG = 1
Predicate = Callable[[], Awaitable[Any]]


def die_with_parent() -> None:
    """Let a service that a killed test run leaves behind die with it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


async def eventually(ask: Predicate, seconds: float = SETTLE_SECONDS) -> Any:
    """The first true answer of `ask`, asked again and again until the time is over."""
    until = time.monotonic() + seconds
    while not (answer := await ask()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:g} s; the last answer was {answer!r}")
        await asyncio.sleep(0.02)
    return answer


class Service:
    """The allocation service of one folder; `start` it, `kill` it or `stop` it, and start it again."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, "WINTRY_ACCESS_LOG": "false", "WINTRY_BUS__LEASE": "1", **environment}
        self.process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.log = folder / "service.log"
        self.http = httpx2.AsyncClient(timeout=30, limits=httpx2.Limits(max_connections=200))

    async def start(self, *arguments: str) -> Service:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "allocation",
                *("--port", "0", "--data", str(self.folder / "data"), *arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), START_SECONDS)
        if not line:
            raise AssertionError(f"the service did not start:\n{self.log.read_text()[-4000:]}")
        self.url = line.decode().split()[-1].rstrip("/")
        return self

    async def kill(self) -> None:
        """End it as a crash does: no warning, no chance to clean up."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def terminate(self) -> None:
        assert self.process is not None
        self.process.terminate()

    async def stop(self) -> int:
        """End it as an operator does, and give its exit code."""
        await self.terminate()
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), 60)

    async def post(self, path: str, **body: object) -> httpx2.Response:
        return await self.http.post(f"{self.url}{path}", json=body)

    async def get(self, path: str) -> httpx2.Response:
        return await self.http.get(f"{self.url}{path}")

    async def add_batch(self, ref: str, sku: str, qty: int, **more: object) -> None:
        answer = await self.post("/add_batch", ref=ref, sku=sku, qty=qty, **more)
        assert answer.status_code == 201, answer.text

    async def allocate(self, orderid: str, sku: str, qty: int = 1) -> httpx2.Response:
        return await self.post("/allocate", orderid=orderid, sku=sku, qty=qty)

    async def product(self, sku: str) -> dict[str, Any]:
        answer = await self.get(f"/products/{sku}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def lines(self, sku: str) -> list[tuple[str, str, int]]:
        """What the product says: (order, batch, quantity) of every line, doubled ones twice."""
        product = await self.product(sku)
        return sorted(
            (line["orderid"], batch["reference"], line["qty"])
            for batch in product["batches"]
            for line in batch["lines"]
        )

    async def view(self, orderid: str) -> list[tuple[str, str]]:
        """What the view says of an order: (sku, batch) of every line."""
        answer = await self.get(f"/allocations/{orderid}")
        if answer.status_code == 404:
            return []
        assert answer.status_code == 200, answer.text
        return sorted((row["sku"], row["batchref"]) for row in answer.json()["data"])

    async def views_agree(self, sku: str, orders: list[str]) -> None:
        """Wait until the view rows of these orders are what the product says."""

        async def agree() -> bool:
            said = {order: batch for order, batch, _ in await self.lines(sku)}
            rows = await asyncio.gather(*(self.view(order) for order in orders))
            return [dict(row).get(sku) for row in rows] == [said.get(order) for order in orders]

        await eventually(agree)

    async def close(self) -> None:
        await self.http.aclose()
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


ServiceFactory = Callable[..., Service]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def make_service(tmp_path: Path) -> AsyncIterator[ServiceFactory]:
    """Services of this test, not started yet; all of them are ended behind it."""
    made: list[Service] = []

    def make(name: str = "service", **environment: str) -> Service:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        made.append(Service(folder, environment))
        return made[-1]

    yield make
    for service in made:
        await service.close()


@pytest.fixture
async def service(make_service: ServiceFactory) -> Service:
    """A service that runs on the embedded profile."""
    return await make_service().start()


@pytest.fixture(scope="module")
async def shared_service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One service for the tests of a module that leave nothing behind which others would see."""
    service = Service(tmp_path_factory.mktemp("shared"), {})
    yield await service.start()
    await service.close()


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

"""The allocation service as its tests and the storm see it: processes of its own, killed and started at will.

What it stands on is a `Profile`: one of the application's settings files, and fresh databases on the run's servers.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from .daemon import die_with_parent
from .nursery import Forked, Nursery
from .plugin import database, server
from .run import Run

START_SECONDS = 30.0
# An idle connection is given up well before the service closes it (5 s), so that no request meets its end.
LIMITS = httpx2.Limits(max_connections=200, keepalive_expiry=2.0)
SETTLE_SECONDS = 60.0
SETTINGS = Path(__file__).parents[3] / "apps/allocation/src/allocation/settings"
Process = asyncio.subprocess.Process | Forked
Predicate = Callable[[], Awaitable[Any]]


async def reading(file: int) -> asyncio.StreamReader:
    """What is written into the other end of a pipe."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(file, "rb", 0))
    return reader


async def eventually(ask: Predicate, seconds: float = SETTLE_SECONDS) -> Any:
    """The first true answer of `ask`, asked again and again until the time is over."""
    until = time.monotonic() + seconds
    while not (answer := await ask()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:g} s; the last answer was {answer!r}")
        await asyncio.sleep(0.02)
    return answer


@dataclass(frozen=True)
class Profile:
    """What a service stands on: a settings file of the application, its servers, and how many processes it has.

    `servers` says which entries of the settings get the URL of a database on each kind of server.
    """

    settings: str
    servers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    processes: int = 1

    def stand(self, run: Run, stack: ExitStack) -> dict[str, str]:
        """Fresh databases, and the environment in which a service finds them."""
        environment = {"ALLOCATION_SETTINGS": str(SETTINGS / self.settings)}
        for kind, entries in self.servers.items():
            # NATS keeps no two tests apart, and starts in a moment.
            url = (
                stack.enter_context(server(run, kind)).url
                if kind == "nats"
                else stack.enter_context(database(run, kind))
            )
            environment |= dict.fromkeys(map(variable, entries), url)
        return environment


def variable(entry: str) -> str:
    """The environment variable with the URL of an entry of the settings, `backends.views` for one."""
    return f"WINTRY_{entry.replace('.', '__').upper()}__URL"


_SERVERS = {"postgres": ["backends.default"], "mongodb": ["backends.views"]}
_BACKENDS = ["backends.default", "backends.views"]
PROFILES = {
    "embedded": Profile("embedded.toml"),
    "servers": Profile("servers.toml", {**_SERVERS, "redis": ["transporters.redis"]}),
    "servers, two processes": Profile("servers.toml", {**_SERVERS, "redis": ["transporters.redis"]}, processes=2),
    "MongoDB, RabbitMQ": Profile("mongodb.toml", {"mongodb": _BACKENDS, "rabbitmq": ["transporters.rabbitmq"]}),
    "PostgreSQL, NATS": Profile("postgresql.toml", {"postgres": _BACKENDS, "nats": ["transporters.nats"]}),
    "servers, RabbitMQ, two processes": Profile(
        "rabbitmq.toml", {**_SERVERS, "rabbitmq": ["transporters.rabbitmq"]}, processes=2
    ),
}


class Service:
    """The allocation service: of one process, or of several on the same stores.

    `start` it, `crash` one process or `kill` all, `stop` it, and start it again. Requests take turns among its
    processes.
    """

    def __init__(
        self, folder: Path, environment: dict[str, str], processes: int = 1, nursery: Nursery | None = None
    ) -> None:
        """With a nursery its processes are forked there, else started."""
        self.folder = folder
        self.nursery = nursery
        settings = {"WINTRY_ACCESS_LOG": "false", "WINTRY_BUS__LEASE": "1", "ALLOCATION_DATA": str(folder / "data")}
        self.environment = {**os.environ, **settings, **environment}
        self.processes: list[Process | None] = [None] * processes
        self.urls = [""] * processes
        self.log = folder / "service.log"
        self.data = folder / "data"
        self.http = httpx2.AsyncClient(timeout=30, limits=LIMITS)
        self._turns = itertools.count()

    @property
    def url(self) -> str:
        """The address of the process whose turn it is."""
        return self.urls[next(self._turns) % len(self.urls)]

    async def start(self, *arguments: str) -> Service:
        """Start each process that does not run, all at once."""
        running = self._running()
        idle = [number for number, process in enumerate(self.processes) if process not in running]
        await asyncio.gather(*(self._start(number, *arguments) for number in idle))
        return self

    async def _start(self, number: int, *arguments: str) -> None:
        output, given = os.pipe()
        with self.log.open("ab") as log, os.fdopen(given, "wb") as written:
            process = await self.run(
                "allocation",
                *("--port", "0", "--data", str(self.data), *arguments),
                stdout=written.fileno(),
                stderr=log.fileno(),
            )
        self.processes[number] = process
        said = await reading(output)
        try:
            line = await asyncio.wait_for(said.readline(), START_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            line = b""
        if not line:
            raise AssertionError(f"the service did not start:\n{self.log.read_text()[-4000:]}")
        self.urls[number] = line.decode().split()[-1].rstrip("/")

    async def run(self, module: str, *arguments: str, stdout: int, stderr: int) -> Process:
        """`python -m module`, with the service's environment and in its folder."""
        if self.nursery is not None:
            return await self.nursery.run(
                module, *arguments, cwd=self.folder, environment=self.environment, stdout=stdout, stderr=stderr
            )
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", module, *arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=die_with_parent,
        )

    async def crash(self, chance: random.Random) -> None:
        """End one process, whichever chance says, with no warning and no time to clean up."""
        process = chance.choice(self._running())
        process.kill()
        await process.wait()

    async def kill(self) -> None:
        """End every process so, at once."""
        processes = self._running()
        for process in processes:
            process.kill()
        for process in processes:
            await process.wait()

    async def stop(self) -> list[int]:
        """End it as an operator does, and give the exit codes."""
        processes = self._running()
        for process in processes:
            process.terminate()
        return [await asyncio.wait_for(process.wait(), 60) for process in processes]

    def _running(self) -> list[Process]:
        return [process for process in self.processes if process is not None and process.returncode is None]

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
        """Wait until the view rows of these orders are what the product says.

        They are waited for one by one and looked at all together only then: asking for all of them again and again
        would take the time of the service that is to write them.
        """
        waiting = list(orders)

        async def one_by_one() -> bool:
            said = {order: batch for order, batch, _ in await self.lines(sku)}
            while waiting and dict(await self.view(waiting[-1])).get(sku) == said.get(waiting[-1]):
                waiting.pop()
            return not waiting

        async def together() -> bool:
            said = {order: batch for order, batch, _ in await self.lines(sku)}
            rows = await asyncio.gather(*(self.view(order) for order in orders))
            return [dict(row).get(sku) for row in rows] == [said.get(order) for order in orders]

        await eventually(one_by_one)
        await eventually(together)

    async def close(self) -> None:
        await self.http.aclose()
        await self.kill()

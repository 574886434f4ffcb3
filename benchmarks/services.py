"""The whole services that are measured: who they are, what they stand on, and their processes.

Every contender has databases of its own on the same servers, with the same settings of durability. The services of one
set run together, as long as cases ask for that set: what starts a service takes longer than a case in a smoke run.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from allocation.models import Batch, OrderLine, Product
from allocation.repositories import AllocationViewModelRepository, ProductRepository
from benchmarks.harness import kept
from benchmarks.harness.load import Clients, request
from benchmarks.peers.seed import seed as seed_peer
from benchmarks.servers import mongodb, postgres, redis
from wintry.repository import Backends

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "apps/allocation/src/allocation/settings"
START_SECONDS = 60.0
Urls = Mapping[str, str]  # of the databases by kind
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Contender:
    """A service: its application, how it is told of its databases, and how products get into them."""

    app: str
    environment: Callable[[Urls], dict[str, str]]
    seed: Callable[[Urls, Sequence[Product]], Awaitable[None]]
    options: Sequence[str] = ()


def product(sku: str, lines: int = 0) -> Product:
    """A product with a batch in the warehouse, which has so many lines already, and two that come later."""
    ordered = [OrderLine(qty=1, orderid=f"old-{n}", sku=sku, allocated_at=LONG_AGO) for n in range(lines)]
    return Product(
        sku=sku,
        batches=[
            Batch(reference=f"{sku}-later", purchased_quantity=1_000_000, sku=sku, eta=date(2030, 2, 1)),
            Batch(reference=f"{sku}-here", purchased_quantity=1_000_000, sku=sku, allocations=ordered),
            Batch(reference=f"{sku}-soon", purchased_quantity=1_000_000, sku=sku, eta=date(2030, 1, 1)),
        ],
    )


async def seed_tables(urls: Urls, products: Sequence[Product]) -> None:
    """Our tables of products and views, which the limit has too."""
    async with Backends(default=urls["default"], views=urls["views"]) as backends:
        ProductRepository(backends), AllocationViewModelRepository(backends)
        await backends.create_schema()
        await ProductRepository(backends).create_many(entities=[*products])


def ours(settings: str) -> Callable[[Urls], dict[str, str]]:
    def environment(urls: Urls) -> dict[str, str]:
        found = {"ALLOCATION_SETTINGS": str(SETTINGS / settings)}
        names = {"default": "BACKENDS__DEFAULT", "views": "BACKENDS__VIEWS", "redis": "TRANSPORTERS__REDIS"}
        return found | {f"WINTRY_{names[kind]}__URL": url for kind, url in urls.items()}

    return environment


def theirs(urls: Urls) -> dict[str, str]:
    return {f"BENCH_{kind.upper()}": url for kind, url in urls.items()}


@contextmanager
def on_servers() -> Iterator[Urls]:
    """PostgreSQL for the products and the journal, MongoDB for the views, Redis between services."""
    with postgres() as default, mongodb() as views, redis() as broker:
        yield {"default": default, "views": views, "redis": broker}


@contextmanager
def embedded() -> Iterator[Urls]:
    """Two SQLite files."""
    with tempfile.TemporaryDirectory(prefix="bench-service-") as folder:
        yield {"default": f"sqlite:///{folder}/default.db", "views": f"sqlite:///{folder}/views.db"}


@dataclass(frozen=True)
class Set:
    """Contenders that are measured against each other, and what each of them stands on."""

    databases: Callable[[], AbstractContextManager[Urls]]
    contenders: Mapping[str, Contender]


FASTAPI = "FastAPI, ORM, Beanie"
SERVERS = Set(
    on_servers,
    {
        "ours": Contender("allocation.app:app", ours("servers.toml"), seed_tables),
        "limit": Contender("benchmarks.limits.service_on_servers:app", theirs, seed_tables),
        FASTAPI: Contender("benchmarks.peers.service:app", theirs, seed_peer, ["--access-log"]),
    },
)
EMBEDDED = Set(
    embedded,
    {
        "ours": Contender("allocation.app:app", ours("embedded.toml"), seed_tables),
        "limit": Contender("benchmarks.limits.service_on_sqlite:app", theirs, seed_tables),
    },
)


class Service:
    """A contender on databases of its own, of one process or more, each with a port."""

    def __init__(self, contender: Contender, urls: Urls, folder: Path) -> None:
        self.contender = contender
        self.urls = urls
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.addresses: list[str] = []

    @property
    def log(self) -> Path:
        return self.folder / "service.log"

    async def seed(self, products: Sequence[Product]) -> None:
        """Put new products into its databases."""
        await self.contender.seed(self.urls, products)

    def start(self) -> None:
        """Start one process more."""
        environment = {**os.environ, **self.contender.environment(self.urls), "ALLOCATION_DATA": str(self.folder)}
        with socket.socket() as listening, self.log.open("ab") as log:
            listening.bind(("127.0.0.1", 0))
            listening.listen(2048)
            number = str(listening.fileno())
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.serve", self.contender.app, number, *self.contender.options],
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[listening.fileno()],
                )
            )
            self.addresses.append(f"http://127.0.0.1:{listening.getsockname()[1]}")

    async def answering(self, processes: int) -> list[str]:
        """The addresses of so many processes, each of which has answered before the next one is started."""
        for number in range(processes):
            if number == len(self.processes):
                self.start()
            address = self.addresses[number]
            try:
                (client,) = await Clients([address], 1).connect()
                status, body = await asyncio.wait_for(client.ask(request("GET", "/allocations/none")), START_SECONDS)
                client.transport.close()
            except (OSError, TimeoutError) as error:
                raise self.failed() from error
            if status != 404:
                raise AssertionError(f"{self.contender.app} answered {status} {body!r}")
        return self.addresses[:processes]

    def failed(self) -> AssertionError:
        return AssertionError(f"{self.contender.app} did not start:\n{self.log.read_text('utf-8')[-4000:]}")

    def memory(self) -> float:
        """MiB of the largest process, as the kernel counts its resident pages."""
        pages = [int(Path(f"/proc/{p.pid}/statm").read_text().split()[1]) for p in self.processes]
        return max(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def end(self) -> None:
        """End it at once: its databases are dropped, so nothing is to be put in order."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


class Running:
    """The services of the set that was asked for last."""

    def __init__(self) -> None:
        self.set: Set | None = None
        self.services: dict[str, Service] = {}
        self.stack = ExitStack()

    async def enter(self, wanted: Set) -> dict[str, Service]:
        """End the services of another set, and begin those of this one: all at once, as each takes a while."""
        if self.set is not wanted:
            self.close()
            self.set = wanted
            for name, contender in wanted.contenders.items():
                folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-service-")))
                urls = self.stack.enter_context(wanted.databases())
                self.services[name] = Service(contender, urls, folder)
            for service in self.services.values():
                await service.seed([])  # the tables, which no process shall meet half made
                service.start()
        return self.services

    def close(self) -> None:
        for service in self.services.values():
            service.end()
        self.services, self.set = {}, None
        self.stack.close()


running = Running()
kept.callback(running.close)


async def service(of: Set, name: str, products: Sequence[Product], processes: int = 1) -> Service:
    """The running service of a contender, with these products."""
    found = (await running.enter(of))[name]
    await found.seed(products)
    await found.answering(processes)
    return found

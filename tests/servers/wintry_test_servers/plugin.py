"""The fixtures, for all suites of the workspace: `-p wintry_test_servers.plugin`. NAME is a name of `kinds.KINDS`.

    NAME_url            a fresh database for the test, on the shared server of the run; a virtual host of RabbitMQ, but on
                        a server of somebody else the one of its URL; the NATS of the run: there names have to be fresh
    shared_NAME_url     the same, for a module
    NAME_server         a server of the test's own: kill, stop, start, pause
    shared_NAME_server  the same, for all tests of the process that ask for it, which clean up between them
    servers             the run, for what the fixtures do not say

`redis_system_url` is so one on the system's redis-server. `mongodb_standalone_url` is a MongoDB of the test's own that is
no replica set. Nothing is started for a test that asks for nothing. Where a server cannot be had the test is skipped with
the reason; it fails instead if TEST_WINTRY_REQUIRE (names, separated by commas) has the server's name.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from .databases import mongodb_database, postgres_database, rabbitmq_virtual_host, redis_database
from .kinds import KINDS
from .programs import Missing
from .run import Run, Server

RUN = pytest.StashKey[Run]()
ADDRESS = "wintry_test_servers"
Scope = Literal["function", "module", "session"]


def pytest_configure(config: pytest.Config) -> None:
    handed: dict[str, Any] = getattr(config, "workerinput", {})  # what a controller of pytest-xdist sent
    config.stash[RUN] = Run(handed.get(ADDRESS))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput[ADDRESS] = node.config.stash[RUN].address


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[RUN].close()


@contextmanager
def available(kind: str) -> Iterator[None]:
    """Skip what lacks this server, or fail it if the server is required."""
    try:
        yield
    except Missing as error:
        if kind in os.environ.get("TEST_WINTRY_REQUIRE", "").split(","):
            pytest.fail(f"{kind} is required by TEST_WINTRY_REQUIRE: {error}", pytrace=False)
        pytest.skip(f"{kind}: {error}")


@contextmanager
def database(run: Run, kind: str) -> Iterator[str]:
    """A fresh database on the shared server of a kind."""
    with ExitStack() as stack:
        if kind == "mongodb-standalone":
            yield stack.enter_context(server(run, kind)).url
            return
        with available(kind):
            url = run.url(kind)
        match kind.partition("-")[0]:
            case "postgres":
                yield stack.enter_context(postgres_database(url))
            case "mongodb":
                yield stack.enter_context(mongodb_database(url))
            case "rabbitmq":
                control = run.control(kind)
                yield stack.enter_context(rabbitmq_virtual_host(url, control)) if control else url
            case "redis":
                yield stack.enter_context(redis_database(url, run))
            case _:
                yield url


@contextmanager
def server(run: Run, kind: str) -> Iterator[Server]:
    """A server for nobody else."""
    with ExitStack() as stack:
        with available(kind):
            made = stack.enter_context(run.own(kind))
        yield made


def excuse_cancelled_connects(config: pytest.Config, kind: str, url: str) -> None:
    """PyMongo leaves a socket to the collector when it is cancelled while it connects: no leak of whoever cancelled.

    What it has connected is a transport, whose warning is another one and stays an error.
    """
    if not kind.startswith("mongodb"):
        return
    message = f"unclosed <socket.* {urlsplit(url).port}\\)>$"
    line = f"ignore:{message}:ResourceWarning"
    if line not in config.getini("filterwarnings"):
        config.addinivalue_line("filterwarnings", line)  # for the tests that come
    warnings.filterwarnings("ignore", message, ResourceWarning)  # for this one


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Run:
    """The servers of this run: `with servers.own("redis") as broker: …`."""
    run = pytestconfig.stash[RUN]
    # From here and not from any thread of a test: with the thread that starts it the supervisor ends.
    assert run.address
    return run


def url_fixture(kind: str, name: str, scope: Scope) -> Any:
    @pytest.fixture(name=name, scope=scope)
    def url(servers: Run, pytestconfig: pytest.Config) -> Iterator[str]:
        with database(servers, kind) as made:
            excuse_cancelled_connects(pytestconfig, kind, made)
            yield made

    return url


def server_fixture(kind: str, name: str, scope: Scope) -> Any:
    @pytest.fixture(name=name, scope=scope)
    def own(servers: Run, pytestconfig: pytest.Config) -> Iterator[Server]:
        with server(servers, kind) as made:
            excuse_cancelled_connects(pytestconfig, kind, made.url)
            yield made

    return own


def fixtures() -> Iterator[tuple[str, Any]]:
    """Four of each kind, by name."""
    for kind in KINDS:
        name = kind.replace("-", "_")
        yield f"{name}_url", url_fixture(kind, f"{name}_url", "function")
        yield f"shared_{name}_url", url_fixture(kind, f"shared_{name}_url", "module")
        yield f"{name}_server", server_fixture(kind, f"{name}_server", "function")
        yield f"shared_{name}_server", server_fixture(kind, f"shared_{name}_server", "session")


globals().update(fixtures())

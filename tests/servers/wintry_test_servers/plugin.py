"""The fixtures, for all suites of the workspace: `-p wintry_test_servers.plugin`.

    postgres_url  mongodb_url  redis_url                   a fresh database for the test, on the shared server
    shared_postgres_url  shared_mongodb_url  shared_redis_url           the same, for a module
    postgres_system_url  redis_system_url                  as `…_url`, on the system's PostgreSQL and redis-server
    mongodb_standalone_url                                 a MongoDB of the test's own that is no replica set
    rabbitmq_url                                           a fresh virtual host for the test; on a server of somebody
                                                           else the one of its URL, where names have to be fresh
    postgres_server  mongodb_server  redis_server          a server of the test's own: kill, stop, start, pause
    nats_server  shared_nats_server                        a NATS of the test's own, and of a module's
    redis_system_server                                    the same, the system's redis-server
    rabbitmq_server  shared_rabbitmq_server                the same, for a test and for a module
    shared_redis_server  shared_redis_system_server        the same, for a module, which cleans up between its tests
    servers                                                the run, for what the fixtures do not say

Nothing is started for a test that asks for nothing. Where a server cannot be had the test is skipped with the reason;
it fails instead if TEST_WINTRY_REQUIRE (names, separated by commas) has the server's name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from .databases import mongodb_database, postgres_database, rabbitmq_virtual_host, redis_database
from .programs import Missing
from .run import Run, Server

RUN = pytest.StashKey[Run]()
ADDRESS = "wintry_test_servers"


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
    with available(kind):
        url = run.url(kind)
    with ExitStack() as stack:
        match kind.partition("-")[0]:
            case "postgres":
                yield stack.enter_context(postgres_database(url))
            case "mongodb":
                yield stack.enter_context(mongodb_database(url))
            case "rabbitmq":
                control = run.control(kind)
                yield stack.enter_context(rabbitmq_virtual_host(url, control)) if control else url
            case _:
                yield stack.enter_context(redis_database(url, run))


@contextmanager
def server(run: Run, kind: str) -> Iterator[Server]:
    """A server for nobody else."""
    with ExitStack() as stack:
        with available(kind):
            made = stack.enter_context(run.own(kind))
        yield made


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Run:
    """The servers of this run: `with servers.own("redis") as broker: …`."""
    run = pytestconfig.stash[RUN]
    # From here and not from any thread of a test: with the thread that starts it the supervisor ends.
    assert run.address
    return run


@pytest.fixture
def postgres_url(servers: Run) -> Iterator[str]:
    """An empty database on PostgreSQL, dropped behind the test."""
    with database(servers, "postgres") as url:
        yield url


@pytest.fixture(scope="module")
def shared_postgres_url(servers: Run) -> Iterator[str]:
    """An empty database on PostgreSQL, dropped behind the module."""
    with database(servers, "postgres") as url:
        yield url


@pytest.fixture
def postgres_system_url(servers: Run) -> Iterator[str]:
    """An empty database on the PostgreSQL of the system, where it has one."""
    with database(servers, "postgres-system") as url:
        yield url


@pytest.fixture(scope="module")
def shared_postgres_system_url(servers: Run) -> Iterator[str]:
    """An empty database on the PostgreSQL of the system, dropped behind the module."""
    with database(servers, "postgres-system") as url:
        yield url


@pytest.fixture
def mongodb_url(servers: Run) -> Iterator[str]:
    """A new database on MongoDB, a replica set of one; dropped behind the test."""
    with database(servers, "mongodb") as url:
        yield url


@pytest.fixture(scope="module")
def shared_mongodb_url(servers: Run) -> Iterator[str]:
    """A new database on MongoDB, dropped behind the module."""
    with database(servers, "mongodb") as url:
        yield url


@pytest.fixture
def mongodb_standalone_url(servers: Run) -> Iterator[str]:
    """A MongoDB that is no replica set, for nobody else."""
    with server(servers, "mongodb-standalone") as made:
        yield made.url


@pytest.fixture
def redis_url(servers: Run) -> Iterator[str]:
    """An empty database on Valkey, emptied behind the test; channels of PUBLISH are shared with other tests."""
    with database(servers, "redis") as url:
        yield url


@pytest.fixture(scope="module")
def shared_redis_url(servers: Run) -> Iterator[str]:
    """An empty database on Valkey, emptied behind the module."""
    with database(servers, "redis") as url:
        yield url


@pytest.fixture
def redis_system_url(servers: Run) -> Iterator[str]:
    """An empty database on the redis-server of the system, where it has one."""
    with database(servers, "redis-system") as url:
        yield url


@pytest.fixture
def postgres_server(servers: Run) -> Iterator[Server]:
    """A PostgreSQL of the test's own, to be killed and restarted."""
    with server(servers, "postgres") as made:
        yield made


@pytest.fixture
def mongodb_server(servers: Run) -> Iterator[Server]:
    """A MongoDB of the test's own, to be killed and restarted."""
    with server(servers, "mongodb") as made:
        yield made


@pytest.fixture
def redis_server(servers: Run) -> Iterator[Server]:
    """A Valkey of the test's own, to be killed and restarted; its channels are the test's alone."""
    with server(servers, "redis") as made:
        yield made


@pytest.fixture
def nats_url(servers: Run) -> str:
    """The NATS of the run, or of somebody else: its streams are shared with other tests, so names are to be new."""
    with available("nats"):
        return servers.url("nats")


@pytest.fixture
def nats_server(servers: Run) -> Iterator[Server]:
    """A NATS of the test's own, to be killed and restarted."""
    with server(servers, "nats") as made:
        yield made


@pytest.fixture(scope="module")
def shared_nats_server(servers: Run) -> Iterator[Server]:
    """A NATS of the module's own, to be killed and restarted."""
    with server(servers, "nats") as made:
        yield made


@pytest.fixture
def redis_system_server(servers: Run) -> Iterator[Server]:
    """A redis-server of the system for the test alone, to be killed and restarted, where it has one."""
    with server(servers, "redis-system") as made:
        yield made


@pytest.fixture(scope="module")
def shared_redis_server(servers: Run) -> Iterator[Server]:
    """A Valkey of the module's own, to be killed and restarted."""
    with server(servers, "redis") as made:
        yield made


@pytest.fixture(scope="module")
def shared_redis_system_server(servers: Run) -> Iterator[Server]:
    """A redis-server of the system for the module alone, to be killed and restarted, where it has one."""
    with server(servers, "redis-system") as made:
        yield made


@pytest.fixture
def rabbitmq_url(servers: Run) -> Iterator[str]:
    """An empty virtual host on RabbitMQ, deleted behind the test."""
    with database(servers, "rabbitmq") as url:
        yield url


@pytest.fixture
def rabbitmq_server(servers: Run) -> Iterator[Server]:
    """A RabbitMQ of the test's own, to be killed and restarted."""
    with server(servers, "rabbitmq") as made:
        yield made


@pytest.fixture(scope="module")
def shared_rabbitmq_server(servers: Run) -> Iterator[Server]:
    """A RabbitMQ of the module's own, to be killed and restarted; `control` makes virtual hosts on it."""
    with server(servers, "rabbitmq") as made:
        yield made

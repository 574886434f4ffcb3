"""MongoDB: mongod as a replica set of one, which is what gives it transactions, or alone, for tests of what says so.

The set is initiated at the first start. After a restart the one member elects itself, so that in both cases the
server is ready when it is the primary. Test commands (`configureFailPoint`) are enabled. The log of WiredTiger is not
allocated ahead: that alone would be 300 MB a server.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .daemon import Daemon
from .programs import Missing, in_wheel

REPLICA_SET = "wintry"
CURL = "libcurl.so.4"
PARAMETERS = (
    "enableTestCommands=1",
    "diagnosticDataCollectionEnabled=false",
    # What a killed process had begun is in everybody's way until the server gives it up: after a minute, if not told so.
    "transactionLifetimeLimitSeconds=5",
)


class MongoDB(Daemon):
    """A mongod without authentication, the primary of its own replica set."""

    title = "MongoDB"

    def __init__(self, program: Path, folder: Path) -> None:
        super().__init__(program, folder)
        self.data = folder / "data"
        self.variables: Mapping[str, str] = {}

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet={REPLICA_SET}"

    @property
    def roles(self) -> list[str | Path]:
        return ["--replSet", REPLICA_SET]

    async def prepare(self) -> None:
        self.variables = with_curl(self.folder)
        self.data.mkdir()

    def environment(self) -> Mapping[str, str]:
        return self.variables

    def command(self) -> list[str | Path]:
        options = ["--bind_ip", "127.0.0.1", "--port", str(self.port), "--nounixsocket"]
        options += ["--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"]
        options += ["--wiredTigerEngineConfigString", "log=(file_max=8MB,prealloc=false)"]
        options += [word for parameter in PARAMETERS for word in ("--setParameter", parameter)]
        return [self.program, "--dbpath", self.data, *self.roles, *options]

    async def ready(self) -> bool:
        if not listens(self.port):
            return False
        from pymongo import AsyncMongoClient
        from pymongo.errors import PyMongoError

        # One attempt, on this server alone: the caller asks again.
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=2_000
        )
        async with client:
            try:
                hello = await client.admin.command("hello")
                if not hello.get("setName") and hello.get("isreplicaset"):
                    member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
                    await client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
                    hello = await client.admin.command("hello")
                return bool(hello.get("isWritablePrimary"))
            except PyMongoError:
                return False


class StandaloneMongoDB(MongoDB):
    """A mongod that is no replica set: it has no transactions."""

    title = "MongoDB without a replica set"

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"

    @property
    def roles(self) -> list[str | Path]:
        return []


def with_curl(folder: Path) -> Mapping[str, str]:
    """Variables with which mongod finds the libcurl that small images lack: the wheel of pycurl carries one."""
    try:
        ctypes.CDLL(CURL)
    except OSError:
        library = in_wheel("pycurl", "../pycurl.libs/libcurl-*.so.4*")
        if library is None:
            raise Missing(f"mongod needs {CURL}: install libcurl4 on the system, or the wheel of pycurl") from None
        (folder / "lib").mkdir()
        (folder / "lib" / CURL).symlink_to(library.resolve())
        return {"LD_LIBRARY_PATH": f"{folder / 'lib'}:{library.parent.resolve()}"}
    return {}


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0

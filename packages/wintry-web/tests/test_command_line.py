"""`python -m wintry.web` and `serve`, each as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from wintry.web.serve import bound

DRAIN_SECONDS = 10.0
"""How long the settings let a server wait for what does not end by itself."""

SHOP = """
import asyncio
import gc
from collections.abc import AsyncIterator

from wintry.web import App, DataResponse, ServerSentEvent, controller, get


@controller(prefix="/prices")
class PricesController:
    @get("/{sku}")
    async def price(self, sku: str) -> DataResponse[int]:
        return DataResponse(data=len(sku))

    @get("/slow/{seconds}")
    async def slow(self, seconds: float) -> DataResponse[str]:
        await asyncio.sleep(seconds)
        return DataResponse(data="done")

    @get("/kept")
    async def kept(self) -> int:
        return gc.get_freeze_count()

    @get("/ticks")
    async def ticks(self) -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(data="tick")
        await asyncio.Event().wait()


app = App(__name__)
"""

STUCK = """
import asyncio
from contextlib import nullcontext

from wintry.web import App


class Stuck:
    name, after, settings, errors, intake = "stuck", (), None, {}, True

    def providers(self, settings):
        return {}

    def collecting(self):
        return nullcontext([])

    async def start(self, container): ...

    async def check(self):
        return {}

    async def drain(self, deadline):
        print("draining", flush=True)
        await asyncio.Event().wait()

    async def stop(self): ...


app = App(__name__, components=[Stuck()])
"""


STICKING = """
from collections.abc import Iterator

from wintry.ioc import provider
from wintry.web import App, controller, get


class Door: ...


@provider
def door() -> Iterator[Door]:
    yield Door()
    raise RuntimeError("it sticks")


@controller
class DoorsController:
    door: Door

    @get("/doors")
    async def doors(self) -> int:
        return 1


app = App(__name__, components=[])
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wintry.web", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.contract("WEB-317")
class TestWords:
    def test_check_finds_no_fault_or_shows_all(self, shop: Path) -> None:
        assert run(shop, "check", "shop:app").stdout == "No faults.\n"

        (shop / "shop.py").write_text(SHOP.replace('"/{sku}"', '"{sku}"'))
        done = run(shop, "check", "shop:app")

        assert done.returncode == 3
        assert "does not begin with a slash" in done.stderr
        assert "Traceback" not in done.stderr

    def test_routes_lists_what_is_answered(self, shop: Path) -> None:
        lines = run(shop, "routes", "shop:app").stdout.splitlines()

        assert "GET     /prices/{sku}  prices.price" in lines

    def test_openapi_prints_the_description(self, shop: Path) -> None:
        description = json.loads(run(shop, "openapi", "shop:app").stdout)

        assert "/prices/{sku}" in description["paths"]

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("shop", "'shop' names no application; write package.module:name"),
            ("nowhere:app", "there is no module 'nowhere'"),
            ("shop:nobody", "shop has no 'nobody'"),
            ("shop:SHOP", "shop has no 'SHOP'"),
            ("shop:asyncio", "shop:asyncio is a module, not an App"),
        ],
    )
    def test_what_is_no_application_is_one_line(self, shop: Path, name: str, reason: str) -> None:
        done = run(shop, "check", name)

        assert (done.returncode, done.stderr) == (1, f"wintry.web: {reason}\n")


@pytest.mark.contract("WEB-317")
@pytest.mark.parametrize("port", ["-1", "65536", "99999"])
def test_a_port_that_is_none_is_one_line(shop: Path, port: str) -> None:
    done = run(shop, "serve", "shop:app", "--port", port)

    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        f"wintry.web: cannot serve on 127.0.0.1:{port}: a port is a number from 0 to 65535",
    )


@pytest.mark.contract("WEB-317")
def test_only_the_address_is_blamed_on_the_address() -> None:
    with pytest.raises(OSError, match="broken") as raised, bound("127.0.0.1", 0) as listening:
        raise BrokenPipeError("broken")
    assert type(raised.value) is BrokenPipeError
    assert listening.fileno() == -1


class Served:
    """The shop, served by a process."""

    def __init__(self, folder: Path) -> None:
        self.connections: list[socket.socket] = []
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wintry.web", "serve", "shop:app", "--port", str(self.port)],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "Serving on" in line:
                break

    def connect(self, path: str) -> socket.socket:
        """Send a request and leave the answer to be read."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.connections.append(connection)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return connection

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


def wait_until_refused(port: int) -> None:
    """Wait until nobody listens any more, which is how a signal shows from outside."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return


def read_all(connection: socket.socket) -> str:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received.decode()


@pytest.fixture
def served(shop: Path) -> Iterator[Served]:
    served = Served(shop)
    yield served
    served.close()


@pytest.mark.contract("WEB-319")
def test_what_the_start_has_made_is_kept_from_the_collector(served: Served) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/prices/kept", timeout=30) as answer:
        assert json.load(answer) > 10_000


@pytest.mark.contract("WEB-318")
class TestEnd:
    def test_a_signal_lets_requests_finish_ends_streams_and_exits_with_0(self, served: Served) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/prices/TABLE") as answer:
            assert json.load(answer)["data"] == 5
        slow, stream = served.connect("/prices/slow/0.5"), served.connect("/prices/ticks")
        assert "data: tick" in stream.recv(65536).decode() + stream.recv(65536).decode()

        served.process.send_signal(signal.SIGTERM)
        told = time.monotonic()

        assert '"data":"done"' in read_all(slow)
        read_all(stream)  # it ends
        assert time.monotonic() - told < DRAIN_SECONDS, "it did not wait to be cut"
        assert served.process.wait(timeout=30) == 0

    def test_a_connection_that_stays_open_is_answered_once_more_and_told_to_close(self, served: Served) -> None:
        slow, kept = served.connect("/prices/slow/1.0"), served.connect("/prices/TABLE")
        assert b"connection: close" not in kept.recv(65536)

        served.process.send_signal(signal.SIGTERM)
        wait_until_refused(served.port)
        kept.sendall(b"GET /prices/STOOL HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert "connection: close" in read_all(kept)
        read_all(slow)
        assert served.process.wait(timeout=30) == 0

    def test_a_second_signal_does_not_wait(self, served: Served) -> None:
        served.connect("/prices/slow/60")

        served.process.send_signal(signal.SIGINT)
        wait_until_refused(served.port)
        served.process.send_signal(signal.SIGINT)

        assert served.process.wait(timeout=DRAIN_SECONDS) == 0

    def test_a_second_signal_does_not_wait_for_what_will_not_drain_either(self, tmp_path: Path) -> None:
        (tmp_path / "stuck.py").write_text(STUCK)
        process = subprocess.Popen(
            [sys.executable, "-m", "wintry.web", "serve", "stuck:app", "--port", "0"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout, process.stderr:
            next(line for line in process.stderr if "Serving on" in line)

            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "draining\n"
            process.send_signal(signal.SIGTERM)

            assert process.wait(timeout=20) == 0

    def test_what_does_not_end_cleanly_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "sticking.py").write_text(STICKING)
        process = subprocess.Popen(
            [sys.executable, "-m", "wintry.web", "serve", "sticking:app", "--port", "0"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        with process.stderr:
            next(line for line in process.stderr if "Serving on" in line)
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()

        assert process.wait(timeout=20) == 1
        assert "The application did not end cleanly" in said
        assert "RuntimeError: it sticks" in said


@pytest.mark.contract("WEB-500")
@pytest.mark.parametrize(("access_log", "lines"), [("true", ["wintry"]), ("false", ["uvicorn"])])
def test_under_uvicorn_a_request_has_one_line(shop: Path, access_log: str, lines: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "shop:app", "--port", "0"],
        cwd=shop,
        env={**os.environ, "WINTRY_ACCESS_LOG": access_log},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        started = next(line for line in process.stdout if "Uvicorn running on" in line)
        urllib.request.urlopen(f"{started.split()[4]}/prices/TABLE").close()
        process.terminate()
        said = process.stdout.readlines()
    process.wait(timeout=30)

    whose = ["wintry" if '"request_id"' in line else "uvicorn" for line in said if "/prices/TABLE" in line]
    assert whose == lines

"""The tutorial's application, run as the tutorial says: `uvicorn tuto.app:app --reload --port …` in a folder with `tuto`.

The databases are those of the tests: variables of the environment stand above the URLs of `app.py`. A broker is for one
application alone, since two of them would share what is PUBLISHed there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis
from wintry_test_servers.plugin import server
from wintry_test_servers.run import Run

HERE = Path(__file__).parent
SECONDS = 45.0
# Becomes the program that it is given, and is sent SIGTERM (15) when the test run is killed: prctl(PR_SET_PDEATHSIG).
# The reloader then ends its worker as well.
ENDS_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
ADDRESS = re.compile(r"Uvicorn running on (\S+) ")


def eventually(ask: Callable[[], Any]) -> Any:
    """The first true answer of `ask`, asked again and again until the time is over."""
    until = time.monotonic() + SECONDS
    while not (answer := ask()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {SECONDS:g} s; the last answer was {answer!r}")
        time.sleep(0.02)
    return answer


class Tutorial:
    """The running application: its folder, process, log, HTTP client and broker."""

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        self.folder = folder
        self.package = folder / "tuto"
        self.log = folder / "uvicorn.log"
        self.urls = urls
        self.broker = Redis.from_url(urls["redis"], decode_responses=True)
        shutil.copytree(HERE / "tuto", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        uvicorn = Path(sys.executable).with_name("uvicorn")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", ENDS_WITH_PARENT, uvicorn, "tuto.app:app", "--reload", "--port", "0"],
                cwd=folder,
                env={
                    **os.environ,
                    "WINTRY_BACKENDS__DEFAULT__URL": urls["postgres"],
                    "WINTRY_BACKENDS__MONGO__URL": urls["mongodb"],
                    "WINTRY_TRANSPORTERS__REDIS__URL": urls["redis"],
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        address = eventually(lambda: ADDRESS.search(self.said()) or self.process.poll() is not None)
        assert address is not True, self.said()
        self.http = httpx2.Client(base_url=address[1], timeout=SECONDS)
        self.wait_until_up()

    def said(self) -> str:
        return self.log.read_text("utf-8")

    def says(self, text: str, times: int = 1) -> None:
        """Wait until the log has the text so often."""
        eventually(lambda: self.said().count(text) >= times)

    def wait_until_up(self, starts: int = 1) -> None:
        """Until it answers, and hears what is PUBLISHed, after so many starts."""
        eventually(
            lambda: self.said().count("Application startup complete.") >= starts or self.process.poll() is not None
        )
        assert self.process.poll() is None, self.said()
        channels = ("change_batch_quantity", "line_allocated")
        eventually(lambda: all(count for _, count in self.broker.pubsub_numsub(*channels)))

    def add_batch(self, ref: str, sku: str, qty: int, **more: object) -> httpx2.Response:
        return self.http.post("/add_batch", json={"ref": ref, "sku": sku, "qty": qty, **more})

    def allocate(self, orderid: str, sku: str, qty: int) -> httpx2.Response:
        return self.http.post("/allocate", json={"orderid": orderid, "sku": sku, "qty": qty})

    def batch_of(self, orderid: str) -> str | None:
        """The batch that the view names for an order of one line, None where it has none."""
        answer = self.http.get(f"/allocations/{orderid}")
        if answer.status_code == 404:
            return None
        (row,) = answer.json()["data"]
        return str(row["batchref"])

    def interrupt(self) -> int:
        """Press Ctrl-C, which a terminal sends to the whole group; gives the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(SECONDS)

    def terminate(self) -> int:
        """Tell the process to end, as an operator's tools do; gives the exit code."""
        self.process.terminate()
        return self.process.wait(SECONDS)

    def close(self) -> None:
        self.http.close()
        self.broker.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(SECONDS)

    def gone(self) -> bool:
        """Whether no process of its group is left."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


@contextmanager
def running(folder: Path, postgres: str, mongodb: str, run: Run) -> Iterator[Tutorial]:
    with server(run, "redis") as broker:
        started = Tutorial(folder, {"postgres": postgres, "mongodb": mongodb, "redis": broker.url})
        try:
            yield started
        finally:
            started.close()


@pytest.fixture(scope="module")
def shared_tutorial(
    tmp_path_factory: pytest.TempPathFactory, shared_postgres_url: str, shared_mongodb_url: str, servers: Run
) -> Iterator[Tutorial]:
    """One application for the tests that only use it, each with skus of its own."""
    folder = tmp_path_factory.mktemp("tutorial")
    with running(folder, shared_postgres_url, shared_mongodb_url, servers) as started:
        yield started


@pytest.fixture
def tutorial(tmp_path: Path, postgres_url: str, mongodb_url: str, servers: Run) -> Iterator[Tutorial]:
    """An application that the test may change and end."""
    with running(tmp_path, postgres_url, mongodb_url, servers) as started:
        yield started


@pytest.fixture
def settled() -> Callable[[Callable[[], Any]], Any]:
    """`eventually`, for tests: wait for a condition instead of sleeping."""
    return eventually

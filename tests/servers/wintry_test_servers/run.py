"""The servers of a test run, as one process of the run sees them: the supervisor's client.

The process that begins the run (the controller of pytest-xdist, or the only process there is) starts the supervisor
and closes the pipe to it in the end; the workers get the address alone. A `Server` is a handle: what it is asked goes
to the supervisor, and returns when it is done. The calls block; a test whose own event loop must go on meanwhile
makes them by `asyncio.to_thread`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .daemon import Failed
from .kinds import KINDS
from .programs import Missing, open_to_all
from .rabbitmq import CONTROL
from .supervisor import LOG, PREFIX

REPLY_SECONDS = 200.0  # more than any start and stop that the supervisor waits for
END_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    """A server of the run; `url` and `port` stay the same over kill and restart."""

    run: Run
    number: int
    url: str
    port: int
    log: Path

    def kill(self) -> None:
        """End it as a crash does: SIGKILL for it and its children."""
        self._act("kill")

    def stop(self) -> None:
        """End it as an operator does, and wait for it."""
        self._act("stop")

    def start(self) -> None:
        """Start it again, on the same port and data, and wait until it serves."""
        self._act("start")

    @property
    def control(self) -> Path:
        """The socket by which a RabbitMQ makes virtual hosts (`databases.rabbitmq_virtual_host`)."""
        return self.log.with_name(CONTROL)

    def restart(self) -> None:
        """`stop`, if it runs, and `start`."""
        self._act("stop")
        self._act("start")

    def pause(self) -> None:
        """Let it hang, with its connections open, until `resume`."""
        self._act("pause")

    def resume(self) -> None:
        self._act("resume")

    def _act(self, action: str) -> None:
        self.run.ask("act", server=self.number, action=action)


class Run:
    """The servers of this test run; with an address those of a run that another process began."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """The path of the supervisor's socket, which is in the run's folder; starts the supervisor if none runs."""
        if self._address is None:
            self._address = self._begin()
        return self._address

    def url(self, kind: str) -> str:
        """The URL of the shared server of a kind, started if it is not: the one from the environment, if it names one.

        Raises:
            Missing: there is no program for it here.
            Failed: its program does not start.
        """
        variable = KINDS[kind].variable
        return (variable and os.environ.get(variable)) or str(self.ask("share", kind=kind)["url"])

    def control(self, kind: str) -> Path | None:
        """The `Server.control` of the shared server of a kind; none if it is one from the environment."""
        variable = KINDS[kind].variable
        if variable and os.environ.get(variable):
            return None
        return Path(self.ask("share", kind=kind)["log"]).with_name(CONTROL)

    @contextmanager
    def own(self, kind: str) -> Iterator[Server]:
        """A server of this kind for nobody else, to be killed and restarted at will; never one from the environment.

        Raises:
            Missing: there is no program for it here.
            Failed: its program does not start.
        """
        made = self.ask("begin", kind=kind)
        try:
            yield Server(self, made["server"], made["url"], made["port"], Path(made["log"]))
        finally:
            self.ask("discard", server=made["server"])

    @contextmanager
    def number(self) -> Iterator[int]:
        """The lowest number from 1 that no other test of the run holds now."""
        taken = self.ask("take")
        try:
            yield taken
        finally:
            self.ask("give", number=taken)

    def ask(self, do: str, **arguments: object) -> Any:
        """Send a request and wait for its reply; from any thread, one at a time."""
        with self._lock:
            if self._connection is None:
                self._connection = socket.socket(socket.AF_UNIX)
                self._connection.settimeout(REPLY_SECONDS)
                self._connection.connect(self.address)
            self._connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            reply = b""
            while not reply.endswith(b"\n"):
                if not (part := self._connection.recv(65_536)):
                    raise Failed(f"the supervisor of the servers ended:\n{self._log()}")
                reply += part
        answer = json.loads(reply)
        if "missing" in answer:
            raise Missing(answer["missing"])
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer["ok"]

    def close(self) -> None:
        """Give back what this process holds; end all servers, if it began the run."""
        if self._connection is not None:
            self._connection.close()
        if self._supervisor is not None:
            assert self._supervisor.stdin is not None
            self._supervisor.stdin.close()
            self._supervisor.wait(END_SECONDS)

    def _begin(self) -> str:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent()))
        folder.chmod(0o711)  # PostgreSQL may run as another user than the tests
        address = str(folder / "socket")
        with socket.socket(socket.AF_UNIX) as listening, (folder / LOG).open("wb") as log:
            try:
                listening.bind(address)
                listening.listen()
            except OSError:
                shutil.rmtree(folder)
                raise
            path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
            self._supervisor = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.supervisor", str(folder), str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )
        return address

    def _log(self) -> str:
        log = Path(self.address).with_name(LOG)
        return log.read_text("utf-8", errors="replace")[-2_000:] if log.exists() else ""


def parent() -> str:
    """The folder for temporary files; for root one that other users may enter."""
    folder = tempfile.gettempdir()
    return "/tmp" if os.geteuid() == 0 and not open_to_all(Path(folder)) else folder

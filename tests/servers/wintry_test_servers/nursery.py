"""Processes that are forked instead of started: `python -m wintry_test_servers.nursery SOCKET MODULE…`.

To start Python and to import an application costs more than most that a test does with it. So one process imports the
MODULEs, once, and forks for each command that is asked for: a process of its own, with its own loop, connections and
environment, killed like any other. It runs `python -m` as the interpreter would.

Who wants one connects to SOCKET and sends a line of JSON, with its standard output and error beside it. The answers are
two lines: the number of the process, and its exit code when it has ended. When the nursery ends, so does everything.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import socket
import socketserver
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from .daemon import die_with_parent

START_SECONDS = 60.0


class Forked:
    """A process of a nursery, with what tests use of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, code: asyncio.Task[int]) -> None:
        self.pid = pid
        self._code = code

    @property
    def returncode(self) -> int | None:
        return self._code.result() if self._code.done() else None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until it has ended; its exit code, negative for a signal."""
        return await asyncio.shield(self._code)


class Nursery:
    """The nursery at a socket."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    async def run(
        self,
        module: str,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str],
        stdout: int,
        stderr: int,
    ) -> Forked:
        """`python -m module arguments`, in a folder and an environment, with files as standard output and error."""
        connection = await asyncio.to_thread(self._connected)
        task = {"module": module, "arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}
        line = json.dumps(task).encode() + b"\n"
        sent = socket.send_fds(connection, [line], [stdout, stderr])
        connection.sendall(line[sent:])
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        pid = int(await reader.readline())

        async def ended() -> int:
            code = int(await reader.readline())
            writer.close()
            return code

        return Forked(pid, asyncio.get_running_loop().create_task(ended()))

    def _connected(self) -> socket.socket:
        until = time.monotonic() + START_SECONDS
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self._path)
            except OSError:  # it still starts
                connection.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return connection


@contextmanager
def nursery(folder: Path, *modules: str, path: Sequence[Path] = ()) -> Iterator[Nursery]:
    """A nursery that has imported `modules`, while the block runs; `path` is where else modules are looked for."""
    address = folder / "socket"
    found = os.pathsep.join([*map(str, path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", f"{__package__}.nursery", address, *modules],
        env={**os.environ, "PYTHONPATH": found.rstrip(os.pathsep)},
    )
    try:
        yield Nursery(address)
    finally:
        process.kill()
        process.wait()


# the nursery's own side


class Keeper(socketserver.BaseRequestHandler):
    """Has one process, and says how it ends; in one of its own, which the nursery forked for the connection."""

    request: socket.socket

    def handle(self) -> None:
        die_with_parent()
        line, files, _, _ = socket.recv_fds(self.request, 1 << 16, 2)
        while not line.endswith(b"\n"):
            line += self.request.recv(1 << 16)
        pid = os.fork()
        if not pid:
            be(json.loads(line), files)
        for file in files:
            os.close(file)
        self.request.sendall(b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        self.request.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks a keeper for each connection."""

    max_children = 1000
    request_queue_size = 64


def be(task: dict[str, Any], files: Sequence[int]) -> NoReturn:
    """Become the process that was asked for."""
    code = 1
    try:
        die_with_parent()
        for number, file in zip((1, 2), files, strict=True):
            os.dup2(file, number)
            os.close(file)
        os.chdir(task["cwd"])
        os.environ.clear()
        os.environ.update(task["environment"])
        sys.argv = [task["module"], *task["arguments"]]
        sys.path.insert(0, task["cwd"])
        runpy.run_module(task["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - whatever ended it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    die_with_parent()
    for name in sys.argv[2:]:
        import_module(name)
    with Server(sys.argv[1], Keeper) as server:
        server.serve_forever()

"""One server: a child process with a folder and a port of its own, for as long as the supervisor lives.

Every server is a direct child of the supervisor, and the kernel ends it when the supervisor dies: `death_signal` is
set in the child (Linux' PR_SET_PDEATHSIG, after the change of user, which would clear it). Children that a killed
server orphans come to the supervisor, which is a child subreaper, and are killed before `kill` returns: a port and a
data folder are free for the next start. Forking happens on the main thread only, since the death signal is that of
the thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.005
PORTS = range(20_000, 32_000)  # below those that Linux hands to outgoing connections: free again for a restart
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

_libc = ctypes.CDLL(None)
_children: set[int] = set()  # pids that have a Popen, which alone may wait for them


class Failed(Exception):
    """A program that is there did not do what it should; the message has the end of its log."""


def adopt_orphans() -> None:
    """Have the children of ended children given to this process."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this signal when the thread that started this process ends."""
    _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


class Daemon(ABC):
    """A server on 127.0.0.1; a subclass says how it is prepared, started and asked whether it is ready."""

    title: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.log = folder / "server.log"
        self.user: int | None = None  # None: whoever runs the tests
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    async def prepare(self) -> None:
        """Make the data folder; once."""

    @abstractmethod
    def command(self) -> list[str | Path]: ...

    @abstractmethod
    async def ready(self) -> bool:
        """Does it serve now? Asked again and again after a start."""

    def environment(self) -> Mapping[str, str]:
        return {}

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def start(self) -> None:
        """Start it on its port and its data, and return when it serves."""
        if self.running:
            return
        await end_orphans()  # of a server that crashed by itself
        self.process = self.spawn(self.command(), self.environment())
        until = time.monotonic() + READY_SECONDS
        while not await self.ready():
            if not self.running or time.monotonic() > until:
                how = "did not become ready" if self.running else f"ended with {self.process.returncode}"
                await self.kill()
                raise Failed(f"{self.title} {how}:\n{self.tail()}")
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """End it as an operator does."""
        await self.end(self.stop_signal)

    async def kill(self) -> None:
        """End it as a crash does, with all of its children."""
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.signal(number)
        self.resume()  # who is paused hears nothing but SIGKILL
        try:
            await ended(self.process, STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await ended(self.process, STOP_SECONDS)
        await end_orphans()

    def pause(self) -> None:
        """Let it hang: connections stay open and nobody answers, until `resume`."""
        self.signal(signal.SIGSTOP, whole_family=True)

    def resume(self) -> None:
        self.signal(signal.SIGCONT, whole_family=True)

    async def discard(self) -> None:
        """End it for good; its folder goes with that of the run or of the test."""
        await self.end(self.death_signal)

    def signal(self, number: signal.Signals, *, whole_family: bool = False) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(number)
        for pid in children(self.process.pid) if whole_family else ():
            send(pid, number)

    def spawn(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **environment},
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                preexec_fn=lambda: die_with_parent(self.death_signal),  # noqa: PLW1509 - there is one thread
            )
        _children.add(process.pid)
        return process

    async def run(self, command: Sequence[str | Path]) -> None:
        """Run a program that prepares the server, to its end."""
        process = self.spawn(command, self.environment())
        await ended(process, READY_SECONDS)
        if process.returncode:
            raise Failed(f"{command[0]} ended with {process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text("utf-8", errors="replace")[-2_000:] if self.log.exists() else ""


async def ended(process: subprocess.Popen[bytes], seconds: float) -> None:
    until = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > until:
            raise TimeoutError
        await asyncio.sleep(POLL_SECONDS)
    _children.discard(process.pid)


async def end_orphans() -> None:
    """Kill what an ended server left, and return when it is gone."""
    until = time.monotonic() + STOP_SECONDS
    while (orphans := [pid for pid in children(os.getpid()) if pid not in _children]) and time.monotonic() < until:
        for pid in orphans:
            send(pid, signal.SIGKILL)
            reap(pid)
        await asyncio.sleep(POLL_SECONDS)


def reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # reaped before


def children(parent: int) -> Iterator[int]:
    """The direct children of a process, as /proc has them; none where there is no /proc."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state = entry.read_text("ascii", errors="replace").rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        if state[1] == str(parent):
            yield int(entry.parent.name)


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # ended meanwhile


def free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

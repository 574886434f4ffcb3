"""The process that owns the servers of one test run: `python -m wintry_test_servers.supervisor FOLDER SOCKET`.

It listens on a socket that its starter made, and reads from a pipe (its standard input) that the starter alone holds
open: the end of the pipe is the end of the starter, and so of all servers and of the folder. It is in a session of
its own, so that what kills the process group of the run does not keep it from cleaning up.

A request is a line of JSON, `{"do": …}`, and so is the reply: `{"ok": …}`, `{"missing": reason}` where there is no
program, `{"failed": reason}`. A *shared* server is started by the first who asks for it and lives as long as the run.
An *own* server belongs to the connection that asked for it, and ends with it. So does a *number*: the lowest that
nobody else holds, by which a test has a database of Redis for itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .daemon import Daemon, Failed, adopt_orphans, die_with_parent
from .kinds import KINDS
from .programs import Missing

PREFIX = "wintry-servers-"
LOG = "supervisor.log"
YOUNG_SECONDS = 60.0  # a supervisor takes its lock long before
Reply = dict[str, Any]


class Supervisor:
    """All servers of a run: the shared ones by kind, each of them by number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared: dict[str, asyncio.Task[int]] = {}
        self.servers: dict[int, Daemon] = {}
        self.begun = 0
        self.numbers: set[int] = set()
        self.clients: set[asyncio.Task[None]] = set()

    async def begin(self, kind: str) -> int:
        """Start a server of this kind; its number."""
        self.begun += 1
        number = self.begun
        folder = self.folder / f"{kind}-{number}"
        folder.mkdir()
        server = KINDS[kind].make(folder)
        self.servers[number] = server
        try:
            await server.prepare()
            await server.start()
        except BaseException:
            await self.discard(number)
            raise
        return number

    async def discard(self, number: int) -> None:
        server = self.servers.pop(number)
        await server.discard()
        shutil.rmtree(server.folder, ignore_errors=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first request to its end."""
        task = asyncio.current_task()
        assert task is not None
        self.clients.add(task)
        client = Client(self)
        try:
            while line := await reader.readline():
                reply = await client.answer(json.loads(line))
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # as good as the end of the stream
        finally:
            self.clients.discard(task)
            writer.close()
            await client.leave()

    async def end(self) -> None:
        """End all servers at once, and remove the folder."""
        for task in (*self.clients, *self.shared.values()):
            task.cancel()
        await asyncio.gather(*self.clients, *self.shared.values(), return_exceptions=True)
        await asyncio.gather(*(self.discard(number) for number in list(self.servers)), return_exceptions=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Client:
    """What one connection may ask for, and what it holds."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.own: set[int] = set()
        self.numbers: set[int] = set()

    async def answer(self, request: dict[str, Any]) -> Reply:
        requests: dict[str, Callable[..., Awaitable[object]]] = {
            "share": self.share,
            "begin": self.begin,
            "act": self.act,
            "discard": self.discard,
            "take": self.take,
            "give": self.give,
        }
        try:
            return {"ok": await requests[request.pop("do")](**request)}
        except Missing as error:
            return {"missing": str(error)}
        except (Failed, OSError) as error:
            return {"failed": str(error)}

    async def share(self, kind: str) -> object:
        """The shared server of a kind; a failure to start is the same for all who ask."""
        if kind not in self.supervisor.shared:
            self.supervisor.shared[kind] = asyncio.create_task(self.supervisor.begin(kind))
        return self.described(await asyncio.shield(self.supervisor.shared[kind]))

    async def begin(self, kind: str) -> object:
        number = await self.supervisor.begin(kind)
        self.own.add(number)
        return self.described(number)

    async def act(self, server: int, action: str) -> object:
        daemon = self.supervisor.servers[server]
        if action in {"pause", "resume"}:
            daemon.pause() if action == "pause" else daemon.resume()
        else:
            actions = {"start": daemon.start, "stop": daemon.stop, "kill": daemon.kill}
            await actions[action]()
        return None

    async def discard(self, server: int) -> object:
        self.own.remove(server)
        await self.supervisor.discard(server)
        return None

    async def take(self) -> object:
        number = next(n for n in range(1, len(self.supervisor.numbers) + 2) if n not in self.supervisor.numbers)
        self.supervisor.numbers.add(number)
        self.numbers.add(number)
        return number

    async def give(self, number: int) -> object:
        self.supervisor.numbers.discard(number)
        self.numbers.discard(number)
        return None

    async def leave(self) -> None:
        self.supervisor.numbers -= self.numbers
        await asyncio.gather(*(self.supervisor.discard(number) for number in self.own))

    def described(self, number: int) -> Reply:
        server = self.supervisor.servers[number]
        return {"server": number, "url": server.url, "port": server.port, "log": str(server.log)}


async def supervise(folder: Path, listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def at_end_of_pipe() -> None:
        if not os.read(sys.stdin.fileno(), 1):
            loop.remove_reader(sys.stdin.fileno())
            over.set()

    loop.add_reader(sys.stdin.fileno(), at_end_of_pipe)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    supervisor = Supervisor(folder)
    server = await asyncio.start_unix_server(supervisor.serve, sock=listening)
    await over.wait()
    server.close()
    await supervisor.end()


def remove_leftovers(folder: Path) -> None:
    """Remove the folders of runs whose supervisor was killed, too: each holds a lock on its log while it lives."""
    fcntl.flock(sys.stdout.fileno(), fcntl.LOCK_EX)
    for log in folder.parent.glob(f"{PREFIX}*/{LOG}"):
        try:
            with log.open("rb") as opened:
                if time.time() - log.parent.stat().st_mtime > YOUNG_SECONDS:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(log.parent, ignore_errors=True)
        except OSError:
            continue  # its supervisor lives, or it is another user's


def main() -> None:
    folder = Path(sys.argv[1])
    die_with_parent(signal.SIGTERM)
    adopt_orphans()
    remove_leftovers(folder)
    asyncio.run(supervise(folder, socket.socket(fileno=int(sys.argv[2]))))


if __name__ == "__main__":
    main()

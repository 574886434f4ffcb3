"""Serving an application from the command line: who owns the signals, and the order in which everything ends.

The first SIGTERM or SIGINT makes the application not ready, stops what brings work in, ends the event streams, and
only then lets the server finish the requests in flight; then the application drains the rest and closes the stores. A
second signal cancels what is left. The exit code of a clean end is 0, of an application that cannot start 3.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .app import App
from .errors import NotReachable, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    import uvicorn

END_FAILURE = 1
START_FAILURE = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM)
HEADER_BYTES = 64 * 1024
LINGER_SECONDS = 1.0
"""How long a connection without a request may stay open at the end: closed under a client that is just about to send,
it would be a request that is neither answered nor refused."""
HIGHEST_PORT = 65535

logger = logging.getLogger("wintry.web")


class AddressError(OSError):
    """The address is taken, or not to be had."""


def announce(url: str) -> None:
    """Log where the application answers."""
    logger.info(f"Serving on {url}")


def serve(app: App, *, host: str = "127.0.0.1", port: int = 8000, ready: Callable[[str], None] = announce) -> int:
    """Serve until a signal says to stop, and give the exit code.

    `port` 0 takes a free one. `ready` is called with the URL once the application answers. An application that cannot
    start is its report in the log.

    Raises:
        AddressError: the address is taken or cannot be bound; the message names it.
        NotReachable: what the application stands on, as a database, is not there; the message is one line.
        ImportError: the `server` extra is not installed.
    """
    with bound(host, port) as listening, asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run(app, listening, ready))


async def run(app: App, listening: socket.socket, ready: Callable[[str], None]) -> int:
    """Serve on a socket that is bound already. Raises `NotReachable`."""
    server = make_server(app)
    loop = asyncio.get_running_loop()
    ending = Ending(app, server, loop)
    previous = {number: signal.signal(number, ending.on_signal) for number in SIGNALS}
    try:
        await app.start()
        gc.collect()
        gc.freeze()  # what stays for good is not walked again and again, which stopped requests for tens of milliseconds
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(tell(server, listening, ready))
            await server.serve(sockets=[listening])
        return await ending.finish()
    except NotReachable:
        raise
    except StartError as error:
        logger.error("%s", error)
        return START_FAILURE
    finally:
        gc.unfreeze()
        for number, handler in previous.items():
            signal.signal(number, handler)


class Ending:
    """What the signals set off."""

    def __init__(self, app: App, server: uvicorn.Server, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.server = server
        self.loop = loop
        self.task: asyncio.Task[None] | None = None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.loop.call_soon_threadsafe(self.begin)

    def begin(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.server.force_exit = True
            self.server.should_exit = True
            for connection in self.server.server_state.connections:  # which the end would wait for, from Python 3.12 on
                connection.transport.abort()
        else:
            self.task = self.loop.create_task(self.end())

    async def end(self) -> None:
        try:
            await self.app.quiesce()
        finally:
            self.server.should_exit = True

    async def finish(self) -> int:
        """Wait until the first signal's work is done and the application has ended, and give the exit code."""
        if self.task is not None:
            await asyncio.wait([self.task])
        if self.server.force_exit:
            return 0
        self.task = self.loop.create_task(self.app.end())
        await asyncio.wait([self.task])
        if self.task.cancelled() or (error := self.task.exception()) is None:
            return 0
        logger.error("The application did not end cleanly", exc_info=error)
        return END_FAILURE


def make_server(app: App) -> uvicorn.Server:
    try:
        import uvicorn
    except ImportError:
        raise ImportError('serve() needs the extra `server`: pip install "wintry-web[server]"') from None

    class Server(uvicorn.Server):
        """The server without its own signals, which `Ending` has."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Listen no more, then wait for what clients are sending on open connections; each answer closes one."""
            for listener in (*self.servers, *(sockets or ())):
                listener.close()
            app.phase = "closing"  # not before: a client that is told to close comes back with a new connection
            await quiet(self)
            await super().shutdown(sockets)

    seconds = app.settings.drain_seconds
    config = uvicorn.Config(
        app,
        lifespan="off",  # the application is started before, and ended behind the server
        access_log=False,
        log_config=None,
        log_level=logging.WARNING,
        server_header=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    return Server(config)


async def quiet(server: uvicorn.Server) -> None:
    """Wait until clients have closed their connections, or have had the time to."""
    clock = asyncio.get_running_loop().time
    until = clock() + LINGER_SECONDS
    while server.server_state.connections:  # the server has no event for it
        if clock() > until or server.force_exit:
            return
        await asyncio.sleep(0.01)


async def tell(server: uvicorn.Server, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Call `ready` with the URL once the server answers; the server has no event for it."""
    host, port = listening.getsockname()[:2]
    while not server.started:
        if server.should_exit:
            return
        await asyncio.sleep(0.01)
    ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket on the address, or an `AddressError` that names it."""
    if not 0 <= port <= HIGHEST_PORT:  # a resolver would take it modulo 65536
        raise AddressError(f"cannot serve on {host}:{port}: a port is a number from 0 to {HIGHEST_PORT}")
    with ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError as error:
            raise AddressError(f"cannot serve on {host}:{port}: {error.strerror or error}") from error
        yield listening


def loop_factory() -> Any:
    """uvloop's loop where it is installed, else asyncio's own."""
    if sys.platform != "win32":
        try:
            import uvloop
        except ImportError:
            return None
        return uvloop.new_event_loop
    return None

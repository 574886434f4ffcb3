"""What the application writes: its own log lines, the access log, and the id that ties a request to both.

The access log takes the place of the server's own. The request's path pays for two readings of a clock and one
`put` on a queue; a thread behind the queue makes the lines. When the reader of the log is too slow the queue is
bounded: lines are dropped and counted, requests are not held up.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted
from queue import SimpleQueue
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BACKLOG = 10_000
"""Lines of the access log that may wait for the writer."""

LEFT = 499
"""The status in the access log of a request whose client went away before it was answered; nobody is sent it."""

access_logger = logging.getLogger("wintry.access")
acceptable_id = re.compile(rb"[A-Za-z0-9._-]{1,64}")

Line = tuple[float, str, str, int, float, str, str]


class LineFormatter(logging.Formatter):
    """`INFO:     2026-05-28 22:22:35 | Loading module tuto.repositories`, as servers align theirs."""

    def __init__(self) -> None:
        super().__init__("%(prefix)s %(asctime)s | %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.prefix = f"{record.levelname}:".ljust(9)
        return super().format(record)


def configure(package: str) -> None:
    """Give `wintry` and the application's package a handler, unless somebody has set logging up already."""
    if logging.getLogger().handlers:
        return
    for name in ("wintry", package.partition(".")[0]):
        logger = logging.getLogger(name)
        if not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(LineFormatter())
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False


def silence_server() -> None:
    """End uvicorn's own access log, as its `--no-access-log` does, if ours has a reader: one line a request is enough."""
    if access_logger.isEnabledFor(logging.INFO):
        server = logging.getLogger("uvicorn.access")
        server.handlers.clear()
        server.propagate = False


class AccessWriter:
    """The thread that turns finished requests into lines of the logger `wintry.access`."""

    def __init__(self) -> None:
        self.lines: SimpleQueue[Line | None] = SimpleQueue()
        self.dropped = 0
        self.last_second = 0
        self.last_stamp = ""
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self.run, name="wintry access log", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Write what waits, and end the thread."""
        if self.thread is not None:
            self.lines.put(None)
            self.thread.join(timeout=5)
            self.thread = None

    def add(self, line: Line) -> None:
        if self.lines.qsize() < BACKLOG:
            self.lines.put(line)
        else:
            self.dropped += 1

    def run(self) -> None:
        while (line := self.lines.get()) is not None:
            self.write(line)

    def write(self, line: Line) -> None:
        if not access_logger.isEnabledFor(logging.INFO):
            return
        began, method, path, status, seconds, client, request_id = line
        fields: dict[str, Any] = {
            "time": self.stamp(int(began)),
            "method": method,
            "path": path,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "client": client,
            "request_id": request_id,
        }
        if self.dropped:
            fields["dropped"], self.dropped = self.dropped, 0
        text = ", ".join(f'"{name}": {quoted(v) if isinstance(v, str) else v}' for name, v in fields.items())
        # Made here, as `info` would walk the stack of every line to find a caller that is always this one.
        record = access_logger.makeRecord(
            access_logger.name, logging.INFO, __name__, 0, f"{{{text}}}", (), None, extra={"access": fields}
        )
        access_logger.handle(record)

    def stamp(self, second: int) -> str:
        """A second of the clock as text; most lines are of the same one as the line before."""
        if second != self.last_second:
            self.last_second = second
            self.last_stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        return self.last_stamp


class RequestLog:
    """Middleware: gives each request an id (`X-Request-ID`, in `request.state.request_id`), and logs its answer.

    An id that the client sends is kept if it is at most 64 letters, digits, dots, dashes and underscores. While the
    application is `leaving`, its answers ask clients to close their connections.
    """

    def __init__(self, app: ASGIApp, writer: AccessWriter | None, leaving: Callable[[], bool]) -> None:
        self.app = app
        self.writer = writer
        self.leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = incoming_id(scope) or os.urandom(8).hex().encode()
        name = request_id.decode()
        scope.setdefault("state", {})["request_id"] = name
        status = LEFT
        began = time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
                if self.leaving():
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except BaseException:
            status = 500 if status == LEFT else status
            raise
        finally:
            if self.writer is not None:
                seconds = time.perf_counter() - began
                client = scope.get("client")
                self.writer.add(
                    (
                        time.time() - seconds,
                        scope["method"],
                        scope["path"],
                        status,
                        seconds,
                        client[0] if client else "",
                        name,
                    )
                )


def incoming_id(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value if acceptable_id.fullmatch(value) else None
    return None

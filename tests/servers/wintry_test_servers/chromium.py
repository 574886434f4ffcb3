"""A Chromium without a screen, driven over the DevTools protocol.

The protocol runs over two pipes (`--remote-debugging-pipe`: the browser reads file descriptor 3 and writes 4, a
message ends with a zero byte), so that neither a port nor a client of WebSockets is needed, and the browser ends with
the process that holds the pipes. It has a profile of its own and no network but 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from .programs import Missing, on_path

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
]
# The descriptors are put in place by a Python in between: a shell may only name one digit, and `subprocess` none.
# Each is first moved out of the way: the one could be where the other has to go.
LAUNCH = """
import fcntl, os, sys
read, write, *command = sys.argv[1:]
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 10) for number in (read, write))
os.dup2(read, 3), os.dup2(write, 4)
os.execvp(command[0], command)
"""
ANSWER_SECONDS = 30.0
POLL_SECONDS = 0.05
LIMIT = 64 * 1024 * 1024  # a screenshot is one message

Message = dict[str, Any]


class PageFailed(Exception):
    """The browser could not do what it was asked."""


def program() -> Path:
    """The browser of the system.

    Raises:
        Missing: there is none.
    """
    found = on_path("chromium", "chromium-browser", "google-chrome")
    if found is None:
        raise Missing("no browser here: install the system's package chromium")
    return found


class Browser:
    """The connection: commands go out with a number, answers come back with it, events come as they happen."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.number = 0
        self.ended = False
        self.answers: dict[int, asyncio.Future[Message]] = {}
        self.listeners: dict[str, Callable[[str, Message], None]] = {}

    async def listen(self) -> None:
        """Hand on what the browser says, until it ends; who then waits for an answer is told."""
        try:
            while True:
                self.hear(json.loads((await self.reader.readuntil(b"\0"))[:-1]))
        except asyncio.IncompleteReadError:
            self.ended = True
            for answer in self.answers.values():
                if not answer.done():
                    answer.set_exception(PageFailed("the browser has ended"))

    def hear(self, message: Message) -> None:
        """An answer, or what happens on a page."""
        if "id" in message:
            if (answer := self.answers.pop(message["id"], None)) and not answer.done():
                answer.set_result(message)
        elif (listener := self.listeners.get(message.get("sessionId", ""))) is not None:
            listener(message["method"], message["params"])

    async def ask(self, method: str, session: str | None = None, **parameters: object) -> Message:
        """Send a command and give its result.

        Raises:
            PageFailed: the browser refuses, or has ended.
        """
        if self.ended:
            raise PageFailed("the browser has ended")
        self.number += 1
        message: Message = {"id": self.number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        answer = self.answers[self.number] = asyncio.get_running_loop().create_future()
        self.writer.write(json.dumps(message).encode() + b"\0")
        await self.writer.drain()
        got = await asyncio.wait_for(answer, ANSWER_SECONDS)
        if "error" in got:
            raise PageFailed(f"{method}: {got['error']['message']}")
        result: Message = got["result"]
        return result

    async def open(self, *, width: int = 1280, height: int = 800) -> Page:
        """An empty page of this size."""
        target = (await self.ask("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.ask("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        self.listeners[page.session] = page.hear
        for domain in ("Page", "Network", "Runtime", "Log"):
            await page.ask(f"{domain}.enable")
        await page.resize(width, height)
        return page


class Page:
    """A page, and what it has complained of: `requests` by URL with their status, and `faults` as they came."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session
        self.requests: dict[str, int | None] = {}
        self.faults: list[str] = []
        self._urls: dict[str, str] = {}

    async def ask(self, method: str, **parameters: object) -> Message:
        return await self.browser.ask(method, self.session, **parameters)

    def hear(self, event: str, what: Message) -> None:
        match event:
            case "Network.requestWillBeSent":
                url = self._urls[what["requestId"]] = what["request"]["url"]
                self.requests.setdefault(url, None)
            case "Network.responseReceived":
                self.requests[what["response"]["url"]] = what["response"]["status"]
                if what["response"]["status"] >= 400:
                    self.faults.append(f"{what['response']['status']} {what['response']['url']}")
            case "Network.loadingFailed":
                self.faults.append(f"{what['errorText']} {self._urls.get(what['requestId'])}")
            case "Runtime.exceptionThrown":
                self.faults.append(str(what["exceptionDetails"].get("exception", what["exceptionDetails"])))
            case "Runtime.consoleAPICalled" if what["type"] in ("error", "warning", "assert"):
                self.faults.append(f"console.{what['type']}: {what['args']}")
            case "Log.entryAdded" if what["entry"]["level"] in ("error", "warning"):
                self.faults.append(f"{what['entry']['text']} {what['entry'].get('url', '')}")

    async def resize(self, width: int, height: int) -> None:
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def scheme(self, name: str) -> None:
        """Let the page think that its reader prefers `light` or `dark`."""
        await self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def go(self, url: str) -> None:
        """Load a page with all that it names.

        Raises:
            PageFailed: there is nothing to load.
        """
        done = await self.ask("Page.navigate", url=url)
        if "errorText" in done:
            raise PageFailed(f"{url}: {done['errorText']}")
        await self.wait_for("document.readyState === 'complete'")

    async def evaluate(self, script: str) -> Any:
        """The value of an expression, as JSON has it; a promise is waited for.

        Raises:
            PageFailed: it throws.
        """
        done = await self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise PageFailed(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    async def wait_for(self, script: str, *, seconds: float = ANSWER_SECONDS) -> Any:
        """The first true value of an expression.

        Raises:
            PageFailed: it does not become true in time.
        """
        until = asyncio.get_running_loop().time() + seconds
        while not (value := await self.evaluate(script)):
            if asyncio.get_running_loop().time() > until:
                raise PageFailed(f"not within {seconds:g} s: {script}; the page: {await self.text()}")
            await asyncio.sleep(POLL_SECONDS)
        return value

    async def text(self) -> str:
        """What a reader sees of it as words."""
        return str(await self.evaluate("document.body.innerText"))

    async def screenshot(self) -> bytes:
        """The picture of the visible part, as PNG."""
        return base64.b64decode((await self.ask("Page.captureScreenshot", format="png"))["data"])


@asynccontextmanager
async def browser(folder: Path) -> AsyncGenerator[Browser]:
    """A browser whose profile and home are in `folder`.

    Raises:
        Missing: the system has none.
    """
    executable = program()
    (read, to_browser), (from_browser, write) = os.pipe(), os.pipe()
    command = [executable, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with (folder / "chromium.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LAUNCH, str(read), str(write), *map(str, command)),
            env={**os.environ, "HOME": str(folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(read, write),
        )
    os.close(read)
    os.close(write)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(ended, process)
        reader, writer = await pipes(from_browser, to_browser)
        stack.callback(writer.close)  # of which the browser ends
        connection = Browser(reader, writer)
        listening = asyncio.create_task(connection.listen())
        stack.push_async_callback(quietly, listening)
        stack.callback(listening.cancel)
        await connection.ask("Browser.getVersion")
        yield connection


async def pipes(source: int, target: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams on the two ends that are ours."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(source, "rb"))
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(target, "wb"))
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


async def quietly(task: Awaitable[None]) -> None:
    await asyncio.gather(task, return_exceptions=True)


async def ended(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), ANSWER_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()

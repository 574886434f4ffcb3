"""The service that the demonstration talks to: the one that runs, else one that it starts and ends.

Whether one runs, and is this program, its health page says. One that is started is a child with its log in a temporary
file, of which the end is shown where it does not start; it is ended as an operator would, and killed if that takes too
long.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import httpx2

from allocation.demo.errors import DemoError

LOCAL = ("127.0.0.1", "localhost", "::1")
STOP_SECONDS = 30.0


@asynccontextmanager
async def running(url: str, tell: Callable[[str], None]) -> AsyncGenerator[None]:
    """A service that answers at `url`; one that has to be started takes its options from the environment.

    Raises:
        DemoError: something else answers there, or the service cannot be started.
    """
    if await answers(url):
        tell(f"A service runs at {url}; its stock board shows what happens.")
        yield
        return
    async with started(url):
        tell(f"No service runs at {url}: started one, which ends with the demo.")
        yield


async def answers(url: str) -> bool:
    async with httpx2.AsyncClient() as http:
        try:
            answer = await http.get(f"{url}/health/live")
        except httpx2.ConnectError:
            return False
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise DemoError(f"cannot talk to {url}: {error or type(error).__name__}") from None
    if answer.status_code != httpx2.codes.OK:
        raise DemoError(f"what answers at {url} is another program; choose another address with --url")
    return True


@asynccontextmanager
async def started(url: str) -> AsyncGenerator[None]:
    """The service as a process of its own, in a session of its own: an interrupt is for the demonstration to handle."""
    address = urlsplit(url)
    if address.hostname not in LOCAL:
        raise DemoError(f"no service answers at {url}, and none can be started there from here")
    command = [sys.executable, "-m", "allocation", "--host", address.hostname, "--port", str(address.port or 80)]
    with tempfile.TemporaryFile("w+") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "WINTRY_ACCESS_LOG": "false"},
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            if not await process.stdout.readline():  # its first line is printed when it answers
                with suppress(TimeoutError):  # it ends by itself; a signal that meets its end makes asyncio complain
                    await asyncio.wait_for(process.wait(), STOP_SECONDS)
                log.seek(0)
                raise DemoError(f"the service did not start: {last_line(log.read())}")
            yield
        finally:
            await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """As an operator does it; a service that does not finish in time is killed."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "it said nothing")

"""The connection of a transport to NATS: made when it is used, and made anew when it was lost.

nats-py is told not to reconnect by itself. It would try the first connection for ever, keep what is published while
the broker is away and send it after its sender was told that it failed, and stay closed for good after an error that
the server ends a connection with. Here a connection is a `Session`: when it is over, everything that waits for an
answer on it fails at once, and who needs one next makes another.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

logger = logging.getLogger("wintry.web")

REPLY: Final = 5.0
"""How many seconds an answer, and connecting, may take."""
PING: Final = 5
"""Every so many seconds a connection is asked whether it is there; the second question without an answer ends it."""
NOBODY: Final = "503"


class Refused(Exception):
    """The broker has answered, and will not; `code` is that of its list of errors."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code: int = error.get("err_code", 0)
        super().__init__(f"nats: {error.get('description', 'refused')} ({self.code})")


LOST: Final = (ConnectionError, Refused)
"""What a broker that is away, starts or is misconfigured raises here."""


class Session:
    """One connection, from its beginning to its end."""

    def __init__(self) -> None:
        self.client = Client()
        self.over = False
        self._reason = ""
        self._inbox = ""
        self._numbers = count()
        self._answers: dict[str, asyncio.Future[Msg | None]] = {}
        self._watching: set[Callable[[], None]] = set()

    async def open(self, url: str) -> None:
        """Connect. Raises ConnectionError."""
        try:
            async with asyncio.timeout(REPLY):
                await self.client.connect(
                    url.split(","),
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # of each address, in this first attempt
                    reconnect_time_wait=0,
                    connect_timeout=round(REPLY),
                    ping_interval=PING,
                    max_outstanding_pings=1,
                    pending_size=0,  # nothing is kept for later, and nothing waits in publish
                    error_cb=self._failed,
                    closed_cb=self._closed,
                )
                self._inbox = self.client.new_inbox()
                await self.subscribe(f"{self._inbox}.*", self._answer)
        except (nats.errors.Error, OSError, ValueError) as error:
            await self.close()
            raise ConnectionError(f"nats: {self._reason or _told(error)}") from error
        except BaseException:
            await self.close()
            raise

    # asking

    async def send(
        self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> asyncio.Future[Msg | None]:
        """Send something; its answer comes as the future, None if the connection has ended before. Raises ConnectionError."""
        token = str(next(self._numbers))
        answer: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        answer.add_done_callback(lambda _: self._answers.pop(token, None))
        try:
            await self.publish(subject, body, f"{self._inbox}.{token}", headers)
        except BaseException:
            answer.cancel()
            raise
        return answer

    async def answer(self, sent: asyncio.Future[Msg | None]) -> Msg | None:
        """What came back; None if nobody listens there. Raises ConnectionError."""
        try:
            async with asyncio.timeout(REPLY):
                message = await sent
        except TimeoutError:
            raise ConnectionError(f"nats: no answer within {REPLY:g} s") from None
        if message is None:
            raise ConnectionError("nats: the connection ended before the answer")
        return message if has_come(sent) else None

    async def request(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Msg | None:
        return await self.answer(await self.send(subject, body, headers))

    async def api(self, subject: str, **arguments: object) -> dict[str, Any]:
        """Ask JetStream. Raises ConnectionError, and Refused with its answer."""
        message = await self.request(f"$JS.API.{subject}", json.dumps(arguments).encode() if arguments else b"")
        if message is None:
            raise ConnectionError("nats: JetStream does not answer: it starts, or is not switched on in the server")
        return taken(message)

    async def publish(self, subject: str, body: bytes, reply: str, headers: dict[str, str] | None = None) -> None:
        if not self.alive:
            raise ConnectionError("nats: the connection has ended")
        try:
            await self.client.publish(subject, body, reply=reply, headers=headers)
        except nats.errors.Error as error:
            raise ConnectionError(f"nats: {_told(error)}") from error

    async def subscribe(self, subject: str, hear: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Nothing that comes is dropped: what may come is bounded by what was asked for."""
        try:
            return await self.client.subscribe(subject, cb=hear, pending_msgs_limit=0, pending_bytes_limit=0)
        except nats.errors.Error as error:
            raise ConnectionError(f"nats: {_told(error)}") from error

    # its end

    @property
    def alive(self) -> bool:
        """Whether it is not over; the client may have closed without a word."""
        if not self.over and not self.client.is_connected:
            self.end()
        return not self.over

    def watch(self, tell: Callable[[], None]) -> None:
        """Be told when it is over."""
        self._watching.add(tell)

    def unwatch(self, tell: Callable[[], None]) -> None:
        self._watching.discard(tell)

    def end(self) -> None:
        """It is over: who waits for an answer has none."""
        self.over = True
        for answer in [*self._answers.values()]:
            if not answer.done():
                answer.set_result(None)
        for tell in [*self._watching]:
            tell()

    async def close(self) -> None:
        """Disconnect, also from a server that hangs."""
        self.end()
        with suppress(Exception):
            async with asyncio.timeout(1.0):
                await self.client.close()
        # A client that has failed while it closed, or waits for a server that reads nothing, has its socket open.
        writer = getattr(self.client._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _answer(self, message: Msg) -> None:
        answer = self._answers.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _failed(self, error: Exception) -> None:
        self._reason = _told(error)
        if isinstance(error, (nats.errors.StaleConnectionError, OSError)):
            self.end()  # the client may fail once more while it closes, and tell no more
        elif self.client.is_connected:
            logger.warning("nats: %r", error)

    async def _closed(self) -> None:
        self.end()


class Connection:
    """The session that there is, or the next."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: Session | None = None
        self._connecting: asyncio.Task[Session] | None = None

    @property
    def current(self) -> Session | None:
        """The session, if there is one."""
        return self._session if self._session is not None and self._session.alive else None

    async def session(self) -> Session:
        """The session, a new one where it is over. Raises ConnectionError: the broker cannot be reached."""
        if self.current is not None:
            return self.current
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    async def close(self) -> None:
        """Disconnect."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _connect(self) -> Session:
        before, self._session = self._session, None
        if before is not None:
            await before.close()
        session = Session()
        await session.open(self.url)
        self._session = session
        return session

    def _connected(self, task: asyncio.Task[Session]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # has been told to whoever waited


def has_come(answer: asyncio.Future[Msg | None]) -> bool:
    """Whether somebody has answered."""
    if not answer.done() or answer.cancelled():
        return False
    message = answer.result()
    return message is not None and (message.headers or {}).get("Status") != NOBODY


def _told(error: Exception) -> str:
    return str(error).removeprefix("nats: ") or type(error).__name__


def taken(message: Msg) -> dict[str, Any]:
    """The answer of JetStream. Raises Refused."""
    answer: dict[str, Any] = json.loads(message.data)
    if "error" in answer:
        raise Refused(answer["error"])
    return answer

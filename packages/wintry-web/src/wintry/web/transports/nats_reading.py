"""How a listener reads a stream: it asks for as much as there is room for, and for no more until that has ended.

A request stays with the broker until it is fulfilled or has expired; what comes for it is taken into the hands at
once. A request is known to be alive by the broker's heartbeats. A listener that goes first says that it wants nothing
more, and gives back what was on its way as well; what the broker was about to send when it heard that is the only
thing that waits for the end of its lease.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from os import urandom
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from .nats_client import LOST, NOBODY, REPLY, Connection, Session
from .nats_hands import Joint, NatsDelivery, NatsHands
from .nats_streams import SECOND, make_follower, make_group, make_stream, note_of, released
from .nats_wire import Place, stream_of

EXPIRES: Final = 30.0
HEARTBEAT: Final = 2.5
"""Every so many seconds the broker says that it has nothing; two that are missed end the connection."""
BATCH_BYTES: Final = 32 * 1024 * 1024
"""A broker cuts off whom it has sent much more than this and who has not read it."""

_EMPTY: Final = frozenset({"404", "408"})
_CONFLICT: Final = "409"
_HEARTBEAT: Final = "100"
_ENDED: Final = ("Message Size Exceeds MaxBytes", "Batch Completed")


class Reading(ABC):
    """The reading of one listener, by a consumer that the broker keeps for it or its group."""

    def __init__(self, connection: Connection, hands: NatsHands) -> None:
        self.hands = hands
        self.stream = stream_of(hands.channel)
        self._connection = connection
        self._session: Session | None = None
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._inbox = ""
        self._request = 0
        self._wanted = 0  # how many the broker owes to the request
        self._problem = ""
        self._last_heard = 0.0
        self._came: deque[Msg] = deque()
        self._news = asyncio.Event()

    @abstractmethod
    async def join(self, session: Session) -> str:
        """The name of the consumer, which is made if it is not there."""

    @abstractmethod
    async def attempt(self, session: Session, message: Msg) -> int:
        """How often a message was given out."""

    def hold(self, message: Msg) -> bool:
        return self.hands.hold(message)

    async def read(self) -> list[NatsDelivery]:
        """The next deliveries. Raises ConnectionError and Refused, after which it may be asked again."""
        session = self._session
        if session is None or not session.alive or self._problem:
            session = await self._open()
        if not self._came:
            if not self._wanted:
                await self._ask(session)
            await self._wait(session)
        return await self._given(session)

    async def leave(self) -> None:
        """Take nothing more, and give back what is held. Raises ConnectionError."""
        session = self._session
        if session is None or not session.alive:
            return
        session.unwatch(self._news.set)
        await self._unsubscribe(session)
        await self.hands.give_all_back(session)

    async def _open(self) -> Session:
        """Begin on a connection, the consumer being there."""
        if self._session is not None:
            self._session.unwatch(self._news.set)
            if self._session.alive:
                await self._unsubscribe(self._session)
        session = await self._connection.session()
        self._session = None
        self._consumer = await self.join(session)
        self._inbox = session.client.new_inbox()
        self._subscription = await session.subscribe(f"{self._inbox}.*", partial(self._hear, self._inbox))
        self._wanted, self._problem = 0, ""
        session.watch(self._news.set)
        self._session = session
        return session

    async def _ask(self, session: Session) -> None:
        self._request += 1
        self._wanted = self.hands.room
        self._last_heard = asyncio.get_running_loop().time()
        request = {
            "batch": self._wanted,
            "expires": round(EXPIRES * SECOND),
            "idle_heartbeat": round(HEARTBEAT * SECOND),
            "max_bytes": max(BATCH_BYTES, 2 * session.client.max_payload),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self._consumer}"
        await session.publish(subject, json.dumps(request).encode(), f"{self._inbox}.{self._request}")

    async def _hear(self, inbox: str, message: Msg) -> None:
        """Something came for a request: a message, or what became of it; late from a connection that ended, nothing."""
        if inbox != self._inbox:
            return
        self._last_heard = asyncio.get_running_loop().time()
        if message.reply:
            self._wanted -= 1
            if self.hold(message):
                self._came.append(message)
            elif self.hands.is_done(message):
                await message.ack()
        elif message.subject == f"{inbox}.{self._request}":
            self._told(message.headers or {})
        self._news.set()

    def _told(self, headers: dict[str, str]) -> None:
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if status in _EMPTY or (status == _CONFLICT and description.startswith(_ENDED)):
            self._wanted = 0
        elif status == NOBODY:
            self._problem = "the consumer is gone"
        elif status != _HEARTBEAT:
            self._problem = description.strip() or f"status {status}"

    async def _wait(self, session: Session) -> None:
        """Return when there is something, or the request has ended."""
        while not self._came and self._wanted > 0:
            if self._problem:
                raise ConnectionError(f"nats: {self._problem}")
            if not session.alive:
                raise ConnectionError("nats: the connection has ended")
            self._news.clear()
            try:
                async with asyncio.timeout_at(self._last_heard + 2 * HEARTBEAT):
                    await self._news.wait()
            except TimeoutError:
                if self._last_heard + 2 * HEARTBEAT <= asyncio.get_running_loop().time():
                    session.end()
                    raise ConnectionError("nats: nothing is heard from the broker") from None

    async def _given(self, session: Session) -> list[NatsDelivery]:
        """Deliveries of what came; what cannot be made one of yet stays."""
        given: list[NatsDelivery] = []
        try:
            while self._came:
                message = self._came[0]
                attempt = await self.attempt(session, message)
                self._came.popleft()
                given.append(NatsDelivery(self.hands, message, attempt))
        except LOST:
            if not given:
                raise
        return given

    async def _unsubscribe(self, session: Session) -> None:
        """Want nothing more; returns when what was on its way has come."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                async with asyncio.timeout(REPLY):
                    await subscription.drain()  # type: ignore[no-untyped-call]
            except Exception as error:
                session.end()
                raise ConnectionError(f"nats: {error!r}") from error


class Competing(Reading):
    """The reading of a listener that shares the messages with its group."""

    async def join(self, session: Session) -> str:
        hands = self.hands
        assert hands.name is not None
        await make_stream(session, hands.channel)
        hands.joint = Joint(session, await make_group(session, hands.channel, hands.name, hands.lease))
        return hands.name

    async def attempt(self, session: Session, message: Msg) -> int:
        place = Place.of(message.reply)
        if place.delivered == 1:
            return 1
        assert self.hands.name is not None
        note = note_of(self.hands.channel, self.hands.name, place)
        return max(1, place.delivered - await released(session, note))


class Following(Reading):
    """The reading of a listener that hears every message from its start on.

    Its consumer ends with the connection, or soon after; the next one begins behind the last message that was seen.
    """

    def __init__(self, connection: Connection, hands: NatsHands) -> None:
        super().__init__(connection, hands)
        self._seen: int | None = None
        self._created = ""

    async def join(self, session: Session) -> str:
        stream = await make_stream(session, self.hands.channel)
        if self._seen is not None:
            # A stream that was made again, or has lost its end, has lower numbers than those that were seen.
            again = stream["created"] != self._created
            self._seen = 0 if again else min(self._seen, stream["state"]["last_seq"])
        self._created = stream["created"]
        name = f"everybody-{urandom(8).hex()}"
        start: dict[str, object] = {"deliver_policy": "new"}
        if self._seen is not None:
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._seen + 1}
        behind = await make_follower(session, self.stream, name, **start)
        if self._seen is None:
            self._seen = behind
        return name

    async def attempt(self, session: Session, message: Msg) -> int:
        return 1

    def hold(self, message: Msg) -> bool:
        self._seen = Place.of(message.reply).sequence
        return super().hold(message)

    async def leave(self) -> None:
        await super().leave()
        if self._session is not None and self._session.alive:
            await self._session.api(f"CONSUMER.DELETE.{self.stream}.{self._consumer}")

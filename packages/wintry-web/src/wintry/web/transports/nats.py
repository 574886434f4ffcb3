"""NATS JetStream as a durable transport: a stream and durable consumers for each channel.

What is published is a message of the stream `wintry-{CHANNEL}`, under the subject `wintry.channel.{CHANNEL}`
(`nats_wire` says how names are written). The broker answers for each one, and all of them are sent before the first
answer is waited for. A group is a consumer of its own that begins at the stream's beginning, so it is given what was
published before it came. All listeners share one connection (`nats_client`), and each asks for as much as it has room
for (`nats_reading`). What somebody holds is renewed and settled one by one (`lending`, `nats_hands`); what nobody has renewed for
`lease` seconds is given to another.

A dead letter is a message of the stream `wintry_dead-{CHANNEL}`, and is stored before its message is ended. Messages
are removed once every group has done with them and they are `retention` seconds old, never before; those of a channel
without groups at that age. A listener without a group follows the stream from its end on and settles nothing. Nothing
ends a listener: it connects again, and makes a lost stream or group again (`nats_streams`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final

from wintry.bus.transports import Caps, Delivery, Parked, TransportMessage

from .lending import Lender
from .nats_client import LOST, Connection, Refused, Session, taken
from .nats_hands import NatsHands
from .nats_reading import Competing, Following, Reading
from .nats_streams import make_stream, stored, tidy
from .nats_wire import (
    MESSAGE_ID,
    RESERVED,
    dead_stream_of,
    decoded,
    encoded,
    group_and_reason,
    size_of,
    subject_of,
)

AT_ONCE: Final = 256
BYTES_AT_ONCE: Final = 4 * 1024 * 1024
"""How much may be on its way to the broker before an answer is waited for."""

Sent = tuple[dict[str, str], bytes]


class NatsStreams(Lender[Reading]):
    """A transport on NATS JetStream; `lease` and `retention` are seconds, `url` may be several, separated by commas.

    `dedupe` is not claimed: the broker knows an id for two minutes only.
    """

    broker = "nats"
    lost = LOST
    caps = Caps(durable=True, groups=True, broadcast=True, attempts=True, dead_letters=True, envelope=True)

    def __init__(self, url: str, *, lease: float = 40.0, retention: float = 86_400.0) -> None:
        super().__init__(lease=lease)
        self.url = url
        self._retention = retention
        self._connection = Connection(url)

    # sending

    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        """Add messages to the stream; returns when the broker has them all.

        Raises:
            ConnectionError: it cannot be reached; the messages may be there all the same.
            ValueError: a message is larger than the broker takes; nothing was sent.
        """
        if not messages:
            return
        session = await self._connection.session()
        sent = [({**encoded(each), MESSAGE_ID: _plain(each.id)}, each.body) for each in messages]
        for message, (headers, body) in zip(messages, sent, strict=True):
            if (size := size_of(headers, body)) > (largest := _largest(session)):
                raise ValueError(
                    f"message {message.id} has {size} bytes, and this broker takes {largest}: "
                    "send less, or raise max_payload in the server's configuration"
                )
        self._channels.add(channel)
        subject = subject_of(channel)
        for some in _parts(sent):
            if left := await _send(session, subject, some):
                await make_stream(session, channel)
                left = await _send(session, subject, left)
                if left:
                    raise ConnectionError(f"nats: no stream takes what is sent to {subject}")

    # receiving

    async def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncGenerator[Delivery]:
        """Messages of a channel; see `Transport.receive`. A broker that is away is waited for."""
        hands = NatsHands(self._connection, channel, group, prefetch, self.lease)
        reading = (Following if group is None else Competing)(self._connection, hands)
        async with aclosing(self._lent(channel, reading)) as given:
            async for delivery in given:
                yield delivery

    async def parked(self, channel: str, *, limit: int = 100) -> list[Parked]:
        """The dead letters of a channel, oldest first."""
        session = await self._connection.session()
        letters: list[Parked] = []
        async with aclosing(stored(session, dead_stream_of(channel))) as found:
            async for sequence, headers, body in found:
                group, reason = group_and_reason(headers)
                letters.append(Parked(channel, group, decoded(channel, str(sequence), headers, body), reason))
                if len(letters) >= limit:
                    break
        return letters

    # life

    async def check(self) -> None:
        """Raises ConnectionError if the broker, or its JetStream, does not answer."""
        try:
            await (await self._connection.session()).api("INFO")
        except Refused as error:
            raise ConnectionError(str(error)) from error

    async def _disconnect(self) -> None:
        await self._connection.close()

    async def _tidy(self, channel: str) -> None:
        await tidy(await self._connection.session(), channel, self._retention)


async def _send(session: Session, subject: str, messages: list[Sent]) -> list[Sent]:
    """Send messages in their order; those that no stream took."""
    answers: list[asyncio.Future[Any]] = []
    left: list[Sent] = []
    try:
        for headers, body in messages:
            answers.append(await session.send(subject, body, headers))
        for answer, message in zip(answers, messages, strict=True):
            if (reply := await session.answer(answer)) is None:
                left.append(message)
            else:
                taken(reply)
    finally:
        for answer in answers:
            answer.cancel()
    return left


def _parts(messages: list[Sent]) -> Iterator[list[Sent]]:
    """So many at a time that neither side has to keep too much."""
    part: list[Sent] = []
    size = 0
    for message in messages:
        if part and (len(part) == AT_ONCE or size + len(message[1]) > BYTES_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(message)
        size += len(message[1])
    if part:
        yield part


def _largest(session: Session) -> int:
    """How large a message may be, so that it can still become a dead letter."""
    largest = session.client.max_payload
    return largest - min(RESERVED, largest // 4)


def _plain(id: str) -> str:
    return encoded(TransportMessage(id, "", b""))["ce-id"]

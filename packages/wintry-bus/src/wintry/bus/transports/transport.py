"""The seam to brokers: what a transport offers, and what it says it can do.

A transport moves `TransportMessage`s between processes and knows nothing of handlers. `receive` yields deliveries, and
each is settled exactly once: `ack` (it is done), `park` (a dead letter, never given out again by itself) or `release`
(given back as if it had not been received). What a process has received and not settled when it dies is given out
again. Differences between brokers are stated in `Caps` and checked before a listener starts, not met at run time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

logger = logging.getLogger("wintry.bus")


@dataclass(frozen=True, slots=True)
class TransportMessage:
    """What travels. `headers` are named after CloudEvents attributes: time, correlationid, causationid, traceparent."""

    id: str
    type: str
    body: bytes
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caps:
    """What a transport can do.

    `durable`: a message survives the broker's and every listener's restart. `groups`: listeners of one group compete,
    each message goes to one of them. `broadcast`: every listener hears every message. `ordered`: messages of one key
    are given out in the order in which they were published. `attempts`: it counts how often it gave a message out.
    `dead_letters`: it keeps what was parked. `dedupe`: a message published twice under one id is given out once.
    `envelope`: id, type, key and headers of a message arrive with its body; otherwise each delivery has an id of its own.
    """

    durable: bool = False
    groups: bool = False
    broadcast: bool = False
    ordered: bool = False
    attempts: bool = False
    dead_letters: bool = False
    dedupe: bool = False
    envelope: bool = False


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that a listener of `group` could not deal with; None is one that heard everything."""

    channel: str
    group: str | None
    message: TransportMessage
    reason: str


class Delivery(Protocol):
    """One message in the hands of one listener."""

    @property
    def message(self) -> TransportMessage: ...

    @property
    def attempt(self) -> int:
        """How often the message was given out, from 1; 0 if the transport cannot say."""
        ...

    async def ack(self) -> None:
        """The message is dealt with."""
        ...

    async def park(self, reason: str) -> None:
        """The message cannot be dealt with: keep it among the dead letters."""
        ...

    async def release(self) -> None:
        """Give the message back; the attempt does not count."""
        ...


class Transport(Protocol):
    """A way to send messages to other processes and to hear theirs."""

    @property
    def caps(self) -> Caps: ...

    async def publish(self, channel: str, messages: Sequence[TransportMessage]) -> None:
        """Send messages; returns when the broker has taken responsibility for all of them."""
        ...

    def receive(self, channel: str, *, group: str | None, prefetch: int) -> AsyncIterator[Delivery]:
        """Messages of a channel, as they come; the iterator ends only by being closed.

        Listeners of one `group` compete, None hears every message from now on. At most `prefetch` deliveries are
        unsettled at a time.
        """
        ...

    async def check(self) -> None:
        """Raises what keeps the broker from being reached."""
        ...

    async def start(self) -> None:
        """Connect."""
        ...

    async def stop(self) -> None:
        """Disconnect; deliveries that are not settled are given out again. Who still listens is given nothing more."""
        ...


async def stop_all(transports: Iterable[Transport]) -> None:
    """Stop every transport; one that cannot be stopped is logged, and keeps no other from ending."""
    results = await asyncio.gather(*(transport.stop() for transport in transports), return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            logger.error("a transport could not be stopped", exc_info=result)

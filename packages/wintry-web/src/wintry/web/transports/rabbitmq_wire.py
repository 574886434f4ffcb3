"""How channels and groups are named on RabbitMQ, and how a message is written.

A name may have 127 characters of few kinds, so what a channel's name has besides is escaped, and a long one is cut and
told apart by a digest. Attributes travel as headers by their CloudEvents names, `cloudEvents:id` and so on, which no
broker takes for its own as it does `CC` or `x-…`; id and type stand in the properties of AMQP too, where they fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from os import urandom
from typing import Any, Final

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage

from wintry.bus.transports import TransportMessage

EVENT: Final = "cloudEvents:"
OWN: Final = "wintry:"
GIVEN: Final = f"{OWN}given"
GROUP: Final = f"{OWN}group"
REASON: Final = f"{OWN}reason"

LONGEST_NAME: Final = 127
_LONGEST_PROPERTY: Final = 255
_LONGEST_REASON: Final = 8_000
_MOST_HEADERS: Final = 65_536
_ATTRIBUTES: Final = ("id", "type", "key")
_PLAIN: Final = re.compile(r"[^A-Za-z0-9_.,@/ -]")


@dataclass(frozen=True, slots=True)
class Names:
    """What a channel is made of, by the names that it has at the broker."""

    channel: str

    @property
    def exchange(self) -> str:
        """Where messages are published."""
        return name_of(self.channel)

    @property
    def groups(self) -> str:
        """The exchange before the queues of groups."""
        return name_of(self.channel, "groups")

    @property
    def waiting(self) -> str:
        """The exchange, and the queue, for what is published before there is a group."""
        return name_of(self.channel, "waiting")

    @property
    def first(self) -> str:
        """The exchange that says which group was the first."""
        return name_of(self.channel, "first")

    @property
    def dead(self) -> str:
        """The queue of dead letters."""
        return name_of(self.channel, "dead")

    def queue(self, group: str) -> str:
        """The queue of a group."""
        return name_of(self.channel, "group", group)


def name_of(*parts: str) -> str:
    """A name at the broker that nothing else has."""
    name = ":".join(("wintry", *(_PLAIN.sub(_escaped, part) for part in parts)))
    if len(name) <= LONGEST_NAME:
        return name
    digest = blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name[: LONGEST_NAME - len(digest) - 1]}#{digest}"


def encoded(message: TransportMessage) -> Message:
    """The message as it is published. Raises ValueError: its headers are more than a frame holds."""
    headers: dict[str, Any] = {EVENT + name: value for name, value in message.headers.items()}
    attributes = {"id": message.id, "type": message.type, "key": message.key}
    headers |= {EVENT + name: value for name, value in attributes.items() if value is not None}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    if size > _MOST_HEADERS:
        raise ValueError(f"message {message.id[:80]!r} has {size} bytes of headers, and RabbitMQ takes {_MOST_HEADERS}")
    return _persistent(message.body, headers, _property(message.id), _property(message.type))


def copied(incoming: AbstractIncomingMessage, message: TransportMessage, more: Mapping[str, Any]) -> Message:
    """The message once more, with `more` headers, under the id that it was given out with."""
    headers: dict[str, Any] = {name: value for name, value in _simple(incoming) if not name.startswith(OWN)}
    headers[EVENT + "id"] = message.id
    return _persistent(incoming.body, {**headers, **more}, _property(message.id), incoming.type)


def dead(incoming: AbstractIncomingMessage, message: TransportMessage, group: str, reason: str) -> Message:
    """The message as a dead letter."""
    said = {GROUP: group, REASON: reason[:_LONGEST_REASON]}
    return copied(incoming, message, {name: text.encode(errors="replace").decode() for name, text in said.items()})


def decoded(channel: str, incoming: AbstractIncomingMessage) -> TransportMessage:
    """The message of a delivery; one that says no id has a new one each time."""
    ours: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, value in _simple(incoming):
        if name.startswith(EVENT):
            ours[name.removeprefix(EVENT)] = str(value)
        elif not name.startswith(OWN):
            others[name] = str(value)
    id = ours.get("id") or incoming.message_id or urandom(16).hex()
    type = ours.get("type") or incoming.type or channel
    headers = {name: value for name, value in ours.items() if name not in _ATTRIBUTES}
    return TransportMessage(id, type, incoming.body, ours.get("key"), {**others, **headers})


def attempt_of(incoming: AbstractIncomingMessage) -> int:
    """How often the message has been given out: what the broker counted, and what a copy brought along."""
    return _number(incoming.headers.get(GIVEN)) + _number(incoming.headers.get("x-delivery-count")) + 1


def reason_of(incoming: AbstractIncomingMessage) -> tuple[str, str]:
    """The group that gave a message up, and why; the broker itself does where a limit for deliveries is set."""
    headers = incoming.headers
    if REASON in headers:
        return _text(headers.get(GROUP)), _text(headers[REASON])
    reason = headers.get("x-first-death-reason", "unknown")
    return _text(headers.get("x-first-death-queue", "")), f"the broker gave it up: {_text(reason)}"


def _simple(incoming: AbstractIncomingMessage) -> Iterator[tuple[str, str | int | float]]:
    """The headers that are text or a number; those that the broker adds, and tables, are not a message's own."""
    for name, value in incoming.headers.items():
        if name.startswith("x-"):
            continue
        if isinstance(value, bytes | bytearray):
            yield name, value.decode(errors="replace")
        elif isinstance(value, str | int | float):
            yield name, value


def _persistent(body: bytes, headers: dict[str, Any], id: str | None, type: str | None) -> Message:
    return Message(body, headers=headers, message_id=id, type=type, delivery_mode=DeliveryMode.PERSISTENT)


def _property(text: str) -> str | None:
    return text if len(text.encode()) <= _LONGEST_PROPERTY else None


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"#{byte:02X}" for byte in found[0].encode(errors="surrogatepass"))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0

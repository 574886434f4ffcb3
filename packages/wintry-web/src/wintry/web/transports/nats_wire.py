"""How channels, groups and messages are named and written on NATS.

The names of streams, consumers and subjects may not have dots, spaces, slashes or wildcards, so that whatever is no
letter, digit, `-` or `_` of ASCII is written as `=` and two hexadecimal digits for each byte, and a long name ends in
`==` and its hash: no two names are written alike.

A message is a body with the headers of CloudEvents' binding to NATS: `ce-id`, `ce-type`, `ce-key`, and `ce-` before
the name of each other header; what is not plain ASCII in them is percent-encoded. Others may write less: a message
without an id has one derived from its place, and headers that are not of CloudEvents are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from wintry.bus.transports import TransportMessage

LONGEST: Final = 160
"""How long a written name may be; a stream's is the name of a folder."""

PREFIX: Final = "ce-"
MESSAGE_ID: Final = "Nats-Msg-Id"
GROUP: Final = "wintry-group"
REASON: Final = "wintry-reason"
RESERVED: Final = 16_384
"""How many bytes of the largest message are left for what a dead letter has besides."""
LONGEST_REASON: Final = 8_000

_PLAIN: Final = "!#$&'()*+,/:;<=>?@[]^`{|}"  # what else is printable, but for quotes and the percent sign
_OWN: Final = frozenset({"id", "type", "key"})


def written(name: str) -> str:
    """A name as a part of a stream's, a consumer's or a subject's."""
    data = name.encode(errors="surrogatepass")
    text = re.sub(rb"[^A-Za-z0-9_-]", lambda found: b"=%02X" % found[0][0], data).decode() or "="
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 66]}=={sha256(data).hexdigest()}"


def stream_of(channel: str) -> str:
    return f"wintry-{written(channel)}"


def subject_of(channel: str) -> str:
    return f"wintry.channel.{written(channel)}"


def dead_stream_of(channel: str) -> str:
    return f"wintry_dead-{written(channel)}"


def dead_subject_of(channel: str) -> str:
    return f"wintry.dead.{written(channel)}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is in its stream, and how often it was given out, as the subject for its acknowledgement says."""

    sequence: int
    delivered: int
    time: str  # nanoseconds

    @classmethod
    def of(cls, reply: str) -> Place:
        """From `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.…`; newer servers may put domain and account before."""
        words = reply.split(".")
        delivered, sequence, _, time = (words[4:] if len(words) == 9 else words[6:])[:4]
        return cls(int(sequence), int(delivered), time)

    def __str__(self) -> str:
        """Different for a stream that was made again, whose sequence begins anew."""
        return f"{self.sequence}-{self.time}"


def encoded(message: TransportMessage) -> dict[str, str]:
    """The headers of a message."""
    headers = {_name(name): _value(value) for name, value in message.headers.items()}
    headers |= {f"{PREFIX}id": _value(message.id), f"{PREFIX}type": _value(message.type)}
    if message.key is not None:
        headers[f"{PREFIX}key"] = _value(message.key)
    return headers


def decoded(channel: str, place: str, headers: Mapping[str, str], body: bytes) -> TransportMessage:
    """The message of a body and its headers; what is no text in them is replaced."""
    found = dict(_understood(headers))
    rest = {name: value for name, value in found.items() if name not in _OWN}
    id = found.get("id") or f"{channel}:{place}"
    return TransportMessage(id, found.get("type", channel), body, found.get("key"), rest)


def buried(headers: Mapping[str, str], id: str, group: str, reason: str) -> dict[str, str]:
    """The headers of a dead letter; a reason that is too long loses its end."""
    kept = {name: value for name, value in headers.items() if not name.lower().startswith("nats-")}
    kept.setdefault(f"{PREFIX}id", _value(id))
    short = re.sub(r"%.?$", "", _value(reason)[:LONGEST_REASON])
    return {**kept, GROUP: _value(group), REASON: short}


def group_and_reason(headers: dict[str, str]) -> tuple[str, str]:
    """What `buried` has added, which is taken away again."""
    return _text(headers.pop(GROUP, "")), _text(headers.pop(REASON, ""))


def size_of(headers: Mapping[str, str], body: bytes) -> int:
    """How many bytes the server counts."""
    return len(body) + 12 + sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())


def headers_of(block: bytes) -> dict[str, str]:
    """The headers of a stored message as the server keeps them: a line for each."""
    lines = block.decode(errors="replace").split("\r\n")[1:]
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def _understood(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        lower = str(name).lower()
        if lower.startswith(PREFIX):
            yield _text(lower.removeprefix(PREFIX)), _text(value)
        elif not lower.startswith("nats-") and lower not in _OWN:
            yield name, value


def _name(name: str) -> str:
    """Upper case is encoded too, as some clients change it."""
    return PREFIX + re.sub(
        rb"[^a-z0-9_.-]", lambda found: b"%%%02x" % found[0][0], name.encode(errors="surrogatepass")
    ).decode("ascii")


def _value(text: str) -> str:
    return quote(text, safe=_PLAIN, errors="surrogatepass")


def _text(value: str) -> str:
    try:
        return unquote(value, errors="surrogatepass")
    except UnicodeDecodeError:
        return unquote(value, errors="replace")

"""How a message is written in an entry of a stream, and read again.

The fields are `id`, `type`, `key` and `body`, and the headers by their names. Others may write less: an entry without
an id has one derived from its place, one without a body is the JSON object of its fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from wintry.bus.transports import TransportMessage

DEAD: Final = ":dead"
LOCK: Final = ":bridge"
_OWN: Final = frozenset({b"id", b"type", b"key", b"body"})


def stream_of(channel: str) -> str:
    """The key of a channel's stream."""
    return f"wintry:{{{channel}}}"


def encoded(message: TransportMessage) -> dict[Any, Any]:
    """The fields of a message."""
    fields: dict[Any, Any] = {**message.headers, "id": message.id, "type": message.type, "body": message.body}
    if message.key is not None:
        fields["key"] = message.key
    return fields


def decoded(channel: str, place: bytes, fields: Mapping[bytes, bytes]) -> TransportMessage:
    """The message of an entry; what is no text in its headers is replaced."""
    text = {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in fields.items()
        if name != b"body"
    }
    id = text.get("id") or f"{channel}:{place.decode()}"
    if b"body" not in fields:
        return TransportMessage(id, channel, json.dumps(text, ensure_ascii=False).encode(), None, {})
    headers = {name: value for name, value in text.items() if name.encode() not in _OWN}
    return TransportMessage(id, text.get("type", channel), fields[b"body"], text.get("key"), headers)

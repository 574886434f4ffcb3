"""How much a client may send, and reading no more than that.

`read_body` refuses by `Content-Length` before it reads, and counts what arrives, since the header may be missing or
lie. `guarded` wraps `receive` in the same count for methods that read the request themselves. The server in front has
limits of its own for the request line; these hold whatever it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from .errors import BodyTooLarge, HeadersTooLarge

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an application. Sizes are bytes.

    `body` is what a route allows that does not say `max_body_size=`; `headers` counts header lines, `header_size` is
    names and values of all of them; `form_fields`, `form_files` and `form_part_size` bound one form, the size being
    that of one field which is not a file.
    """

    body: int = MEBIBYTE
    headers: int = 100
    header_size: int = 32 * 1024
    form_fields: int = 1000
    form_files: int = 100
    form_part_size: int = MEBIBYTE


def check_headers(scope: Scope, limits: Limits) -> None:
    """Raises `HeadersTooLarge` for too many headers, or too many bytes of them."""
    headers = scope["headers"]
    if len(headers) > limits.headers:
        raise HeadersTooLarge(f"more than {limits.headers} headers")
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
    if size > limits.header_size:
        raise HeadersTooLarge(f"more than {limits.header_size} bytes of headers")


async def read_body(receive: Receive, announced: bytes | None, limit: int) -> bytes:
    """The whole body; `announced` is the value of `Content-Length`, if there is one.

    Raises `BodyTooLarge` past `limit` bytes, and Starlette's `ClientDisconnect` if the client went away.
    """
    if announced is not None and announced.isdigit() and (len(announced) > 15 or int(announced) > limit):
        raise too_large(limit)
    message = await receive()
    body = body_of(message)
    if not message.get("more_body", False):
        if len(body) > limit:
            raise too_large(limit)
        return body
    chunks, size = [body], len(body)
    while message.get("more_body", False):
        if size > limit:
            raise too_large(limit)
        message = await receive()
        chunks.append(body_of(message))
        size += len(chunks[-1])
    if size > limit:
        raise too_large(limit)
    return b"".join(chunks)


def guarded(receive: Receive, limit: int) -> Callable[[], Awaitable[Message]]:
    """`receive`, raising `BodyTooLarge` once more than `limit` bytes came."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise too_large(limit)
        return message

    return counted


def body_of(message: Message) -> bytes:
    """The part of the body that a message of `receive` carries."""
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    return body


def too_large(limit: int) -> BodyTooLarge:
    """The error that names the limit."""
    return BodyTooLarge(f"the body is larger than {limit} bytes")

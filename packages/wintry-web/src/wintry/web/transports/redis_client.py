"""Clients of Redis with the time limits that fit what they do.

The limit of redis-py for a reply, five seconds unless told otherwise, ends a longer blocking read; and on Python 3.11
the way in which it limits what it sends can swallow a cancellation. So it is switched off, and each exchange has a limit of ours.
Replies are taken in the form of the second protocol, which is the same from all servers and versions of the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Client = Any
"""A client of redis-py, whose own types are those of all protocols and of both kinds of client at once."""

REPLY: Final = 5.0
LOST: Final = (RedisError, OSError)
"""What a broker that is away, starts or is misconfigured raises."""

PATIENCE: Final = 10.0
"""How many seconds a subscription is silent before it is asked whether it is still there."""

_AWAY: Final = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError)


def connect(url: str, *, again: bool = True) -> Client:
    """A client that connects when it is used; with `again` a command is repeated once on a connection that was lost."""
    return Redis.from_url(
        url,
        protocol=2,
        decode_responses=False,
        socket_connect_timeout=REPLY,
        socket_timeout=None,
        health_check_interval=PATIENCE,
        socket_keepalive=not url.startswith("unix:"),
        retry=Retry(NoBackoff(), 1 if again else 0),
    )


@asynccontextmanager
async def reached() -> AsyncGenerator[None]:
    """A broker that is away, or hangs, is a ConnectionError here, which may be tried again."""
    try:
        async with asyncio.timeout(REPLY):
            yield
    except TimeoutError as error:
        raise ConnectionError(f"redis: no answer within {REPLY:g} s") from error
    except _AWAY as error:
        raise ConnectionError(f"redis: {error}") from error


async def published(heard: Client) -> AsyncGenerator[tuple[str, bytes]]:
    """The channels and bodies that a subscription hears, until the connection is lost."""
    while True:
        message = await heard.get_message(timeout=PATIENCE)
        if message is not None and message["type"] == "message":
            yield message["channel"].decode(), message["data"]

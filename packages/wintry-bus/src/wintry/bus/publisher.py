"""Sending data to other services.

`Publisher` is what handlers ask for. `TransportPublisher` is the one that a runtime offers: inside a handler a send is
a message like a registered one, so it leaves with the commit, is repeated until the broker has it and keeps its id;
outside it goes to the broker at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from .call import Outgoing, encode_data, random_id, running
from .errors import CapabilityError, nearest
from .runtime import Runtime
from .transports.transport import TransportMessage


class Publisher(Protocol):
    """Sends data to a channel, at least once."""

    async def send(self, channel: str, data: Mapping[str, object]) -> None: ...


class TransportPublisher:
    """A publisher on a transport of a runtime."""

    def __init__(self, runtime: Runtime, *, transport: str = "default") -> None:
        self._runtime = runtime
        self._transport = transport

    async def send(self, channel: str, data: Mapping[str, object], *, key: str | None = None) -> None:
        """Send data to a channel. Messages of one `key` stay in order.

        Inside a handler it returns at once, the data leaves when the handler's work is committed, and the key is by
        default that of the message being handled. Outside it returns when the broker has taken the data.

        Raises:
            CapabilityError: the runtime has no transport of that name.
        """
        transports = self._runtime.transports
        to = transports.get(self._transport)
        if to is None:
            hint = nearest(self._transport, [*transports]) or "none is configured"
            raise CapabilityError(f"there is no transport {self._transport!r}: {hint}")
        body = encode_data(data)
        call = running.get()
        if call is not None and call.open:
            call.add(Outgoing(self._transport, channel, body, key or call.key))
            return
        now = datetime.now(UTC).isoformat()
        await to.publish(channel, [TransportMessage(random_id(), channel, body, key, {"time": now})])
        for observer in self._runtime.observers:
            observer.published(channel, body)

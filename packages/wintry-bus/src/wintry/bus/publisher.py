"""Sending data to other services.

`Publisher` is what handlers ask for. `TransportPublisher` is the one that a runtime offers: inside a handler a send is
a message like a registered one, so it leaves with the commit, is repeated until the broker has it and keeps its id;
outside it goes to the broker at once. A channel is a route like a handler, and its deliveries are publications.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from .call import Outgoing, encode_data, random_id, running
from .errors import CapabilityError, nearest
from .failpoints import reach
from .journal.journal import Row
from .retry import SENDS
from .routes import Route
from .transports.transport import Transport, TransportMessage

if TYPE_CHECKING:
    from .call import Call
    from .runtime import Runtime


class Publisher(Protocol):
    """Sends data to a channel, at least once."""

    async def send(self, channel: str, data: Mapping[str, object]) -> None: ...


class TransportPublisher:
    """A publisher on a transport of a runtime, by its name or on the runtime's default."""

    def __init__(self, runtime: Runtime, *, transport: str | None = None) -> None:
        self._runtime = runtime
        self._transport = transport

    async def send(self, channel: str, data: Mapping[str, object], *, key: str | None = None) -> None:
        """Send data to a channel. Messages of one `key` stay in order.

        Inside a handler it returns at once, the data leaves when the handler's work is committed, and the key is by
        default that of the message being handled. Outside it returns when the broker has taken the data.

        Raises:
            CapabilityError: the runtime has no transport of that name.
        """
        name, transports = self._transport or self._runtime.default_transport, self._runtime.transports
        to = transports.get(name)
        if to is None:
            hint = nearest(name, [*transports]) or "none is configured"
            raise CapabilityError(f"there is no transport {name!r}: {hint}")
        body = encode_data(data)
        call = running.get()
        if call is not None and call.open:
            call.add(Outgoing(name, channel, body, key or call.key))
            return
        now = datetime.now(UTC).isoformat()
        await to.publish(channel, [TransportMessage(random_id(), channel, body, key, {"time": now})])
        for observer in self._runtime.observers:
            observer.on_published(channel, body)


class ChannelRoute(Route):
    """The route to a channel of a transport."""

    laned = True
    unit = False

    def __init__(self, runtime: Runtime, name: str, transport: Transport, channel: str) -> None:
        async def publish(_: Any, outgoing: Outgoing) -> None:
            call = running.get()
            assert call is not None
            reach("publishing")
            await transport.publish(channel, [transport_message(call, outgoing)])
            reach("published")

        super().__init__(runtime, f"{name}:{channel}", SENDS, publish, runtime.limits.send_timeout)
        self.channel = channel
        self.transport = name

    def lane(self, message: Any) -> str | None:
        return None if message.key is None else f"{self.target}:{message.key}"

    def contract(self, message: Any) -> tuple[str, int, bytes]:
        return self.channel, 1, message.body

    def decode(self, row: Row) -> Outgoing:
        return Outgoing(self.transport, self.channel, row.body, row.headers.get("key"))


def transport_message(call: Call, outgoing: Outgoing) -> TransportMessage:
    """What a transport is given of a send: the stable id of the call, and where it comes from."""
    headers = {"time": call.envelope.time.isoformat(), "correlationid": call.correlation_id}
    if call.causation_id is not None:
        headers["causationid"] = call.causation_id
    if call.traceparent is not None:
        headers["traceparent"] = call.traceparent
    return TransportMessage(call.id, outgoing.channel, outgoing.body, outgoing.key, headers)

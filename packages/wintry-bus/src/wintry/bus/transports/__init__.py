"""Transports: the protocol, the runner of listeners, and the transport in memory."""

from .memory import Memory, Parked
from .runner import Listener, Runner
from .transport import Caps, Delivery, Transport, TransportMessage

__all__ = (
    "Caps",
    "Delivery",
    "Listener",
    "Memory",
    "Parked",
    "Runner",
    "Transport",
    "TransportMessage",
)

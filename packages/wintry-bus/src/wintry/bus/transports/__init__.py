"""Transports: the protocol, the runner of listeners, and the transport in memory."""

from .memory import Memory
from .runner import Listener, Runner
from .transport import Caps, Delivery, Parked, Transport, TransportMessage

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

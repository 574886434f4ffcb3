"""The test kit: watch a bus, make it crash at a named point, and hold a store or a transport to its contract."""

from .crash import crash_at
from .journal import JournalContract
from .recording import NotSettled, Recording, Sent, recording
from .transports import TransportContract

__all__ = (
    "JournalContract",
    "NotSettled",
    "Recording",
    "Sent",
    "TransportContract",
    "crash_at",
    "recording",
)

"""The journal of deliveries: its protocol and its stores."""

from .journal import Journal, JournalAdmin, JournalStore, Known, Row, Seen, Stats, Status
from .memory import MemoryJournal

__all__ = (
    "Journal",
    "JournalAdmin",
    "JournalStore",
    "Known",
    "MemoryJournal",
    "Row",
    "Seen",
    "Stats",
    "Status",
)

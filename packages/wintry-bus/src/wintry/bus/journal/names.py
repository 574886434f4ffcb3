"""The names of what the bus stores: of tables in a SQL database, of collections in MongoDB."""

from typing import Final

JOURNAL: Final = "_wintry_journal"
INBOX: Final = "_wintry_inbox"
OUTGOING: Final = "_wintry_outgoing"
DUTIES: Final = "_wintry_duties"
MESSAGES: Final = "_wintry_queue"
GROUPS: Final = "_wintry_queue_groups"
DELIVERIES: Final = "_wintry_queue_deliveries"
COUNTERS: Final = "_wintry_counters"
"""Where MongoDB counts what a SQL database numbers by itself."""

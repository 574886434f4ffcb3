"""One module for each dialect of SQL: its types, its connections, and how its hot path runs."""

"""The one SQLite file. `sqlite3`, `sqlite_utils` and SQL text live in this package only."""

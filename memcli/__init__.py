"""memcli: chat transcripts to a deduplicated, searchable long-term memory in one SQLite file."""

__version__ = "0.1.0"

__all__ = ["__version__"]

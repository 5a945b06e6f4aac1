"""The transcript readers: one module per dialect, and the choice among them by name or by a file's first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from itertools import islice

from memcli.errors import UsageError
from memcli.model import Line
from memcli.protocols import Reader, Source
from memcli.readers.claude_code import ClaudeCodeReader
from memcli.readers.fields import nearest
from memcli.readers.flat import FlatReader, parse_map
from memcli.readers.lines import MAX_LINE_BYTES, cut_record, parse, read_lines

__all__ = ["MAX_LINE_BYTES", "READERS", "detect", "make_reader", "parse_map"]

# In the order they are asked in: what anything could be comes last.
READERS = ("claude-code", "flat")

_MAX_RECORDS = 50


def make_reader(name: str, mapping: Mapping[str, str] | None = None) -> Reader:
    """Give the reader of that name; `mapping` is for the flat one. UsageError for a name that is not in `READERS`."""
    if name == "claude-code":
        return ClaudeCodeReader()
    if name == "flat":
        return FlatReader(mapping)
    raise UsageError(f"unknown format {name!r}{nearest(name, READERS)}", f"known formats: {', '.join(READERS)}")


def detect(head: bytes, mapping: Mapping[str, str] | None = None) -> Reader | None:
    """Give the reader that claims the first lines in `head`, or None when none does.

    `head` is the beginning of a file, 64 KB of it or more. At most 50 records are looked at; when not even one
    ends within it, what can be seen of that one decides.
    """
    lines = (line for line in read_lines(Source(BytesIO(head))) if isinstance(line, Line))
    parsed = (parse(line) for line in lines)
    records = list(islice((record for record in parsed if isinstance(record, dict)), _MAX_RECORDS))
    if not records:
        seen = cut_record(head.rpartition(b"\n")[2])
        records = [seen] if seen else []
    readers = (make_reader(name, mapping) for name in READERS)
    return next((reader for reader in readers if reader.sniff(records)), None)

"""The transcript readers: one module per dialect, and the choice among them by name or by a file's first bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice

from memcli.errors import UsageError
from memcli.model import Line
from memcli.protocols import Reader, Source
from memcli.readers.arrays import HEAD_SIZE, WRAPPED_ARRAY, array_kind, first_elements
from memcli.readers.chatgpt import ChatGPTReader
from memcli.readers.claude_code import ClaudeCodeReader
from memcli.readers.codex import CodexReader
from memcli.readers.fields import nearest
from memcli.readers.flat import FlatReader, parse_map
from memcli.readers.lines import FILL, MAX_LINE_BYTES, cut_record, parse, read_lines
from memcli.readers.openai_messages import OpenAIMessagesReader
from memcli.readers.pi import PiReader
from memcli.readers.sharegpt import ShareGPTReader

__all__ = [
    "FORMATS",
    "MAX_LINE_BYTES",
    "READERS",
    "SUFFIXES",
    "FormatInfo",
    "detect",
    "is_array",
    "make_reader",
    "parse_map",
]

_LINES = (".jsonl", ".ndjson")
_LINES_OR_ARRAY = (*_LINES, ".json")


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """A format as it is listed: whose memory it feeds, where its files lie, and how their names end."""

    name: str
    agent: str
    where: str
    suffixes: tuple[str, ...]

    @property
    def may_be_array(self) -> bool:
        """Whether a file may be one JSON array instead of lines."""
        return ".json" in self.suffixes


# In the order they are asked in: what anything could be comes last.
FORMATS = (
    FormatInfo("claude-code", "claude-code", "~/.claude/projects/<project>/<session>.jsonl", _LINES),
    FormatInfo("codex", "codex", "~/.codex/sessions/<year>/<month>/<day>/rollout-*.jsonl", _LINES),
    FormatInfo("pi", "pi", "~/.pi/agent/sessions/<project>/*.jsonl", _LINES),
    FormatInfo("chatgpt", "chatgpt", "conversations.json in the zip of a data export", (*_LINES_OR_ARRAY, ".zip")),
    FormatInfo(
        "openai-messages", "default", 'anywhere: {"messages": [...]}, one per line or an array', _LINES_OR_ARRAY
    ),
    FormatInfo("sharegpt", "default", 'anywhere: {"conversations": [...]}, one per line or an array', _LINES_OR_ARRAY),
    FormatInfo("flat", "default", "anywhere: one message per line", _LINES),
)
READERS = tuple(format_info.name for format_info in FORMATS)
# What a folder is searched for; each may be compressed.
SUFFIXES = tuple(dict.fromkeys(suffix for format_info in FORMATS for suffix in format_info.suffixes))

_MAX_RECORDS = 50
# A pretty-printed file of something else has thousands of lines, none of them a record.
_MAX_LINES = 1000


def make_reader(name: str, mapping: Mapping[str, str] | None = None) -> Reader:
    """Give the reader of that name; `mapping` is for the flat one. UsageError for a name that is not in `READERS`."""
    if name == "flat":
        return FlatReader(mapping)
    for make in (ClaudeCodeReader, CodexReader, PiReader, ChatGPTReader, OpenAIMessagesReader, ShareGPTReader):
        if make.name == name:
            return make()
    raise UsageError(f"unknown format {name!r}{nearest(name, READERS)}", f"known formats: {', '.join(READERS)}")


def detect(head: bytes, mapping: Mapping[str, str] | None = None) -> Reader | None:
    """Give the reader that claims the first records in `head`, or None when none does.

    `head` is the beginning of a file, 64 KB of it or more. At most 50 records, lines or elements of an array, are
    looked at; when not even one ends within it, what can be seen of that one decides.
    """
    kind = array_kind(head[:HEAD_SIZE], wrapped=True)
    if kind is None:
        return _claiming(_first_lines(head), READERS, mapping)
    records = first_elements(head, kind, _MAX_RECORDS)
    if not records:
        seen = cut_record(_behind_opening(head, kind))
        records = [seen] if seen else []
    names = [format_info.name for format_info in FORMATS if format_info.may_be_array]
    return _claiming(records, ["chatgpt"] if kind == WRAPPED_ARRAY else names, mapping)


def is_array(name: str, head: bytes) -> bool:
    """Whether the file that starts with `head` is one JSON array for the reader of that name: it counts elements."""
    by_name = {format_info.name: format_info for format_info in FORMATS}
    if not by_name[name].may_be_array:
        return False
    return array_kind(head[:HEAD_SIZE], wrapped=name == ChatGPTReader.name) is not None


def _claiming(records: Sequence[object], names: Sequence[str], mapping: Mapping[str, str] | None) -> Reader | None:
    readers = (make_reader(name, mapping) for name in names)
    return next((reader for reader in readers if reader.sniff(records)), None)


def _first_lines(head: bytes) -> list[dict[str, object]]:
    lines = islice((line for line in read_lines(Source(BytesIO(head))) if isinstance(line, Line)), _MAX_LINES)
    parsed = (parse(line) for line in lines)
    records = list(islice((record for record in parsed if isinstance(record, dict)), _MAX_RECORDS))
    if not records:
        seen = cut_record(head.rpartition(b"\n")[2])
        records = [seen] if seen else []
    return records


def _behind_opening(head: bytes, kind: str) -> bytes:
    """What follows the bracket that opens the array."""
    opening = head.find(b'"conversations"') if kind == WRAPPED_ARRAY else 0
    return head[opening:].partition(b"[")[2].lstrip(FILL)

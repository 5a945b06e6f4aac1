"""The physical line layer of all JSONL dialects: bytes to numbered lines, lines to JSON objects, bad lines to reasons.

What a record means is not decided here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from memcli.model import Line, Rejected, Skipped
from memcli.protocols import Source
from memcli.text import clean

MAX_LINE_BYTES = 32 << 20
CHUNK_BYTES = 1 << 20
# Enough for redaction to see a whole key before the head is cut to what is stored.
HEAD_BYTES = 4096

# Where a line without a newline was taken; what follows there belongs to the same line (see `read_lines`).
TAIL_STATE = "tail"

BOM = b"\xef\xbb\xbf"
# A crashed writer or a file system that lost power leaves runs of NUL around the objects.
FILL = b" \t\r\n\v\f\0"
# Escapes that can put a lone surrogate or a NUL into a parsed string; raw ones never get past UTF-8 and JSON.
_UNSTORABLE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?P<end>"?)|[{}\[\]]', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}
NOT_AN_OBJECT = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def read_lines(source: Source, limit: int = MAX_LINE_BYTES) -> Iterator[Line | Skipped | Rejected]:
    r"""Yield every line from `source.position` on: a Line, Skipped "blank", or Rejected when it is above `limit` bytes.

    Lines end at b"\n" only. Line numbers go on from `position.line`, byte offsets from `position.offset`; at offset 0
    `source.state` is cleared and a byte order mark is dropped. At most `limit` bytes plus one chunk are in memory.

    A last line without a newline is taken when it is a complete JSON object. Otherwise nothing is yielded for it, so
    that the position stays before it, unless `source.final`: then it is Rejected. When a taken line gets its newline
    later, that newline is reported as "blank" under the number of the line it ends.
    """
    start, number = source.position.offset, source.position.line
    if start == 0:
        source.state.clear()
    elif source.state.get(TAIL_STATE) == str(start):
        number -= 1
    unfinished: list[bytes] = []
    size = 0
    while chunk := source.stream.read(CHUNK_BYTES):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            number += 1
            raw = b"".join((*unfinished, piece)) if unfinished else piece
            size += len(piece)
            end = start + size + 1
            yield _too_long(start, end, number, raw, limit) if size > limit else _line(start, end, number, raw)
            start, size = end, 0
            unfinished.clear()
        size += len(rest)
        if rest:
            unfinished.append(rest)
        if size > limit:
            unfinished = [b"".join(unfinished)[:HEAD_BYTES]]
    if size:
        yield from _last(source, start, number + 1, b"".join(unfinished), size, limit)


def parse(line: Line) -> dict[str, object] | Rejected:
    """Parse one line; whatever is wrong with its bytes becomes a Rejected. Positions in reasons count from 1.

    NUL and white space around the object are ignored. Strings hold nothing that SQLite cannot store (`text.clean`).
    """
    body = line.raw.strip(FILL)
    try:
        text = body.decode()
        record = json.loads(text)
        if "\\u" in text and _UNSTORABLE.search(text):
            record = _storable(record)
    except UnicodeDecodeError as error:
        reason = f"invalid UTF-8 at byte {_lead(line) + error.start + 1}"
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg.removesuffix(' at')} at column {_lead(line) + error.pos + 1}"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError:
        reason = "a number with too many digits"
    else:
        if isinstance(record, dict):
            return record
        reason = f"{NOT_AN_OBJECT[type(record)]}, not an object"
    return reject(line, reason)


def read_records(source: Source) -> Iterator[tuple[Line, dict[str, object]] | Skipped | Rejected]:
    """Yield every line with its object, as `read_lines` and `parse` give them; what is none goes as it is."""
    for line in read_lines(source):
        if not isinstance(line, Line):
            yield line
            continue
        record = parse(line)
        yield record if isinstance(record, Rejected) else (line, record)


def reject(line: Line, reason: str) -> Rejected:
    """Reject a line that could be read but not be understood."""
    return Rejected(line.start, line.end, line.number, reason, line.raw[:HEAD_BYTES])


def cut_record(head: bytes) -> dict[str, object] | None:
    """See what can be seen of an object whose line goes on behind `head`: what is cut off is closed, or left out."""
    text = head.decode(errors="ignore").lstrip("\ufeff" + FILL.decode())
    open_brackets: list[str] = []
    for token in _TOKEN.finditer(text):
        if token[0] in _CLOSING:
            open_brackets.append(_CLOSING[token[0]])
        elif token[0] in ("}", "]"):
            if open_brackets:
                open_brackets.pop()
        elif not token["end"]:
            text = text[: token.start()] + '""'
    closing = "".join(reversed(open_brackets))
    # The cut was behind a value, behind a key, or behind the colon.
    for missing in ("", ":null", "null"):
        try:
            record = json.loads(text.rstrip().removesuffix(",") + missing + closing)
        except (ValueError, RecursionError):
            continue
        return record if isinstance(record, dict) else None
    return None


def _line(start: int, end: int, number: int, raw: bytes) -> Line | Skipped:
    if start == 0:
        raw = raw.removeprefix(BOM)
    if not raw.strip(FILL):
        return Skipped("blank", end, number)
    return Line(start, end, number, raw)


def _too_long(start: int, end: int, number: int, raw: bytes, limit: int) -> Rejected:
    size = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit} bytes"
    return Rejected(start, end, number, f"line longer than {size}", raw[:HEAD_BYTES])


def _last(
    source: Source, start: int, number: int, raw: bytes, size: int, limit: int
) -> Iterator[Line | Skipped | Rejected]:
    """Decide about a last line without a newline: it may still be being written."""
    end = start + size
    if size > limit:
        if source.final:
            yield _too_long(start, end, number, raw, limit)
        return
    line = _line(start, end, number, raw)
    if isinstance(line, Skipped):
        if source.final:
            yield line
    elif isinstance(parse(line), dict):
        source.state[TAIL_STATE] = str(end)
        yield line
    elif source.final:
        yield reject(line, "incomplete last line")


def _lead(line: Line) -> int:
    return len(line.raw) - len(line.raw.lstrip(FILL))


def _storable(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): _storable(item) for key, item in value.items()}
    return value

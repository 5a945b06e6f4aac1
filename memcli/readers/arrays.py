"""JSON arrays as streams: the elements one by one, in bounded memory, and up to where a damaged array is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Protocol

import ijson

from memcli.readers.lines import BOM, FILL, MAX_LINE_BYTES

ARRAY = "item"
# ChatGPT exports may hold the array as the field of an object.
WRAPPED_ARRAY = "conversations.item"
HEAD_SIZE = 1 << 16
CHUNK_BYTES = 1 << 16
# The parser joins the names of all open objects anew at every step: time and memory are quadratic in the depth.
MAX_DEPTH = 200

_KEPT = b'[]{}"'
_DROPPED = bytes(byte for byte in range(256) if byte not in _KEPT)
_STRING = re.compile(rb'"[^"]*"')
_WRAPPING = re.compile(rb'"conversations"\s*:\s*\[')
_REASON_LENGTH = 60


class BrokenArrayError(Exception):
    """Why the rest of an array cannot be read."""


class Readable(Protocol):
    """What is needed of a stream."""

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes; nothing at the end."""


class Unread:
    """A stream that cannot seek, with what was read from it to look at put back in front."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        """See BinaryIO."""
        if not self._head:
            return self._stream.read(size)
        taken = self._head if size < 0 else self._head[:size]
        self._head = self._head[len(taken) :]
        return taken + self._stream.read() if size < 0 else taken


def read_head(stream: Readable, *, wrapped: bool = False) -> bytes:
    """Read as much as `array_kind` needs: 64 KB, or less where the first byte already shows that these are lines."""
    may_open = b"[{" if wrapped else b"["
    head = b""
    while len(head) < HEAD_SIZE and (more := stream.read(HEAD_SIZE - len(head))):
        head += more
        text = _text(head)
        if text and text[0] not in may_open:
            break
    return head


def array_kind(head: bytes, *, wrapped: bool = False) -> str | None:
    """Tell from the first 64 KB of a file (or all of it) where its array is, `ARRAY` or `WRAPPED_ARRAY`; None: lines.

    Only with `wrapped` an object that holds ChatGPT's conversations is taken for the wrapping of an array.
    """
    text = _text(head)
    if text.startswith(b"["):
        first, newline, rest = text.partition(b"\n")
        # Lines may begin with one that is a list; behind a whole array comes nothing, or another array by mistake.
        behind = rest.lstrip(FILL)
        return None if newline and behind and not behind.startswith(b"[") and _is_json(first) else ARRAY
    if wrapped and text.startswith(b"{"):
        found = _WRAPPING.search(text)
        if found and text.find(b'"mapping"') > found.start():
            return WRAPPED_ARRAY
    return None


def read_elements(stream: Readable, kind: str) -> Iterator[object]:
    """Yield the elements of the array one after another; an element and 64 KB of the file are in memory.

    Raises:
        BrokenArrayError: what follows the last element that was yielded is not the rest of an array.
    """
    found = ijson.sendable_list()
    parser = ijson.items_coro(found, kind, use_float=True)
    depth = _Depth()
    size = 0
    chunk = stream.read(CHUNK_BYTES).removeprefix(BOM)
    while chunk:
        problem = None
        # Runs of NUL are white space, as between lines.
        chunk = chunk.replace(b"\0", b" ")
        try:
            depth.follow(chunk)
            parser.send(chunk)
        except (ijson.JSONError, ValueError) as error:
            problem = _reason(error)
        size = 0 if found else size + len(chunk)
        yield from found
        found.clear()
        if size > MAX_LINE_BYTES:
            problem = f"an element longer than {MAX_LINE_BYTES >> 20} MiB"
        if problem:
            raise BrokenArrayError(problem)
        chunk = stream.read(CHUNK_BYTES)
    try:
        parser.close()
    except (ijson.JSONError, ValueError):
        raise BrokenArrayError("the file ends in the middle of the array") from None


def first_elements(head: bytes, kind: str, most: int) -> list[object]:
    """Give the elements that end within `head`, at most so many."""
    elements: list[object] = []
    found = read_elements(BytesIO(head), kind)
    with suppress(BrokenArrayError, StopIteration):
        while len(elements) < most:
            elements.append(next(found))
    return elements


class _Depth:
    """Follows how deeply brackets nest, at a fraction of the parser's time."""

    def __init__(self) -> None:
        self._open = 0
        self._in_string = False
        self._escape = b""

    def follow(self, chunk: bytes) -> None:
        """Go on by one chunk; ValueError when the brackets may be nested more deeply than `MAX_DEPTH`."""
        chunk = self._escape + chunk
        self._escape = b"\\" if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2 else b""
        chunk = chunk.removesuffix(self._escape)
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        brackets = (b'"' if self._in_string else b"") + chunk.translate(None, _DROPPED)
        self._in_string = brackets.count(b'"') % 2 == 1
        # Most strings hold no bracket: they go without the slower search.
        brackets = _STRING.sub(b"", brackets.replace(b'""', b""))
        if self._in_string:
            brackets = brackets.partition(b'"')[0]
        self._fold(brackets)

    def _fold(self, brackets: bytes) -> None:
        """Take out innermost pairs round by round: as many rounds as they are deep."""
        for rounds in range(MAX_DEPTH):
            folded = brackets.replace(b"[]", b"").replace(b"{}", b"")
            if len(folded) == len(brackets):
                opened = brackets.count(b"[") + brackets.count(b"{")
                if self._open + opened + rounds <= MAX_DEPTH:
                    self._open += 2 * opened - len(brackets)
                    return
                break
            brackets = folded
        raise ValueError("nested too deeply")


def _text(head: bytes) -> bytes:
    return head.removeprefix(BOM).lstrip(FILL)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _reason(error: Exception) -> str:
    # yajl draws the place under its message; where it is no UTF-8 the message is the repr of bytes.
    text = re.split(r"\n|\\n", str(error).removeprefix("b'"), maxsplit=1)[0]
    return text[:_REASON_LENGTH].rstrip(" .")

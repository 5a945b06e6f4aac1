"""Pure text functions that every layer shares: cleaning, hashing, sentence ends, pieces."""

from __future__ import annotations

import hashlib
import re
import unicodedata

PIECE_LIMIT = 1000

_SURROGATE_OR_NUL = re.compile("[\ud800-\udfff\x00]")
# A sentence ends at . ! ? or an ellipsis (closing quotes and brackets stay with it) before white space, at the
# full-width marks of scripts that set no space behind them, at an empty line, or before a list item. Without the
# look-behind and the possessive repeats a row of n dots takes n² steps.
_SENTENCE_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s)|[。！？]+[”’」』）]*|\n[ \t]*\n|\n(?=[ \t]*(?:[-*•]|\d+[.)])\s)"
)
# An abbreviation before the full stop: "e.g. this", "Dr. Smith", "J. Doe". Wrong splits cost more than long sentences.
_NO_END = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|dr|mr|mrs|ms|prof|fig|al|inc|ltd)|\b(?-i:[A-Z]))\.$",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """Replace what SQLite or UTF-8 cannot hold (lone surrogates, NUL) by U+FFFD."""
    if text.isascii() and "\0" not in text:  # most texts, told in a thirtieth of the time
        return text
    return _SURROGATE_OR_NUL.sub("�", text)


def normalise(text: str) -> str:
    """Unicode NFC with white space folded to single spaces and trimmed: the identity of a text for exact dedup."""
    folded = " ".join(text.split())
    return folded if folded.isascii() else unicodedata.normalize("NFC", folded)


def digest(*parts: str) -> bytes:
    """16 bytes of BLAKE2b over the parts, led by their lengths, so that no two lists of parts collide by joining."""
    lengths = ",".join([str(len(part)) for part in parts])
    raw = f"{lengths}:{''.join(parts)}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw, digest_size=16).digest()


def content_hash(text: str) -> bytes:
    """The hash under which two texts are the same text (see `normalise`)."""
    return digest(normalise(text))


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences of `text`, trimmed of white space, in order; together they hold all of its words."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        if text[match.start()] == "." and _NO_END.search(text, max(start, match.start() - 8), match.start() + 1):
            continue
        _add_trimmed(spans, text, start, end)
        start = end
    _add_trimmed(spans, text, start, len(text))
    return spans


def pieces(text: str, limit: int = PIECE_LIMIT) -> list[tuple[int, int]]:
    """Spans of at most `limit` characters that cut `text` at sentence ends, else at white space, else anywhere."""
    if len(text) <= limit:
        spans: list[tuple[int, int]] = []
        _add_trimmed(spans, text, 0, len(text))
        return spans
    result: list[tuple[int, int]] = []
    for start, end in sentences(text):
        if result and end - result[-1][0] <= limit:
            result[-1] = (result[-1][0], end)
            continue
        begin = start
        while end - begin > limit:
            cut = text.rfind(" ", begin + limit // 2, begin + limit)
            cut = cut if cut > 0 else begin + limit
            _add_trimmed(result, text, begin, cut)
            begin = cut
        _add_trimmed(result, text, begin, end)
    return result


def _add_trimmed(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        spans.append((start, end))

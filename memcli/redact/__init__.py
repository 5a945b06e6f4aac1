"""Credentials become typed placeholders, `[redacted:openai-key]`, before a text is stored or shown. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from functools import partial

from memcli.redact.assigned import assigned
from memcli.redact.keys import GATES, Detector

# What gives a text back without credentials, and how many there were by kind.
Redactor = Callable[[str], tuple[str, dict[str, int]]]

# How much of a rejected line is looked at.
_HEAD_BYTES = 16_384
_KEY_CHARACTERS = string.ascii_letters + string.digits + "_.+/=-"

# What a terminal would obey, and the invisible marks that reorder or hide text.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


# What a placeholder says of the secret that it stands for, beside its kind.
Mark = Callable[[str], str]


def redact(text: str, mark: Mark | None = None) -> tuple[str, dict[str, int]]:
    """Replace credentials by `[redacted:KIND]`; return the text and the number of replacements by kind.

    Of connection strings, webhook addresses and assignments only the secret itself is replaced. With `mark` it is
    `[redacted:KIND#MARK]`. Redacting a redacted text changes nothing. Time is linear in the length of the text.
    """
    counts: dict[str, int] = {}
    for gate, detectors in GATES:
        if gate in text:
            text = _apply(detectors, text, counts, mark)
    return _apply_assigned(text, counts, mark), counts


def untouched(text: str) -> tuple[str, dict[str, int]]:
    """The redactor that redacts nothing."""
    return text, {}


def _apply(detectors: tuple[Detector, ...], text: str, counts: dict[str, int], mark: Mark | None) -> str:
    for literal, kind, pattern in detectors:
        if literal in text:
            new = (r"\g<keep>" if pattern.groups else "") + _placeholder(kind)
            text, count = pattern.subn(new if mark is None else partial(_marked, kind=kind, mark=mark), text)
            if count:
                counts[kind] = counts.get(kind, 0) + count
    return text


def _marked(match: re.Match[str], kind: str, mark: Mark) -> str:
    keep = match["keep"] if match.re.groups else ""
    return keep + _placeholder(kind, mark, match[0].removeprefix(keep))


def _placeholder(kind: str, mark: Mark | None = None, secret: str = "") -> str:
    # Behind any other sign than # the mark of a token would look like the value of one.
    return f"[redacted:{kind}]" if mark is None else f"[redacted:{kind}#{mark(secret)}]"


def _apply_assigned(text: str, counts: dict[str, int], mark: Mark | None) -> str:
    spans = assigned(text)
    if not spans:
        return text
    parts, end = [], 0
    for start, stop, kind in spans:
        parts += [text[end:start], _placeholder(kind, mark, text[start:stop])]
        counts[kind] = counts.get(kind, 0) + 1
        end = stop
    return "".join([*parts, text[end:]])


def redact_bytes_head(raw: bytes, limit: int = 200) -> str:
    """Return at most `limit` characters of the start of `raw`, redacted, in a form that a terminal can show.

    The redaction comes before the cut, so that no half of a key is left at the end. NULs are left out: they fill the
    holes of damaged files and stand between the letters of UTF-16.
    """
    text, _ = redact(raw[:_HEAD_BYTES].replace(b"\0", b"").decode("utf-8", "replace"))
    if len(raw) > _HEAD_BYTES and len(text) <= limit:
        text = text.rstrip(_KEY_CHARACTERS)  # What was looked at may end inside a key.
    return _UNSHOWABLE.sub("�", text[:limit])

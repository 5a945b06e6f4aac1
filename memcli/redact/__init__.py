"""Credentials become typed placeholders, `[redacted:openai-key]`, before a text is stored or shown. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Callable

from memcli.redact.assigned import assigned
from memcli.redact.keys import GATES, Detector

# What gives a text back without credentials, and how many there were by kind.
Redactor = Callable[[str], tuple[str, dict[str, int]]]

# How much of a rejected line is looked at.
_HEAD_BYTES = 16_384
_KEY_CHARACTERS = string.ascii_letters + string.digits + "_.+/=-"

# What a terminal would obey, and the invisible marks that reorder or hide text.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def redact(text: str) -> tuple[str, dict[str, int]]:
    """Replace credentials by `[redacted:KIND]`; return the text and the number of replacements by kind.

    Of connection strings, webhook addresses and assignments only the secret itself is replaced. Redacting a redacted
    text changes nothing. Time is linear in the length of the text.
    """
    counts: dict[str, int] = {}
    for gate, detectors in GATES:
        if gate in text:
            text = _apply(detectors, text, counts)
    return _apply_assigned(text, counts), counts


def untouched(text: str) -> tuple[str, dict[str, int]]:
    """The redactor that redacts nothing."""
    return text, {}


def _apply(detectors: tuple[Detector, ...], text: str, counts: dict[str, int]) -> str:
    for literal, kind, pattern in detectors:
        if literal in text:
            keep = r"\g<keep>" if pattern.groups else ""
            text, count = pattern.subn(f"{keep}[redacted:{kind}]", text)
            if count:
                counts[kind] = counts.get(kind, 0) + count
    return text


def _apply_assigned(text: str, counts: dict[str, int]) -> str:
    spans = assigned(text)
    if not spans:
        return text
    parts, end = [], 0
    for start, stop, kind in spans:
        parts += [text[end:start], f"[redacted:{kind}]"]
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

"""Content that is a list of typed blocks, as Claude Code, Codex and pi write it: its texts, and what else is in it."""

from __future__ import annotations

from memcli.readers.fields import kind_name

_TEXT_KINDS = ("text", "input_text", "output_text")


def listed(content: object) -> list[object]:
    """Give the blocks of a content value, which may also be a bare string or a single block."""
    if isinstance(content, list):
        return content
    return [content] if isinstance(content, str | dict) else []


def texts_of(blocks: list[object]) -> list[str]:
    """Give the texts of text blocks and bare strings, without those that are only white space."""
    found: list[str] = []
    for block in blocks:
        text = block
        if isinstance(block, dict):
            text = block.get("text") if block.get("type", "text") in _TEXT_KINDS else None
        if isinstance(text, str) and text and not text.isspace():
            found.append(text)
    return found


def first_kind(blocks: list[object]) -> str:
    """Name the first block that is no text; "empty" when there is none."""
    kinds = (kind_name(block.get("type"), absent="empty") for block in blocks if isinstance(block, dict))
    return next((kind for kind in kinds if kind not in _TEXT_KINDS), "empty")

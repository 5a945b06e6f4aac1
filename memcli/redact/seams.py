"""Credentials that go on from one piece of a message to the next: each record of a streamed message is such a piece.

What is stored already stays: memories point to it. It holds no more than the beginning of a credential that is too
short to be told, or the name before one; what follows of it is redacted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memcli.redact import redact
from memcli.redact.assigned import assigned

_CONTEXT = 4000  # more than any name with its value; of a block of a private key the first lines are enough
_GLUED = 1000
_PLACEHOLDER = "[redacted:"
_KEY_BLOCK = "[redacted:private-key]"
# In the place of a block that was cut off behind some of its lines.
_CUT_BLOCK = "-----BEGIN PRIVATE KEY-----\n" + "A" * 64
_LAST_RUN, _FIRST_RUN = re.compile(rf"\S{{1,{_GLUED}}}\Z"), re.compile(rf"\S{{1,{_GLUED}}}")


def redact_pieces(before: str, pieces: Sequence[str], separator: str) -> tuple[str, dict[str, int]]:
    """Redact the pieces of a text that stands behind `before`, which is redacted, and join them."""
    counts: dict[str, int] = {}
    said: list[str] = []
    for piece in pieces:
        text, kinds = redact_behind(before, piece, separator)
        said.append(text)
        # No more of it than is looked at: a message may come in very many pieces.
        before = (before[-_CONTEXT:] + separator + text if before else text)[-_CONTEXT:]
        for kind, count in kinds.items():
            counts[kind] = counts.get(kind, 0) + count
    return separator.join(said), counts


def redact_behind(before: str, text: str, separator: str) -> tuple[str, dict[str, int]]:
    """Redact a text in the light of what stands before it; `before` itself stays as it is."""
    before = before[-_CONTEXT:]
    if not before or redact(before)[1]:
        return redact(text)
    if before.endswith(_KEY_BLOCK):
        before = before.removesuffix(_KEY_BLOCK)
        rest = redact(before + _CUT_BLOCK + separator + text)[0].removeprefix(before + _KEY_BLOCK)
        if len(rest) < len(separator + text) and not rest.startswith(separator):
            return _KEY_BLOCK + rest, {"private-key": 1}
        return redact(text)
    return _glued(before, text) or _in_context(before + separator, text)


def _glued(before: str, text: str) -> tuple[str, dict[str, int]] | None:
    """One that was cut in its middle: it is whole where the last word and the first are put together.

    It must be one by its own form: behind "PGPASSWORD=x1" any word that the next piece begins with would look like more
    of the value.
    """
    last, first = _LAST_RUN.search(before), _FIRST_RUN.match(text)
    if last is None or first is None:
        return None
    whole = last[0] + first[0]
    found, _ = redact(whole)
    begin = _first_difference(whole, found)
    behind = _common(whole[::-1], found[::-1])
    taken = len(whole) - behind - len(last[0])
    if found == whole or begin >= len(last[0]) or taken <= 0 or redact(first[0])[1]:
        return None
    placeholder = found[begin : len(found) - behind]
    kind = placeholder.removeprefix(_PLACEHOLDER).removesuffix("]")
    if kind == "password" or any(start < len(last[0]) < end for start, end, _ in assigned(whole)):
        return None
    rest, kinds = redact(text[taken:])
    return placeholder + rest, kinds | {kind: kinds.get(kind, 0) + 1}


def _in_context(context: str, text: str) -> tuple[str, dict[str, int]]:
    """One whose name stands before, or that goes on behind the white space between."""
    found, kinds = redact(context + text)
    if not kinds:
        return text, kinds
    return found[min(_first_difference(context + text, found), len(context)) :], kinds


def _first_difference(text: str, found: str) -> int:
    """Where a redacted text begins to differ: at the bracket of the first placeholder that is new in it."""
    place = _common(text, found)
    if place < len(found) and not found.startswith(_PLACEHOLDER, place):
        place = max(found.rfind("[", 0, place), 0)
    return place


def _common(one: str, other: str) -> int:
    """How long the beginning is that two texts share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, its) in pairs if mine != its), min(len(one), len(other)))

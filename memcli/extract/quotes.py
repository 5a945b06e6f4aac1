"""Whether a quote stands in a text, and where. Pure."""

from __future__ import annotations

import re
import unicodedata

# Fewer letters and digits than this prove nothing: they stand in nearly every text.
_LEAST = 4


def find_quote(text: str, quote: str) -> tuple[int, int] | None:
    """The span of `text` that says `quote`, white space apart; None where there is none, or the quote is no evidence.

    A quote that is composed otherwise than the text (é as one character or as two) is found as well.
    """
    if sum(mark.isalnum() for mark in quote) < min(_LEAST, sum(mark.isalnum() for mark in text) or 1):
        return None
    for said in dict.fromkeys((quote, unicodedata.normalize("NFC", quote), unicodedata.normalize("NFD", quote))):
        found = re.search(r"\s+".join(map(re.escape, said.split())), text)
        if found is not None:
            return found.span()
    return None

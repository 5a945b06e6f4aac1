"""The texts to learn from: files of one text per line, read whole, each text once."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memcli.errors import UsageError
from memcli.text import clean

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus file or database as the card names it: its texts, their BLAKE2b, how often an epoch shows each."""

    name: str
    texts: int
    weight: float
    blake2b: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Distinct texts, sorted, and how often an epoch shows each (float64, one per text)."""

    texts: Sequence[str]
    weights: NDArray[np.float64]
    sources: Sequence[Source]


def read_lines(path: Path) -> list[str]:
    """The texts of a UTF-8 file, one per line, plain or gzip. Raises UsageError when it cannot be read as such."""
    try:
        raw = path.read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", "name a text file, plain or .gz") from error
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no UTF-8 text: {error}", "name a text file, plain or .gz") from error


def gather(parts: Mapping[str, tuple[Sequence[str], float]]) -> Corpus:
    """Unite named lists of texts with their weights; a text of several parts counts with the largest weight.

    Raises UsageError when no text is left.
    """
    weights: dict[str, float] = {}
    sources = []
    for name, (lines, weight) in parts.items():
        texts = sorted({clean(line).strip() for line in lines} - {""})
        hashed = hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()
        sources.append(Source(name, len(texts), weight, hashed))
        for text in texts:
            weights[text] = max(weight, weights.get(text, 0.0))
    if not weights:
        raise UsageError("the corpus holds no text", "name files of one text per line")
    ordered = sorted(weights)
    return Corpus(ordered, np.array([weights[text] for text in ordered]), sources)

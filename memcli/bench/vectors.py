"""Vectors to measure the scan on: generated from a seed as embeddings of texts lie, or a user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memcli.errors import UsageError

GENERATED = (
    "topics of 50 vectors around one mean, a spectrum that decays, one vector in ten a near duplicate of an earlier one"
    " at a cosine from 0.8 to 1, one in fifty a copy"
)
_TOPIC_SIZE, _NEAR_SHARE, _COPY_SHARE = 50, 0.10, 0.02
_LEAST_COSINE = 0.8
# Parts of a vector before it is scaled to length one: what all have in common, its topic, itself.
_MEAN, _TOPIC, _OWN = 0.4, 0.6, 0.7
_MATRIX = 2


def generate(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    """`count` vectors of length one, float32 (count, dim), as GENERATED says; the same ones for the same seed."""
    draw = np.random.default_rng(seed)
    spectrum = (np.arange(1, dim + 1, dtype=np.float32)) ** np.float32(-0.25)
    topics = _unit(draw.standard_normal((max(count // _TOPIC_SIZE, 1), dim), dtype=np.float32) * spectrum)
    mean = _unit(draw.standard_normal((1, dim), dtype=np.float32) * spectrum)
    vectors = draw.standard_normal((count, dim), dtype=np.float32)
    vectors *= spectrum
    vectors = _unit(vectors)
    vectors *= np.float32(_OWN)
    vectors += np.float32(_TOPIC) * topics[draw.integers(0, len(topics), count)]
    vectors += np.float32(_MEAN) * mean
    vectors = _unit(vectors)
    kind = draw.random(count)
    for row in np.flatnonzero(kind[1:] < _NEAR_SHARE + _COPY_SHARE) + 1:
        model = vectors[draw.integers(0, row)]
        cosine = 1.0 if kind[row] < _COPY_SHARE else draw.uniform(_LEAST_COSINE, 1)
        own = vectors[row] - (vectors[row] @ model) * model
        length = float(np.linalg.norm(own))
        vectors[row] = cosine * model + (np.sqrt(1 - cosine**2) / length * own if length else 0)
    return _unit(vectors)


def load(path: Path, count: int | None) -> NDArray[np.float32]:
    """The first `count` rows (None: all) of a .npy file, scaled to length one where they are not; zero rows stay.

    Raises:
        UsageError: the file cannot be read, or holds no finite numbers in rows.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", "make one with numpy.save") from error
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path} is no .npy file of numbers", "make one with numpy.save") from error
    if not isinstance(found, np.ndarray) or found.ndim != _MATRIX or found.dtype.kind not in "fiu" or not found.size:
        raise UsageError(f"{path} holds no matrix of numbers", "one row per vector")
    vectors = np.array(found[:count], dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise UsageError(f"{path} holds values that are not finite", "leave those rows out")
    return _unit(vectors)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows in place to length one, except for those that have it or are zero."""
    for at in range(0, len(vectors), 1 << 14):
        rows = vectors[at : at + (1 << 14)]
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        off = (np.abs(lengths - 1) > 1e-6) & (lengths > 0)  # noqa: PLR2004 - a few roundings of float32
        rows /= np.where(off, lengths, 1).astype(np.float32)
    return vectors

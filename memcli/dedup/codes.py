"""How vectors become int8 codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memcli.codes import Codes

# Stored codes are unsigned, shifted by this, as the integer product takes them. Those of queries keep to 7 bits: on
# processors without VNNI two products are added up in 16 bits, and 2 * 255 * 63 still fits.
SHIFT = 128
_STORED_RANGE, QUERY_RANGE = 127, 63
# Columns of Codes.scales.
STEP, ERROR, LENGTH = range(3)


def encode(vectors: NDArray[np.float32]) -> Codes:
    """Quantise rows, float32 (n, dim), each with a step of its own."""
    steps = largest(vectors, axis=1) / np.float32(_STORED_RANGE)
    steps = np.where(steps > 0, steps, np.float32(1))
    rounded, errors = quantise(vectors, steps[:, None], _STORED_RANGE)
    rounded += SHIFT
    scales = np.stack([steps, _raised(errors), _raised(norms(vectors))], axis=1)
    return Codes(rounded.astype(np.uint8), scales)


def quantise(
    vectors: NDArray[np.float32], step: NDArray[np.float32] | np.float32, limit: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Codes within +-limit as whole float32 numbers (n, dim), and a bound on the norm of what they leave over (n,)."""
    codes = vectors / step
    np.rint(codes, out=codes)
    np.clip(codes, -limit, limit, out=codes)
    # The float32 product and difference round once more than the proof of scan.py does: by far less than this.
    return codes, norms(vectors - codes * step) + norms(vectors) * 2.0**-22


def largest(vectors: NDArray[np.float32], axis: int | None = None) -> NDArray[np.float32]:
    """The largest absolute value, of all or along an axis."""
    found: NDArray[np.float32] = np.maximum(
        vectors.max(axis=axis, initial=0.0), -vectors.min(axis=axis, initial=0.0), dtype=np.float32
    )
    return found


def norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The Euclidean length of each row, summed in float64."""
    found: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return found


def _raised(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """As float32, rounded up."""
    raised: NDArray[np.float32] = np.nextafter(values.astype(np.float32), np.float32(np.inf))
    return raised

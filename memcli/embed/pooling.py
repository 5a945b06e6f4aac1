"""From the vectors of a text's tokens to the vector of the text, as sentence-transformers does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMALLEST = 1e-12


def pooled(tokens: NDArray[np.floating], mask: NDArray[np.bool_], pooling: str) -> NDArray[np.float32]:
    """One row per text from its token vectors (n, length, dim), shape (n, dim).

    Args:
        tokens: the vectors; what finite numbers stand at masked places has no effect.
        mask: which places are tokens of the text, (n, length); no row is empty, padding is at the end.
        pooling: "mean", "cls" (the first token), "max" (per component) or "last".
    """
    if pooling == "cls":
        rows = tokens[:, 0]
    elif pooling == "last":
        rows = tokens[np.arange(len(tokens)), mask.sum(axis=1) - 1]
    elif pooling == "max":
        rows = np.where(mask[:, :, None], tokens, -np.inf).max(axis=1)
    else:
        # A product with a row of weights: quicker than multiplying and then summing.
        weights = mask.astype(np.float32) / mask.sum(axis=1, dtype=np.float32)[:, None]
        rows = np.matmul(weights[:, None, :], tokens.astype(np.float32, copy=False))[:, 0]
    return rows.astype(np.float32, copy=False)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows scaled to unit length, float32; a zero row stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (rows / np.maximum(lengths, _SMALLEST)).astype(np.float32)
    return scaled

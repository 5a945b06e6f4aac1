"""What a matrix of vectors is beside its floats; apart from `model`, most of which a search does without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Codes:
    """Int8 codes of n vectors: a quarter of their size, with norms that say how far a product of codes can be off.

    `values` uint8 (n, dim): row i stands for x' = step * (values - SHIFT). `scales` float32 (n, 3): step, norm of the
    error x - x' and norm of x (see memcli.dedup.codes); the norms are rounded up.
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self.values.nbytes + self.scales.nbytes

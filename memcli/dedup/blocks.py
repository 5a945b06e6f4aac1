"""Stored vectors as the search for similar pairs takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memcli.dedup.codes import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from memcli.codes import Codes


class Rows(Protocol):
    """Vectors, float32 (n, dim), wherever they are; threads may ask for some."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        """Rows float32 (len(rows), dim)."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Stored vectors ready to be searched: `ids` int64 (n,), `vectors` float32 (n, dim), their codes.

    `keys` gives their merge keys, int64 (n,); it is called only in a flood, in the thread of the caller.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32] | Rows
    codes: Codes
    keys: Callable[[], NDArray[np.int64]] | None = None


def make_block(
    ids: NDArray[np.int64],
    vectors: NDArray[np.float32] | Rows,
    keys: Callable[[], NDArray[np.int64]] | None = None,
    *,
    codes: Codes | None = None,
) -> Block:
    """Make vectors, float32 (n, dim), ready for any number of searches; codes are made where there are none."""
    if codes is None:
        codes = encode(vectors if isinstance(vectors, np.ndarray) else vectors[np.arange(len(ids))])
    return Block(ids, vectors, codes, keys)

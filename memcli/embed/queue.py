"""The queue before the graph: texts wait for mates of their length, and run in batches of one size. Pure.

The batch processor hands over all texts of a commit at once, from whatever windows and files: that is where the queue
is filled. It is emptied by the end of the commit, the last batch of each bucket being as full as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

SIZES = (16, 32, 64, 128, 256)

_ROUNDS = 2
# A larger batch must be worth its memory.
_GAIN = 0.97


def fill(
    lengths: NDArray[np.int64], buckets: NDArray[np.int64], size: int, most_tokens: int | None = None
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield (bucket, positions) of batches; each position of `lengths` (n,) is in one of them, shortest first.

    A text goes to the first of `buckets` (ascending) that is not below its length, so that what it is padded to depends
    on itself only. All batches of a bucket but the last hold `size` texts, or as many as `most_tokens` allow: there is
    no way with fewer batches.
    """
    order = np.argsort(lengths, kind="stable")
    edges = np.searchsorted(lengths[order], buckets, side="right")
    begin = 0
    for bucket, end in zip(buckets.tolist(), edges.tolist(), strict=True):
        fitting = size_within(size, bucket, most_tokens)
        for first in range(begin, end, fitting):
            yield bucket, order[first : min(first + fitting, end)]
        begin = end


def size_within(size: int, bucket: int, most_tokens: int | None) -> int:
    """`size` texts of a bucket, or as many as stay within `most_tokens`, and at least one."""
    return size if most_tokens is None else max(1, min(size, most_tokens // bucket))


def fastest_size(seconds: Callable[[int], float], sizes: Sequence[int] = SIZES) -> int:
    """The smallest of `sizes` (ascending) that takes hardly longer per text than the best one.

    `seconds` runs one batch of so many texts and says how long it took. The sizes take turns, so that what slows the
    machine for a while does not fall on one of them.
    """
    seconds(sizes[0])  # the first run of a graph also makes its plans
    best = dict.fromkeys(sizes, float("inf"))
    for _ in range(_ROUNDS):
        for size in sizes:
            best[size] = min(best[size], seconds(size) / size)
    chosen = sizes[0]
    for size in sizes[1:]:
        if best[size] < best[chosen] * _GAIN:
            chosen = size
    return chosen

"""How many processors this process works on: one number, which all pools follow.

It is of the process and not of a part of it, since the processors are: two pools with a number each would be one too
many. No result depends on it.
"""

from __future__ import annotations

import os
import resource

# Pools of libraries that read their size once, when they are first used: that of the tokenizers, and of numpy's BLAS.
_POOLS = ("RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_TIGHT = 2 << 30


class _Chosen:
    """What `use` was told last, None for all processors."""

    count: int | None = None


def is_tight() -> bool:
    """Whether the memory of this process is limited (`ulimit -v`) to what a few threads reserve for themselves alone.

    Every thread takes 100 MB of addresses for its stack and its heap, and one that cannot have them may never say so.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return limit != resource.RLIM_INFINITY and limit < _TIGHT


def available() -> int:
    """The processors that this process may use: one where its memory is tight."""
    if is_tight():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use(count: int | None) -> None:
    """Let every pool have `count` threads, None: one for each processor that the process may use.

    To be called before numpy and the tokenizers are imported: theirs take the number when they are first used.
    """
    _Chosen.count = count
    if count is not None:
        os.environ.update(dict.fromkeys(_POOLS, str(count)))


def workers() -> int:
    """The threads that a pool may have."""
    return _Chosen.count or available()

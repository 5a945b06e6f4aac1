"""Whether there is memory for what is written in Rust: it ends the whole process where an allocation fails."""

from __future__ import annotations

import resource

import numpy as np

# What tokenising a batch of texts takes, the stacks and the heaps of its threads with it: generously.
BATCH_ROOM = 64 << 20


def check_room(size: int) -> None:
    """See that the process may take `size` more bytes; they are asked for and given back, never touched.

    Only a process with a limit (`ulimit -v`, RLIMIT_AS) can be refused memory, so that no other pays for the question.

    Raises:
        MemoryError: it may not.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        np.empty(size, dtype=np.uint8)

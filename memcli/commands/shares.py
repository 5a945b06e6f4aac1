"""Many queries in several processes: what answers a query is Python for the most part, so threads would take turns."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from memcli import workers

T = TypeVar("T")

# Queries that are answered together; shares are cut at their borders, so that no answer depends on the shares.
TOGETHER = 64
# A process takes half a second to start: so many queries must be there for each.
_WORTH_A_PROCESS = 4 * TOGETHER


def processes_for(queries: Sequence[str]) -> int:
    """How many processes are worth it for so many queries."""
    return max(min(workers.workers(), len(queries) // _WORTH_A_PROCESS), 1)


def in_processes(answer: Callable[[Sequence[str]], list[T]], queries: Sequence[str], processes: int) -> list[T]:
    """What `answer` gives for the queries, in their order; each process takes whole groups of them.

    `answer` and what it gives must be picklable. Each process works with one worker; what ends this one ends all.
    """
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), workers.use, (1,)) as pool:
        coming: list[Future[list[T]]] = []
        try:
            with _deaf():
                coming.extend(pool.submit(answer, share) for share in _shares(queries, processes))
            return [each for future in coming for each in future.result()]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _shares(queries: Sequence[str], processes: int) -> list[Sequence[str]]:
    """As many consecutive shares of whole groups as there are processes."""
    count = -(-len(queries) // TOGETHER)
    borders = [number * count // processes * TOGETHER for number in range(processes + 1)]
    return [queries[start:end] for start, end in itertools.pairwise(borders) if start < end]


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started in here do not hear Ctrl-C: the terminal tells all of them, and one says so."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

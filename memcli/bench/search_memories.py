"""How long a search takes: from the shell, warm in one process, many at once; and what the query cache saves."""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from memcli.bench.child import run_python
from memcli.bench.corpus import generate
from memcli.bench.machine import machine, versions
from memcli.search import MODES, Request, Searcher
from memcli.store.db import Store
from memcli.store.metrics import memories_by_type


class Open(Protocol):
    """Opens a benchmark's database, with the query cache or without."""

    def __call__(self, path: Path, *, use_cache: bool) -> AbstractContextManager[Searcher]:
        """See the class."""


TIMED = (
    "cold: a process from its start to its end, with the file in the system's cache; first: the first query in a"
    " process, which reads the vectors; warm: each other query, asked once: what it needs of words that no query before"
    " had is read from the index then; again: the same queries once more; together: all queries in one call; no query"
    " cache but where it says so"
)
LOG = "queries drawn by Zipf's law, the n-th most frequent 1/n as often as the first, out of so many different ones"
SIZES = (10_000, 100_000)
ZIPF_QUERIES, ZIPF_DISTINCT = 10_000, 5_000
_COLD_RUNS = 5
_WORD_COUNTS = (1, 2, 3, 4)


def bench_memories(
    sizes: Sequence[int], queries: int, seed: int, open_searcher: Open, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Measure searches over generated memories; the document of `memcli bench search --json`.

    Raises:
        MemcliError: a measured process failed.
    """
    return {
        "benchmark": "search",
        "versions": versions(),
        "machine": machine(),
        "timed": TIMED,
        "seed": seed,
        "queries": queries,
        "sizes": [_size(count, queries, seed, open_searcher, announce) for count in sizes],
    }


def _size(
    messages: int, queries: int, seed: int, open_searcher: Open, announce: Callable[[str], None]
) -> dict[str, Any]:
    with _database(messages, seed, announce) as folder:
        asked = _questions(messages, queries, seed)
        announce("searching from the shell")
        cold = [_cold(asked[number % len(asked)], folder, "--no-cache") for number in range(_COLD_RUNS)]
        _cold(asked[0], folder)
        cached = [_cold(asked[0], folder) for _ in range(_COLD_RUNS)]
        modes = {}
        with open_searcher(folder / "memory.db", use_cache=False) as searcher:
            memories = _memories(searcher.store)
            for mode in MODES:
                announce(f"searching warm, mode {mode}")
                searcher.forget()
                modes[mode] = _warm(searcher, asked, Request(mode))
    return {
        "messages": messages,
        "memories": memories,
        "cold_ms": _milliseconds([seconds for seconds, _ in cold]),
        "cold_cached_ms": _milliseconds([seconds for seconds, _ in cached]),
        "cold_peak_rss_mb": round(max(peak for _, peak in cold), 1),
        "modes": modes,
    }


def _cold(query: str, folder: Path, *options: str) -> tuple[float, float]:
    done = run_python(["-m", "memcli", "search", query, "--json", *options], folder)
    return done.seconds, done.peak_rss_mb


def _warm(searcher: Searcher, asked: Sequence[str], request: Request) -> dict[str, Any]:
    first, *others = asked if len(asked) > 1 else [*asked, *asked]
    alone, again = ([_seconds(searcher, [query], request) for query in (first, *others)] for _ in range(2))
    together = _seconds(searcher, asked, request)
    return {
        "first_ms": round(alone[0] * 1e3, 2),
        "warm_ms": _milliseconds(alone[1:]),
        "again_ms": _milliseconds(again),
        "queries_per_second": round(len(asked) / together, 1),
    }


def _seconds(searcher: Searcher, queries: Sequence[str], request: Request) -> float:
    began = time.perf_counter()
    searcher.answer(queries, request)
    return time.perf_counter() - began


def bench_zipf(
    messages: int, seed: int, open_searcher: Open, announce: Callable[[str], None], queries: int = ZIPF_QUERIES
) -> dict[str, Any]:
    """Replay a log of queries with the query cache on; the document of `memcli bench search --zipf --json`.

    Raises:
        MemcliError: a measured process failed.
    """
    draw = random.Random(seed)  # noqa: S311 - a benchmark's log, not a secret
    distinct = list(dict.fromkeys(_questions(messages, ZIPF_DISTINCT, seed)))
    log = draw.choices(distinct, weights=[1 / rank for rank in range(1, len(distinct) + 1)], k=queries)
    took: dict[bool, list[float]] = {True: [], False: []}
    with _database(messages, seed, announce) as folder, open_searcher(folder / "memory.db", use_cache=True) as searcher:
        memories = _memories(searcher.store)
        announce(f"asking {queries:,} queries")
        for query in log:
            began = time.perf_counter()
            (answer,) = searcher.answer([query], Request())
            took[answer.cached].append(time.perf_counter() - began)
    return {
        "benchmark": "search --zipf",
        "versions": versions(),
        "machine": machine(),
        "timed": "each query in one process, with what it reads from the cache and writes to it",
        "log": LOG,
        "seed": seed,
        "messages": messages,
        "memories": memories,
        "queries": queries,
        "distinct": len(set(log)),
        "seconds": round(sum(map(sum, took.values())), 4),
        "hits": len(took[True]),
        "hit_rate": round(len(took[True]) / queries, 4),
        "hit_ms": _milliseconds(took[True]),
        "miss_ms": _milliseconds(took[False]),
    }


@contextmanager
def _database(messages: int, seed: int, announce: Callable[[str], None]) -> Iterator[Path]:
    """A folder with a database of what `messages` generated messages hold, made by `memcli ingest`."""
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        announce(f"ingesting {messages:,} generated messages")
        with (folder / "messages.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(message) + "\n" for message in generate(messages, seed))
        run_python(["-m", "memcli", "ingest", "messages.jsonl", "--flush", "--json", "--quiet"], folder)
        yield folder


def _memories(store: Store) -> int:
    return sum(made for made, _ in memories_by_type(store, None).values())


def _questions(messages: int, count: int, seed: int) -> list[str]:
    """Questions that hold one to four words of some message, wherever they stand in it."""
    draw = random.Random(seed + 1)  # noqa: S311 - as above
    wanted = set(draw.sample(range(messages), min(count, messages)))
    found = []
    for number, message in enumerate(generate(messages, seed)):
        if number in wanted:
            words = [word.strip(".,*-") for word in str(message["content"]).split()]
            telling = [word for word in words if len(word) > len("that")] or words
            found.append("what about " + " ".join(draw.sample(telling, min(draw.choice(_WORD_COUNTS), len(telling)))))
    draw.shuffle(found)
    return found


def _milliseconds(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered) * 1e3, 2),
        "p95": round(ordered[int(len(ordered) * 0.95)] * 1e3, 2),
        "least": round(ordered[0] * 1e3, 2),
    }

"""`memcli bench search`: the benchmarks that search a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memcli.bench.search_locomo import bench_locomo
from memcli.bench.search_memories import SIZES, Open, bench_memories, bench_zipf
from memcli.commands.search import open_searcher
from memcli.config import Config
from memcli.search import Searcher
from memcli.store.db import Store

Announce = Callable[[str], None]


def locomo(files: Sequence[Path], environ: Mapping[str, str], announce: Announce) -> dict[str, Any]:
    """Evidence recall on LoCoMo conversations."""
    return bench_locomo(files, opener(environ), announce)


def memories(
    sizes: Sequence[int], queries: int, seed: int, environ: Mapping[str, str], announce: Announce
) -> dict[str, Any]:
    """Latency over generated memories."""
    return bench_memories(sizes or SIZES, queries, seed, opener(environ), announce)


def zipf(messages: int, queries: int, seed: int, environ: Mapping[str, str], announce: Announce) -> dict[str, Any]:
    """What the query cache saves."""
    return bench_zipf(messages, seed, opener(environ), announce, queries)


def opener(environ: Mapping[str, str]) -> Open:
    """Opens a benchmark's database with the default settings; its data folder is beside it."""

    @contextmanager
    def opened(path: Path, *, use_cache: bool) -> Iterator[Searcher]:
        own = {**environ, "MEMCLI_DATA_DIR": str(path.with_name("data"))}
        with Store.open(path) as store:
            yield open_searcher(store, Config(db=path), own, use_cache=use_cache)

    return opened

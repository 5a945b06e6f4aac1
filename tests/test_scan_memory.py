"""The scan of stored vectors holds what --max-memory allows, counts it truthfully, and finds the same pairs."""

import numpy as np
import pytest

from memcli import wiring
from memcli.bench.child import run_python
from memcli.dedup.blocks import make_block
from memcli.dedup.scan import pairs_among
from memcli.store.db import Store
from memcli.store.vectors import NewRows, Vectors, append_segments

DIM, ROWS = 256, 2048
MEGA = 1e6

CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from memcli import wiring
from memcli.dedup.blocks import make_block
from memcli.dedup.scan import pairs_above
from memcli.store.db import Store
from memcli.store.vectors import Vectors

with Store.open(Path(sys.argv[1])) as store:
    vectors = Vectors(store, "model", int(sys.argv[2]), wiring.coding())
    queries = next(vectors.segments())[1].whole()[:512].copy()
    for _ in range(2):
        blocks = (make_block(s.memory_ids, s.vectors, codes=s.codes) for _, s in vectors.segments())
        found = len(pairs_above(queries, blocks, 0.9).id)
    print(json.dumps({"cached": vectors.cached_bytes, "found": found}))
"""


def fill(path, segments):
    """A database with so many segments of ROWS random vectors, each of which has a near duplicate in every segment."""
    draw = np.random.default_rng(1)
    near = draw.normal(size=(ROWS, DIM))
    with Store.create(path) as store:
        for number in range(segments):
            vectors = near + draw.normal(size=(ROWS, DIM)) * 0.1
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            rows = NewRows(np.arange(1, ROWS + 1) + number * ROWS, vectors.astype(np.float32))
            with store.transaction(store.generation()) as conn:
                append_segments(conn, "model", {"a": rows}, wiring.coding(), {})
    return path


def searched(path, max_memory):
    """Peak memory, bytes in the cache and pairs found of two searches in a process of its own."""
    measured = run_python(["-c", CHILD, str(path), str(max_memory)], path.parent)
    return {"peak": measured.peak_rss_mb * MEGA, **measured.document}


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    return fill(folder / "few.db", 8), fill(folder / "many.db", 24)


def test_memory_does_not_grow_with_what_is_stored_beyond_the_cap(databases):
    few, many = (searched(path, 4_000_000) for path in databases)
    assert max(few["cached"], many["cached"]) <= 4_000_000
    assert many["peak"] - few["peak"] < 8 * MEGA
    assert many["found"] == few["found"] * 3 > 0


def test_the_cache_counts_all_that_it_holds(databases):
    """Under a large cap memory grows by what is counted, and by next to nothing else: vectors stay in the database."""
    few, many = (searched(path, 10**9) for path in databases)
    rows = 16 * ROWS
    assert many["cached"] - few["cached"] == rows * (DIM + 3 * 4 + 8)
    assert abs(many["peak"] - few["peak"] - (many["cached"] - few["cached"])) < 10 * MEGA


@pytest.mark.parametrize("after", [0, 5 * ROWS // 2])
def test_pairs_among_stored_vectors_are_those_in_memory_however_little_is_cached(databases, after, monkeypatch):
    monkeypatch.setattr("memcli.dedup.scan.HELD", 6000)
    with Store.open(databases[0]) as store:
        everything = [segment for _, segment in Vectors(store, "model", 10**9, wiring.coding()).segments()]
        ids = np.concatenate([segment.memory_ids for segment in everything])
        rows = np.concatenate([segment.whole() for segment in everything])
        whole = list(pairs_among(lambda: [make_block(ids, rows)], 0.9, after=after))
        vectors = Vectors(store, "model", 1, wiring.coding())
        stored = list(
            pairs_among(
                lambda: (make_block(s.memory_ids, s.vectors, codes=s.codes) for _, s in vectors.segments()),
                0.9,
                after=after,
            )
        )
    assert sum(len(group.later) for group in whole) > 0
    for name in ("later", "earlier", "score"):
        assert (
            np.concatenate([getattr(g, name) for g in whole]).tolist()
            == np.concatenate([getattr(g, name) for g in stored]).tolist()
        )

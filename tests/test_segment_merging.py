"""Segments of batches of which FANOUT are too large for one segment are merged all the same."""

import numpy as np
import pytest

from memcli.dedup.codes import encode
from memcli.store.db import Store
from memcli.store.vectors import MAX_MERGED_ROWS, Coding, NewRows, Vectors, append_segments

BATCHES = 60


@pytest.mark.parametrize("sizes", [(540,), (900,), (480, 610, 520)])
def test_batches_leave_half_the_segments_at_most_and_rewrite_little(tmp_path, sizes):
    with Store.create(tmp_path / "memory.db") as store:
        rows = written = 0
        cache, coding = Vectors(store, "model", 10**9), Coding(encode, len, "1")
        for number in range(BATCHES):
            ids = np.arange(rows, rows + sizes[number % len(sizes)]) + 1
            rows += len(ids)
            block = NewRows(ids, np.stack([ids, -ids], axis=1).astype(np.float32))
            with store.transaction(number) as conn:
                cache.forget(append_segments(conn, "model", {"a": block}, coding, {}))
            written += store.conn.execute("SELECT count FROM segments ORDER BY id DESC").fetchone()[0]
        found = [segment for _, segment in cache.segments(["a"])]
        assert len(found) <= BATCHES // 2 + 1
        assert max(len(each.memory_ids) for each in found) <= MAX_MERGED_ROWS
        assert written <= 2 * rows
        assert np.concatenate([each.memory_ids for each in found]).tolist() == list(range(1, rows + 1))
        assert np.concatenate([each.whole() for each in found])[:, 0].tolist() == list(range(1, rows + 1))

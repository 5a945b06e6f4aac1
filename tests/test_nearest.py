"""The nearest vectors of a query are exactly those of a float64 comparison with all, whatever the vectors look like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcli import workers
from memcli.bench.vectors import generate
from memcli.codes import Codes
from memcli.dedup import nearest
from memcli.dedup.codes import encode
from memcli.dedup.nearest import approximate, begin, coded, floor_of_best
from memcli.search.matrix import Matrix
from memcli.store.db import Store
from memcli.store.vectors import Coding, NewRows, append_segments

DIM = 24


def unit(vectors):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def best(vectors, query, k):
    """Row numbers by float64 products, the lower one first among equal ones."""
    scores = (vectors.astype(np.float64) * query).sum(axis=1)
    return np.lexsort((np.arange(len(vectors)), -scores))[:k]


@st.composite
def corpora(draw):
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 400))
    kind = draw(st.sampled_from(["random", "crowd", "copies", "spikes", "zeros"]))
    numbers = np.random.default_rng(seed)
    vectors = numbers.standard_normal((count, DIM))
    if kind == "crowd":  # cosines that differ by less than a code can tell
        vectors = vectors[:1] + vectors * 10.0 ** draw(st.integers(-6, -2))
    if kind == "copies":
        vectors = vectors[numbers.integers(0, max(count // 20, 1), count)]
    if kind == "spikes":
        vectors[:, 0] *= 1000
    vectors = unit(vectors)
    if kind == "zeros":
        vectors[numbers.random(count) < 0.5] = 0
    queries = np.concatenate([vectors[:2], unit(numbers.standard_normal((2, DIM))), np.zeros((1, DIM), np.float32)])
    return vectors, queries, draw(st.integers(1, 30))


@settings(max_examples=150, deadline=None)
@given(corpora())
def test_the_survivors_hold_the_nearest(corpus):
    vectors, queries, k = corpus
    cuts = [vectors[at : at + 100] for at in range(0, len(vectors), 100)]
    found = approximate((encode(cut) for cut in cuts), coded(queries))
    passing = np.random.default_rng(1).random(len(vectors)) < 0.5
    for number, query in enumerate(queries):
        exact = vectors.astype(np.float64) @ query.astype(np.float64)
        assert (np.abs(exact - found.scores[number]) <= found.bounds(number)).all()
        survivors = found.survivors(number, k)
        wanted = np.sort(exact)[::-1][:k]
        assert np.allclose(np.sort(exact[survivors])[::-1][:k], wanted, rtol=0, atol=0)
        allowed = found.survivors(number, k, passing)
        assert passing[allowed].all()
        assert np.array_equal(np.sort(exact[allowed])[::-1][:k], np.sort(exact[passing])[::-1][:k])


@pytest.fixture
def in_small_tiles(monkeypatch):
    monkeypatch.setattr(nearest, "_ROWS_PER_TILE", 7)
    yield
    workers.use(None)


@pytest.mark.usefixtures("in_small_tiles")
def test_what_threads_multiply_is_what_one_does():
    vectors = unit(np.random.default_rng(8).standard_normal((500, DIM)))
    codes, queries = encode(vectors), coded(vectors[:3])
    wanted = approximate([codes], queries).scores
    for count in (1, 2, 4):
        workers.use(count)
        for _ in range(20):
            finish = begin(lambda rows: Codes(codes.values[rows], codes.scales[rows]), codes.scales, queries)
            assert np.array_equal(finish().scores, wanted)
            assert np.array_equal(finish().scores, wanted)


@pytest.mark.usefixtures("in_small_tiles")
def test_what_fails_in_a_thread_is_not_passed_over():
    codes = encode(unit(np.random.default_rng(8).standard_normal((500, DIM))))

    def broken(rows):
        if rows.start >= 300:
            raise MemoryError(rows)
        return Codes(codes.values[rows], codes.scales[rows])

    with pytest.raises(MemoryError):
        begin(broken, codes.scales, coded(np.ones((1, DIM), np.float32)))()


@given(st.lists(st.floats(-1, 1, width=32), max_size=700), st.integers(1, 50))
def test_the_floor_is_reached_by_so_many(values, k):
    numbers = np.array(values, dtype=np.float32)
    assert np.count_nonzero(numbers >= floor_of_best(numbers, k)) >= min(k, len(numbers))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Vectors in segments of a database, of two agents whose ids alternate."""
    vectors = generate(6000, 64, 3)
    store, coding = Store.create(tmp_path_factory.mktemp("matrix") / "memory.db"), Coding(encode, len, "")
    with store.transaction(store.generation()) as conn:
        for at in range(0, 6000, 600):
            ids = np.arange(at, at + 600)
            blocks = {name: NewRows(ids[odd::2], vectors[ids[odd::2]]) for odd, name in enumerate(("ann", "bob"))}
            append_segments(conn, "m", blocks, coding, {})
    yield store, vectors
    store.close()


@pytest.mark.parametrize("room", [1 << 30, 300_000, 1000])
def test_a_scan_gives_what_brute_force_gives_whatever_fits_into_memory(stored, room):
    store, vectors = stored
    matrix = Matrix(store, "m", room)
    queries = unit(vectors[::600] + np.random.default_rng(5).normal(0, 0.05, (10, 64)).astype(np.float32))
    for _ in range(2):
        scan = matrix.scan(queries, None)
        for number, query in enumerate(queries):
            found = scan.nearest(number, 10, None)
            assert [row for row, _ in found] == best(vectors, query, 10).tolist()
            float32 = np.sort(vectors @ query)[::-1][:10]
            assert np.allclose([score for _, score in found], float32, atol=1e-6)
    scan = matrix.scan(queries[:1], "bob")
    mine = vectors[1::2]
    assert [row for row, _ in scan.nearest(0, 10, None)] == (best(mine, queries[0], 10) * 2 + 1).tolist()


def test_a_scan_sees_what_was_committed_since_the_last_one(tmp_path):
    vectors, coding = unit(np.random.default_rng(2).normal(size=(40, 16))), Coding(encode, len, "")
    with Store.create(tmp_path / "memory.db") as store:
        matrix = Matrix(store, "m", 1 << 30)
        for at in (0, 20):
            with store.transaction(store.generation()) as conn:
                append_segments(conn, "m", {"a": NewRows(np.arange(at, at + 20), vectors[at : at + 20])}, coding, {})
            found = matrix.scan(vectors[at + 7 : at + 8], None).nearest(0, 1, None)
            assert found[0][0] == at + 7
        assert matrix.scan(vectors[:1], "nobody").nearest(0, 5, None) == []

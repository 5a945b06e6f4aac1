"""The similarity scan finds what the naive float64 comparison of all pairs finds, however the vectors are blocked."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memcli.dedup import flood as floods
from memcli.dedup import scan
from memcli.dedup.blocks import make_block
from memcli.dedup.codes import SHIFT, STEP, encode
from memcli.dedup.flood import Flood
from memcli.dedup.scan import pairs_above, pairs_among, pairs_within

DIM = 32


def unit(vectors):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def random_vectors(rng, count):
    return unit(rng.normal(size=(count, DIM)))


def clustered(rng, count):
    centres = rng.normal(size=(3, DIM))
    return unit(centres[rng.integers(0, 3, count)] + rng.normal(size=(count, DIM)) * 0.05)


def duplicates(rng, count):
    return unit(rng.normal(size=(2, DIM)))[rng.integers(0, 2, count)]


def spread_on_a_line(rng, count):
    angles = rng.random(count) * 0.9
    return unit(np.stack([np.cos(angles), np.sin(angles)] + [np.zeros(count)] * (DIM - 2), axis=1))


def with_zeros(rng, count):
    return random_vectors(rng, count) * (rng.random(count) < 0.5)[:, None].astype(np.float32)


def spikes(rng, count):
    """All of a vector in one of its components, and next to nothing in the others: the worst case for codes."""
    vectors = rng.normal(size=(count, DIM)) * 10.0 ** rng.integers(-40, -1, (count, DIM))
    vectors[np.arange(count), rng.integers(0, 3, count)] = rng.choice([-1, 1], count)
    return unit(vectors)


KINDS = [random_vectors, clustered, duplicates, spread_on_a_line, with_zeros, spikes]


def naive(queries, ids, vectors, threshold):
    """Every pair, in float64."""
    scores = (queries.astype(np.float64)[:, None] * vectors).sum(axis=2)
    found = zip(*np.nonzero(scores >= threshold), strict=True)
    return sorted((int(query), int(ids[row]), float(scores[query, row])) for query, row in found)


def listed(pairs):
    return list(zip(pairs.query.tolist(), pairs.id.tolist(), pairs.score.tolist(), strict=True))


def cut(ids, vectors, cuts):
    borders = [0, *sorted(cuts), len(ids)]
    return [(ids[a:b], vectors[a:b]) for a, b in pairwise(borders)]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of a few rows, so that few vectors have many borders."""
    monkeypatch.setattr(scan, "_QUERIES_AT_ONCE", 5)
    monkeypatch.setattr(scan, "_ROWS_AT_ONCE", 3)
    monkeypatch.setattr(scan, "_ROWS_PER_TASK", 7)
    monkeypatch.setattr(scan, "_SCORED_AT_ONCE", 2)
    monkeypatch.setattr(scan, "HELD", 11)


any_vectors = st.tuples(st.sampled_from(KINDS), st.integers(0, 2**32), st.integers(0, 30), st.integers(0, 30))


@settings(deadline=None)
@given(any_vectors, st.sampled_from([0.999999, 0.95, 0.5, 0.0, -0.5]), st.lists(st.integers(0, 30), max_size=4))
def test_pairs_above_are_the_naive_pairs_whatever_the_blocks(drawn, threshold, cuts):
    kind, seed, queries, count = drawn
    rng = np.random.default_rng(seed)
    vectors = kind(rng, queries + count)
    ids = rng.permutation(1000)[:count]
    blocks = [make_block(*each) for each in cut(ids, vectors[queries:], [min(at, count) for at in cuts])]
    found = listed(pairs_above(vectors[:queries], iter(blocks), threshold))
    assert found == naive(vectors[:queries], ids, vectors[queries:], threshold)


@settings(deadline=None)
@given(any_vectors, st.sampled_from([0.999999, 0.95, 0.5, 0.0]))
def test_pairs_within_are_the_naive_pairs_once_each(drawn, threshold):
    kind, seed, count, _ = drawn
    vectors = kind(np.random.default_rng(seed), count)
    expected = [found for found in naive(vectors, range(count), vectors, threshold) if found[1] < found[0]]
    assert listed(pairs_within(vectors, threshold)) == expected


@settings(deadline=None)
@given(any_vectors, st.data())
def test_a_pair_exactly_at_the_threshold_is_found_and_just_below_it_is_not(drawn, data):
    kind, seed, count, _ = drawn
    vectors = kind(np.random.default_rng(seed), count + 2)
    scores = [score for _, _, score in naive(vectors[:1], range(count + 2), vectors, -1.0)]
    threshold = data.draw(st.sampled_from(scores))
    blocks = [make_block(np.arange(count + 2), vectors)]
    for bound in (threshold, np.nextafter(threshold, 2), np.nextafter(threshold, -2)):
        expected = naive(vectors[:1], range(count + 2), vectors, bound)
        assert listed(pairs_above(vectors[:1], blocks, bound)) == expected


def test_a_pair_that_float32_rounds_below_the_threshold_is_found():
    rng = np.random.default_rng(3)
    vectors = clustered(rng, 400)
    left, right = vectors[:200], vectors[200:]
    rounded = np.einsum("ij,ij->i", left, right)
    exact = (left.astype(np.float64) * right).sum(axis=1)
    lost = np.flatnonzero(rounded < exact)
    assert len(lost) > 50
    for at in lost:
        found = pairs_above(left[at : at + 1], [make_block(np.array([at]), right[at : at + 1])], float(exact[at]))
        assert found.id.tolist() == [at]


@pytest.mark.parametrize("kind", KINDS)
def test_no_product_of_codes_is_further_off_than_the_bound_allows(kind, monkeypatch):
    monkeypatch.undo()
    vectors = kind(np.random.default_rng(4), 300)
    queries = scan._Queries._of(0, vectors[:150], np.arange(150), 0)
    codes = encode(vectors[150:])
    products = (codes.values.astype(np.int64) - SHIFT) @ queries.codes.astype(np.int64)
    estimates = codes.scales[:, STEP].astype(np.float64)[:, None] * queries.step * products
    errors = np.abs(estimates - vectors[150:].astype(np.float64) @ vectors[:150].astype(np.float64).T)
    assert (errors <= scan._bounds(queries, codes.scales)[:, None]).all()


def test_codes_leave_room_for_processors_that_add_two_products_in_16_bits():
    vectors = random_vectors(np.random.default_rng(5), 50)
    queries, codes = scan._Queries._of(0, vectors, np.arange(50), 0), encode(vectors)
    assert 2 * int(codes.values.max()) * int(np.abs(queries.codes.astype(int)).max()) < 2**15
    assert codes.values.dtype == np.uint8


def test_the_shipped_graph_is_the_one_its_recipe_makes():
    from memcli.dedup.integer_product import graph

    assert scan._GRAPH.read_bytes() == graph()


def test_thousands_of_equal_vectors_give_all_of_their_pairs(monkeypatch):
    monkeypatch.undo()
    vectors = np.repeat(unit(np.ones((1, 256))), 1500, axis=0)
    assert len(pairs_within(vectors, 0.9).id) == 1500 * 1499 // 2
    found = pairs_above(vectors[:3], [make_block(np.arange(1500), vectors)], 0.9)
    assert found.id.tolist() == list(range(1500)) * 3
    assert len(set(found.score.tolist())) == 1


def test_zero_vectors_are_near_nothing():
    vectors = np.zeros((4, DIM), dtype=np.float32)
    assert len(pairs_within(vectors, 0.1).id) == 0


def test_nothing_to_search_gives_nothing():
    none = np.empty((0, DIM), dtype=np.float32)
    some = random_vectors(np.random.default_rng(1), 2)
    for found in (
        pairs_above(some, [], 0.5),
        pairs_above(some, [make_block(np.arange(0), none)], 0.5),
        pairs_above(none, [make_block(np.arange(2), some)], 0.5),
        pairs_within(none, 0.5),
    ):
        assert (len(found.query), len(found.id), len(found.score)) == (0, 0, 0)
        assert (found.query.dtype, found.id.dtype, found.score.dtype) == (np.int64, np.int64, np.float64)


# --- stored vectors among themselves ---------------------------------------------------------------------------------


def among(blocks, threshold, **options):
    """All groups, and their pairs in one list."""
    groups = list(pairs_among(lambda: iter(blocks), threshold, **options))
    found = [(g.later.tolist(), g.earlier.tolist(), g.score.tolist()) for g in groups]
    return groups, [pair for each in found for pair in zip(*each, strict=True)]


def naive_among(ids, vectors, threshold, after):
    pairs = naive(vectors, ids, vectors, threshold)
    named = [(int(ids[query]), other, score) for query, other, score in pairs]
    return sorted(pair for pair in named if pair[1] < pair[0] and pair[0] > after)


@settings(deadline=None)
@given(
    any_vectors, st.sampled_from([0.999999, 0.95, 0.5]), st.lists(st.integers(0, 60), max_size=5), st.integers(0, 70)
)
def test_pairs_among_are_the_naive_pairs_above_the_watermark_in_ascending_order(drawn, threshold, cuts, after):
    kind, seed, some, more = drawn
    count = some + more
    vectors, ids = kind(np.random.default_rng(seed), count), np.arange(3, count + 3)
    blocks = [make_block(*each) for each in cut(ids, vectors, [min(at, count) for at in cuts])]
    groups, found = among(blocks, threshold, after=after)
    assert found == naive_among(ids, vectors, threshold, after)
    looked_up = [memory_id for group in groups for memory_id in group.ids.tolist()]
    assert looked_up == [memory_id for memory_id in ids.tolist() if memory_id > after]
    assert all(set(group.later.tolist()) <= set(group.ids.tolist()) for group in groups)
    assert all(len(group.ids) <= scan.HELD and not group.left_out.any() for group in groups)


@settings(deadline=None)
@given(
    any_vectors, st.sampled_from([0.999999, 0.95, 0.5]), st.lists(st.integers(0, 60), max_size=5), st.integers(0, 70)
)
def test_pairs_among_are_the_naive_pairs_where_ids_do_not_ascend(drawn, threshold, cuts, after):
    kind, seed, some, more = drawn
    count = some + more
    rng = np.random.default_rng(seed)
    vectors, ids = kind(rng, count), rng.permutation(70)[:count] + 1
    blocks = [make_block(*each) for each in cut(ids, vectors, [min(at, count) for at in cuts])]
    _, found = among(blocks, threshold, after=after)
    assert sorted(found) == naive_among(ids, vectors, threshold, after)


def test_nothing_above_the_watermark_is_one_look_at_the_ids():
    vectors = random_vectors(np.random.default_rng(6), 40)
    reads = []

    def blocks():
        reads.append(1)
        yield make_block(np.arange(40), vectors)

    assert list(pairs_among(blocks, 0.1, after=39)) == []
    assert len(reads) == 1


# --- floods ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def early_floods(monkeypatch):
    monkeypatch.setattr(floods, "FLOOD_PAIRS", 1)
    for module in (scan, floods):
        monkeypatch.setattr(module, "SAME_KEY", 3)
        monkeypatch.setattr(module, "STRONGEST", 2)


def templated(rng, count):
    """Vectors that are all near one another, some of them equal, and their keys."""
    vectors = unit(np.ones(DIM) + rng.normal(size=(count, DIM)) * 0.1)[rng.integers(0, count, count)]
    return vectors, rng.integers(0, 1 + count // 4, count)


def assert_dammed(found, expected, keys, left_out):
    """Of each query at least the strongest pairs, of its key and of others, and a true count of the rest."""
    assert set(found) <= set(expected)
    for query in {pair[0] for pair in expected}:
        mine = [pair for pair in expected if pair[0] == query]
        kept = {pair for pair in found if pair[0] == query}
        for same, limit in ((True, 3), (False, 2)):
            pairs = [pair for pair in mine if (keys[pair[0]] == keys[pair[1]]) == same]
            strongest = sorted(pairs, key=lambda pair: (-pair[2], pair[1]))[:limit]
            scores = sorted((pair[2] for pair in kept if pair in pairs), reverse=True)
            assert np.allclose(scores[:limit], [pair[2] for pair in strongest], atol=1e-6)
        assert len(mine) - len(kept) == left_out[query]


@pytest.mark.usefixtures("early_floods")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(1, 30), st.lists(st.integers(0, 30), max_size=3))
def test_in_a_flood_the_strongest_pairs_are_found_and_the_others_are_counted(seed, queries, count, cuts):
    vectors, keys = templated(np.random.default_rng(seed), queries + count)
    ids = np.arange(queries, queries + count)
    # Exactly at a pair, or just above it: the float32 scores of a flood cannot tell.
    scores = sorted(score for _, _, score in naive(vectors[:queries], ids, vectors[queries:], -1))
    threshold = np.nextafter(scores[len(scores) // 4], 2 if seed % 2 else -2)
    flood = Flood(lambda: keys[:queries], np.zeros(queries, dtype=np.int64))
    parts = cut(ids, vectors[queries:], [min(at, count) for at in cuts])
    blocks = [make_block(some, rows, lambda some=some: keys[some]) for some, rows in parts]
    found = listed(pairs_above(vectors[:queries], blocks, threshold, flood))
    assert_dammed(found, naive(vectors[:queries], ids, vectors[queries:], threshold), keys, flood.left_out)
    own = Flood(lambda: keys[:queries], np.zeros(queries, dtype=np.int64))
    within = listed(pairs_within(vectors[:queries], threshold, own))
    assert_dammed(within, naive_among(np.arange(queries), vectors[:queries], threshold, -1), keys, own.left_out)


@pytest.mark.usefixtures("early_floods")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(2, 50), st.lists(st.integers(0, 50), max_size=3), st.integers(0, 50))
def test_floods_are_dammed_among_stored_vectors(seed, count, cuts, after):
    vectors, keys = templated(np.random.default_rng(seed), count)
    parts = cut(np.arange(count), vectors, [min(at, count) for at in cuts])
    blocks = [make_block(some, rows, lambda some=some: keys[some]) for some, rows in parts]
    groups, found = among(blocks, 0.98, after=after, flood=True)
    left_out = {memory_id: left for g in groups for memory_id, left in zip(g.ids.tolist(), g.left_out, strict=True)}
    assert_dammed(found, naive_among(np.arange(count), vectors, 0.98, after), keys, left_out)


def test_a_flood_is_bounded(monkeypatch):
    monkeypatch.undo()
    rng = np.random.default_rng(8)
    vectors = unit(np.ones(64) + rng.normal(size=(6000, 64)) * 0.05)
    keys = np.arange(6000) // 2000
    blocks = [make_block(ids, vectors[ids], lambda ids=ids: keys[ids]) for ids in np.split(np.arange(6000), 3)]
    groups, found = among(blocks, 0.9, flood=True)
    assert len(found) <= 6000 * (floods.FLOOD_PAIRS + floods.SAME_KEY + floods.STRONGEST)
    assert len(found) + sum(int(group.left_out.sum()) for group in groups) == 6000 * 5999 // 2


@pytest.mark.usefixtures("early_floods")
def test_what_is_kept_of_a_flood_does_not_depend_on_the_number_of_threads(monkeypatch):
    vectors, keys = templated(np.random.default_rng(9), 200)
    block = make_block(np.arange(200), vectors, lambda: keys)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(scan, "workers", lambda threads=threads: threads)
        results.append(
            [(g.later.tolist(), g.earlier.tolist(), g.left_out.tolist()) for g in among([block], 0.98, flood=True)[0]]
        )
    assert results[0] == results[1] == results[2]

"""The similarity scan finds what the naive float64 comparison of all pairs finds, however the vectors are blocked."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcli.dedup import scan
from memcli.dedup.scan import Flood, make_block, pairs_above, pairs_within

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


KINDS = [random_vectors, clustered, duplicates, spread_on_a_line, with_zeros]


def naive(queries, ids, vectors, threshold):
    """Every pair, one by one, in float64."""
    found = []
    for query, left in enumerate(queries.astype(np.float64)):
        for number, right in zip(ids, vectors.astype(np.float64), strict=True):
            score = (left * right).sum()
            if score >= threshold:
                found.append((query, int(number), float(score)))
    return sorted(found)


def listed(pairs):
    return list(zip(pairs.query.tolist(), pairs.id.tolist(), pairs.score.tolist(), strict=True))


def cut(ids, vectors, cuts):
    borders = [0, *sorted(cuts), len(ids)]
    return [(ids[a:b], vectors[a:b]) for a, b in pairwise(borders)]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of a few rows, so that few vectors have many borders."""
    monkeypatch.setattr(scan, "_QUERIES_AT_ONCE", 5)
    monkeypatch.setattr(scan, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(scan, "_SCORED_AT_ONCE", 3)


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
    (tile,) = make_block(np.arange(150), vectors[150:]).tiles
    left = scan._Left.of(vectors[:150], 0)
    codes = left.codes.astype(np.int64) - 128
    estimates = left.scale * tile.scale * (codes @ tile.codes.astype(np.int64))
    errors = np.abs(estimates - vectors[:150].astype(np.float64) @ vectors[150:].astype(np.float64).T)
    assert errors.max() <= scan._bound(left, tile)


def test_codes_leave_room_for_processors_that_add_two_products_in_16_bits():
    vectors = random_vectors(np.random.default_rng(5), 50)
    left, block = scan._Left.of(vectors, 0), make_block(np.arange(50), vectors)
    assert all(2 * 255 * int(np.abs(tile.codes.astype(int)).max()) < 2**15 for tile in block.tiles)
    assert left.codes.dtype == np.uint8


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


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(0, 30))
def test_in_a_flood_every_pair_of_one_key_is_found_and_all_others_are_counted(seed, queries, count):
    rng = np.random.default_rng(seed)
    vectors = np.repeat(unit(rng.normal(size=(1, DIM))), queries + count, axis=0)
    keys = rng.integers(0, 3, queries + count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "FLOOD_PAIRS", 0)
        patch.setattr(scan, "STRONGEST", 2)
        flood = Flood(lambda: keys[:queries], lambda ids: keys[ids], np.zeros(queries, dtype=np.int64))
        block = make_block(np.arange(queries, queries + count), vectors[queries:])
        found = listed(pairs_above(vectors[:queries], [block], 0.9, flood))
        own = Flood(lambda: keys[:queries], keys[:queries].__getitem__, np.zeros(queries, dtype=np.int64))
        within = listed(pairs_within(vectors[:queries], 0.9, own))
    expected = naive(vectors[:queries], range(queries, queries + count), vectors[queries:], 0.9)
    assert set(found) <= set(expected)
    assert {pair for pair in expected if keys[pair[0]] == keys[pair[1]]} <= set(found)
    assert len(found) + flood.left_out.sum() == len(expected)
    once = [pair for pair in naive(vectors[:queries], range(queries), vectors[:queries], 0.9) if pair[1] < pair[0]]
    assert {pair for pair in once if keys[pair[0]] == keys[pair[1]]} <= set(within) <= set(once)
    assert len(within) + own.left_out.sum() == len(once)

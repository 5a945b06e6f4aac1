"""`memcli reindex --compress`: smaller vectors, how much worse they are is said, and everything goes on with them."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support_cli import Home, Nursery, some_chat, write_jsonl

from memcli.commands.search import open_searcher
from memcli.config import Config
from memcli.dedup.codes import encode
from memcli.embed.compressed import Compression, fitted
from memcli.embed.packed import pack, unpack
from memcli.search import Request
from memcli.search.matrix import Matrix
from memcli.store.db import Store
from memcli.store.vectors import Vectors

SPECS = ("int8", "int7", "float16", "pca:64")
BYTES = {"int8": 0, "int7": 0, "float16": 2 * 256, "pca:64": 2 * 64}
LATER = {"id": "x", "session_id": "z", "role": "user", "content": "Tea is at four o'clock, as ever."}


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    made = Home(tmp_path_factory.mktemp("filled"), nursery=nursery)
    assert made.run("ingest", write_jsonl(made.folder / "chat.jsonl", some_chat(400)), "--flush").code == 0
    return made


@pytest.fixture
def home(nursery, tmp_path, filled):
    shutil.copytree(filled.folder, tmp_path / "home")
    return Home(tmp_path / "home", nursery=nursery)


rows = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.integers(1, 24)),
    elements=st.floats(-1, 1, width=32, allow_subnormal=False).map(lambda x: 0.0 if abs(x) < 1e-6 else x),
)


@settings(deadline=None)
@given(rows)
def test_int8_vectors_are_what_their_codes_say_bit_by_bit(vectors):
    compressed = Compression("base", "int8").compress(vectors)
    assert np.array_equal(encode(compressed).decoded(), compressed)
    steps = np.abs(vectors).max(axis=1) / 127
    assert np.all(np.abs(compressed - vectors) <= 0.6 * steps[:, None] + 127 * 2.0**-11 * steps[:, None])


@settings(deadline=None)
@given(rows)
def test_int7_vectors_are_what_their_codes_say_and_these_are_odd(vectors):
    compressed = Compression("base", "int7").compress(vectors)
    codes = encode(compressed)
    assert np.array_equal(codes.decoded(), compressed)
    largest = np.abs(vectors).max(axis=1)
    there = largest > 1e-20
    assert np.all(codes.values[there] % 2 == 1)
    assert np.all(compressed[largest == 0] == 0)
    assert np.all(
        np.abs(compressed - vectors)[there] <= 1.1 * largest[there, None] / 127 + 2.0**-11 * largest[there, None]
    )


@settings(deadline=None)
@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(0, 9), st.sampled_from([8, 24, 256])), elements=st.integers(0, 127))
)
def test_odd_codes_take_seven_eighths_of_the_bytes_and_come_back(halves):
    values = 2 * halves + 1
    packed = pack(values)
    assert packed.shape == (len(values), values.shape[1] * 7 // 8)
    assert np.array_equal(unpack(packed), values)


@settings(deadline=None)
@given(rows, st.integers(0, 7))
def test_a_vector_does_not_depend_on_those_it_is_compressed_with(vectors, place):
    basis, _ = fitted(vectors.T.astype(np.float64) @ vectors, max(1, vectors.shape[1] // 2))
    one = place % len(vectors)
    for found in (
        Compression("base", "int8"),
        Compression("base", "int7"),
        Compression("base", "float16"),
        Compression("base", "pca:1", basis),
    ):
        assert np.array_equal(found.compress(vectors)[one], found.compress(vectors[one : one + 1])[0])


def test_a_basis_finds_the_directions_in_which_the_vectors_are():
    draw = np.random.default_rng(4)
    plane = np.linalg.qr(draw.normal(size=(12, 3)))[0].T
    vectors = (draw.normal(size=(500, 3)) @ plane).astype(np.float32)
    basis, energy = fitted(vectors.T.astype(np.float64) @ vectors, 3)
    assert energy == pytest.approx(1)
    assert np.allclose(basis @ basis.T, np.eye(3), atol=1e-5)
    assert np.allclose(vectors @ basis.T @ basis, vectors, atol=1e-4)
    cosines = vectors @ vectors.T / np.outer(*2 * [np.linalg.norm(vectors, axis=1)])
    projected = Compression("base", "pca:3", basis).project(vectors)
    assert np.allclose(projected @ projected.T, cosines, atol=1e-4)


@pytest.mark.parametrize("spec", SPECS)
def test_the_report_says_what_was_saved_and_what_it_costs(home, spec):
    before, stars = home.db.stat().st_size, home.rows("SELECT * FROM active_memories")
    report = home.run("reindex", "--compress", spec, "--json").json
    assert report["embedded"] == 0 < report["reused"], "no text is embedded again"
    found = report["compression"]
    assert home.rows("SELECT DISTINCT length(vectors) / count FROM segments") == [(BYTES[spec],)]
    assert found["index_after"] < 0.65 * found["index_before"]
    assert found["file_after"] == home.db.stat().st_size < before
    assert found["recall_at_10"] > {"int8": 0.97, "int7": 0.95, "float16": 0.99, "pca:64": 0.6}[spec]
    assert found["rss_before"] > 0 < found["rss_after"]
    assert home.rows("SELECT count(*) FROM search_cache") == [(0,)], "an answer of the cache takes less memory"
    assert home.rows("SELECT * FROM active_memories") == stars
    assert home.run("reindex", "--check").code == 0
    again = home.run("reindex", "--compress", spec)
    assert "Nothing to do" in again.out
    assert f"({spec})" in again.out


def test_the_recall_is_that_of_comparing_everything_with_everything(home):
    def stored():
        parts = home.rows("SELECT count, dim, memory_ids, vectors FROM segments ORDER BY first_memory_id")
        ids = np.concatenate([np.frombuffer(raw, "<i8") for _, _, raw, _ in parts])
        kinds = {2: "<f2", 4: "<f4"}
        whole = [np.frombuffer(raw, kinds[len(raw) // (n * dim)]).reshape(n, dim) for n, dim, _, raw in parts]
        return ids, np.concatenate(whole).astype(np.float64)

    def nearest(vectors):
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -1)
        return np.argsort(-scores, axis=1)[:, :10]

    ids, exact = stored()
    report = home.run("reindex", "--compress", "pca:64", "--json").json["compression"]
    again, kept = stored()
    assert np.array_equal(ids, again)
    shares = [len(np.intersect1d(*pair)) / 10 for pair in zip(nearest(exact), nearest(kept), strict=True)]
    # The report takes up to 200 of the queries, and compares with whole ones.
    assert report["recall_at_10"] == pytest.approx(np.mean(shares), abs=0.05)


@pytest.mark.parametrize("spec", ["int8", "int7", "pca:64"])
def test_everything_goes_on_with_compressed_vectors_and_they_can_be_had_whole_again(home, spec):
    whole = sorted(home.rows("SELECT memory_ids, vectors FROM segments"))
    assert home.run("reindex").code == 0
    found = home.run("search", "nightly build is green", "-k", "1", "--json").json
    assert home.run("reindex", "--compress", spec).code == 0
    again = home.run("search", "nightly build is green", "-k", "1", "--json").json
    assert hits(again) == hits(found)
    assert home.run("ingest", write_jsonl(home.folder / "more.jsonl", [LATER]), "--flush").code == 0
    assert home.run("search", "when is tea", "-k", "1", "--json").json[0]["hits"][0]["content"] == LATER["content"]
    assert home.run("dedup").code == 0
    assert "compressed" in home.run("dedup", "--rethreshold", "0.95").err
    assert home.run("reindex").code == 0
    assert home.run("reindex", "--check").code == 0
    assert home.run("reindex", "--compress", "none").code == 0
    assert home.rows("SELECT count(*) FROM compressions") == [(0,)]
    back = dict(vectors_of(home.rows("SELECT memory_ids, vectors FROM segments")))
    assert {memory_id: back[memory_id] for memory_id, _ in vectors_of(whole)} == dict(vectors_of(whole))


@pytest.mark.parametrize("spec", ["int8", "float16"])
def test_compressed_vectors_are_exchanged_as_they_are(home, nursery, tmp_path, spec):
    assert home.run("reindex", "--compress", spec).code == 0
    shutil.copytree(home.folder, tmp_path / "other")
    shutil.copytree(home.folder, tmp_path / "third")
    other, third = Home(tmp_path / "other", nursery=nursery), Home(tmp_path / "third", nursery=nursery)
    draw = np.random.default_rng(5)
    words = "heron mill pond tea budget harbour lantern quarry violin saddle ferry orchard".split()
    said = [{**LATER, "id": f"y{n}", "content": " ".join(draw.permutation(words)[:7]) + f" {n}."} for n in range(60)]
    assert other.run("ingest", write_jsonl(other.folder / "more.jsonl", said), "--flush").code == 0
    report = home.run("import", other.db, "--json").json
    assert report["embedded"] == 0 < report["vectors_taken"]
    files = (other.folder / "all.jsonl", "--with-vectors", other.folder / "all.npz")
    assert other.run("export", "--out", *files).code == 0
    report = third.run("import", *files, "--json").json
    assert report["embedded"] == report["rejected"] == 0 < report["vectors_taken"]
    assert home.run("reindex", "--check").code == third.run("reindex", "--check").code == 0


def hits(answers):
    return [hit["content"] for answer in answers for hit in answer["hits"]]


def vectors_of(segments):
    for ids, raw in segments:
        own = np.frombuffer(ids, "<i8")
        yield from zip(
            own.tolist(), (row.tobytes() for row in np.frombuffer(raw, "<f4").reshape(len(own), -1)), strict=True
        )


@pytest.mark.parametrize(
    ("spec", "moment"), [("int8", "commit:3:3000"), ("pca:32", "stage:4"), ("pca:32", "before:40")]
)
def test_a_killed_compression_leaves_the_old_vectors_and_is_gone_on_with(home, nursery, spec, moment):
    before = home.rows("SELECT value FROM meta WHERE key = 'model_id'")
    done = nursery.run(home, "reindex", "--compress", spec, "--batch-size", "64", moment=f"KILL:{moment}")
    assert done.code < 0
    assert home.rows("SELECT value FROM meta WHERE key = 'model_id'") == before
    assert home.run("search", "nightly build").code == 0
    report = home.run("reindex", "--compress", spec, "--batch-size", "64", "--json").json
    assert report["embedded"] + report["reused"] + report["resumed"] == report["memories"]
    assert home.run("reindex", "--check").code == 0
    assert home.rows("SELECT count(DISTINCT model_id) FROM segments") == [(1,)]


def test_a_search_that_cannot_be_measured_is_left_out_of_the_report(home):
    """As where there is memory for the one process, but not for a second one beside it."""
    patch = "import memcli.bench.measure as measure, memcli.cli; measure.__file__ = 'none.py'; memcli.cli.main()"
    done = home.python(patch, "reindex", "--compress", "float16", "--json")
    assert (done.code, done.json["compression"]["rss_before"]) == (0, None), done
    assert "none.py" not in done.err
    assert home.run("reindex", "--check").code == 0


def test_a_basis_is_fitted_to_whole_vectors_only(home):
    assert home.run("reindex", "--compress", "int8").code == 0
    done = home.run("reindex", "--compress", "pca:64")
    assert (done.code, "--compress none" in done.err) == (2, True)
    assert home.run("reindex", "--compress", "float16").code == 0


def test_new_texts_that_fit_a_basis_badly_are_told_of(home):
    assert home.run("reindex", "--compress", "pca:16").code == 0
    words = "ökonomie Würfel žluťoučký kůň 漢字 かな Ωμέγα ψ αβγ ξένος кириллица слово".split()
    odd = [
        {"id": f"o{n}", "session_id": "o", "role": "user", "content": f"{words[n % 12]} {words[(n * 5 + 1) % 12]} {n}"}
        for n in range(60)
    ]
    assert home.run("ingest", write_jsonl(home.folder / "odd.jsonl", odd), "--flush").code == 0
    report = home.run("reindex", "--check", "--json").json
    assert report["kept"] < report["kept_when_fitted"] - 0.02
    assert any("basis" in note for note in report["advice"])


def test_a_damaged_basis_is_named(home):
    import sqlite3
    from contextlib import closing

    assert home.run("reindex", "--compress", "pca:16").code == 0
    with closing(sqlite3.connect(home.db)) as conn, conn:
        conn.execute("UPDATE compressions SET basis = zeroblob(length(basis))")
    assert home.run("search", "tea").code == 8


def test_a_switch_after_a_search_has_chosen_its_model_is_seen(home):
    """The model is that of the state of the database which is searched: that of a moment before may have no vectors."""
    environ = {"MEMCLI_DATA_DIR": str(home.folder / "data")}
    asked, meaning = ["what is said of tea and of numbers"], Request("vector")

    def found(one):
        return [(hit.ranked.star, hit.ranked.score) for hit in one.answer(asked, meaning)[0].hits]

    with Store.open(home.db) as store:
        early = open_searcher(store, Config(db=home.db), environ, use_cache=True)
        before = found(early)
        assert home.run("reindex", "--compress", "pca:16").code == 0
        after = found(early)
        with Store.open(home.db) as fresh:
            assert after == found(open_searcher(fresh, Config(db=home.db), environ, use_cache=False))
    assert len(after) == len(before) == 10
    assert after != before


def test_a_search_holds_int7_codes_in_seven_eighths_and_finds_what_comparing_all_finds(home):
    """Three quarters less than float32, ids and scales included; a text without a token has a zero row."""
    nothing = {**LATER, "id": "nothing", "content": "\U0001f9ff\U0001f9ff\U0001f9ff."}
    assert home.run("ingest", write_jsonl(home.folder / "more.jsonl", [nothing]), "--flush").code == 0
    report = home.run("reindex", "--compress", "int7", "--json").json["compression"]
    assert report["scanned_after"] == report["vectors"] * (224 + 12 + 8) < 0.25 * report["vectors"] * 4 * 256
    with Store.open(home.db) as store:
        matrix = Matrix(store, store.meta("model_id"), 1 << 30)
        stored = [segment for _, segment in Vectors(store, store.meta("model_id"), 0).segments()]
        ids = np.concatenate([segment.memory_ids for segment in stored])
        whole = np.concatenate([segment.whole() for segment in stored])
        asked = np.random.default_rng(3).normal(size=(5, 256)).astype(np.float32)
        scan = matrix.scan(asked, None)
        held = matrix._held
        assert held.codes.values.shape == (len(ids), 224)
        for number, query in enumerate(asked):
            exact = whole.astype(np.float64) @ query
            order = np.lexsort((ids, -exact))[:10]
            assert [each for each, _ in scan.nearest(number, 10, None)] == ids[order].tolist()
            assert np.allclose(scan.cosines(number, ids), exact, atol=0.002 * np.linalg.norm(query))

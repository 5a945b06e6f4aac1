"""The query cache: right answers only, shared by processes, bounded, and never in anybody's way."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from unittest.mock import patch

import pytest
from support_cli import Home
from support_ingest import append, flat, query, run, write
from support_search import request, search, searcher

from memcli.config import Config
from memcli.store import cache
from memcli.store.cache import Limits, Uses

SAID = ["The heron stands in the pond.", "Our invoices go to Utrecht.", "The kitten sleeps on the radiator."]


@pytest.fixture
def db(tmp_path):
    run(tmp_path / "memory.db", write(tmp_path / "a.jsonl", *(flat(text, id=n) for n, text in enumerate(SAID))))
    return tmp_path / "memory.db"


def ask(db, *asked, **options):
    return search(db, *asked, use_cache=True, **options)


def cached(db, *asked, **options):
    return [answer["cached"] for answer in ask(db, *asked, **options)]


def uses(db):
    rows = query(db, "SELECT kind, entries, hits, misses FROM search_cache_use")
    counted = dict(query(db, "SELECT kind, count(*) FROM search_cache GROUP BY kind"))
    assert all(entries == counted.get(kind, 0) for kind, entries, _, _ in rows)
    return {kind: tuple(rest) for kind, *rest in rows}


# --- what is served --------------------------------------------------------------------------------------------------


def test_the_same_question_is_answered_from_the_cache_with_the_same_answer(db):
    (first,), (second,) = ask(db, "heron", context=1, explain=True), ask(db, "heron", context=1, explain=True)
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["hits"] == second["hits"]
    assert uses(db) == {"answer": (1, 1, 1), "embedding": (1, 0, 1)}


def test_what_an_answer_depends_on_is_in_its_key(db):
    ask(db, "heron")
    for other in ({"k": 3}, {"mode": "vector"}, {"agent": "default"}, {"type": "episodic"}, {"environment": ("a:b",)},
                  {"since": "2020-01-01T00:00:00.000Z"}, {"source": "a.jsonl"}):  # fmt: skip
        assert cached(db, "heron", **other) == [False], other
        assert cached(db, "heron", **other) == [True], other
    assert cached(db, "Heron") == [False]
    assert cached(db, "heron", context=2, explain=True) == [True], "what is shown is looked up in any case"


def test_no_answer_is_older_than_the_last_commit(db):
    assert ask(db, "heron")[0]["hits"][0]["content"] == SAID[0]
    run(db, append(db.with_name("a.jsonl"), flat("heron", id=9), flat("heron heron flies", id=10)))
    (answer,) = ask(db, "heron")
    assert not answer["cached"]
    assert "heron heron flies" in [hit["content"] for hit in answer["hits"]]
    assert uses(db)["embedding"] == (1, 1, 1), "the query's vector outlives the corpus it was asked of"


def test_an_open_searcher_sees_a_commit_too(db):
    with searcher(db) as one:
        one.answer(["heron"], request())
        run(db, append(db.with_name("a.jsonl"), flat("Another heron came along.", id=9)))
        (answer,) = one.answer(["heron"], request())
        assert not answer.cached
        assert len(answer.hits) == 4


def test_answers_expire_and_vectors_do_not(db):
    settings = Config(db=db, search_cache_ttl=0.2)
    assert cached(db, "heron", config=settings) == [False]
    time.sleep(0.25)
    assert cached(db, "heron", config=settings) == [False]
    assert cached(db, "heron") == [True]
    assert uses(db)["embedding"] == (1, 1, 1)


def test_recency_counts_by_day_so_an_answer_ends_with_it(db):
    ask(db, "heron")
    with patch("memcli.search.searcher.datetime") as clock:
        clock.now.return_value.date.return_value.isoformat.return_value = "2099-01-01"
        assert cached(db, "heron") == [False]


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_the_least_recently_used_make_room(db):
    few = Config(db=db, search_cache_size=3)
    for asked in ("one", "two", "three", "one", "four"):
        ask(db, asked, config=few)
    assert uses(db)["answer"][0] == uses(db)["embedding"][0] == 3
    with searcher(db, search_cache_size=3) as one:
        found = one.answer(["one", "three", "four", "two"], request())
    assert [answer.cached for answer in found] == [True, True, True, False]


def test_a_smaller_size_shrinks_the_cache_and_none_keeps_nothing(db):
    ask(db, *(f"question {n}" for n in range(20)))
    assert uses(db)["answer"][0] == 20
    ask(db, "another", config=Config(db=db, search_cache_size=5))
    assert uses(db)["answer"][0] == 5
    ask(db, "and another", config=Config(db=db, search_cache_size=0))
    assert uses(db)["answer"][0] == 0


def test_eviction_costs_the_same_however_many_entries_there_are(db):
    """No statement reads more than it touches: each goes through an index, and nothing is counted or sorted."""
    with searcher(db) as one:
        store, steps = one.store, {}
        for size in (50, 5000):
            new = {n.to_bytes(16, "big"): b"x" for n in range(size, 2 * size)}
            cache.remember(store, {"answer": Uses(new=new)}, Limits(size, 60))
            count = [0]
            writer = store.writer(0)

            def tick(count=count):
                count[0] += 1

            writer.set_progress_handler(tick, 1)
            with patch.object(type(store), "writer", return_value=writer):
                assert cache.remember(store, {"answer": Uses(new={os.urandom(16): b"y"})}, Limits(size, 60))
            steps[size] = count[0]
        assert steps[5000] < steps[50] * 1.5


# --- never in the way ------------------------------------------------------------------------------------------------


def test_no_cache_neither_reads_nor_writes(db):
    before = db.read_bytes()
    search(db, "heron", use_cache=False)
    assert db.read_bytes() == before
    ask(db, "heron")
    assert search(db, "heron", use_cache=False)[0]["cached"] is False
    assert uses(db)["answer"] == (1, 0, 1)


def test_a_search_beside_a_writer_neither_waits_nor_fails(db):
    ask(db, "heron")
    with closing(sqlite3.connect(db, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        began = time.perf_counter()
        assert cached(db, "heron", "pond") == [True, False]
        assert time.perf_counter() - began < 2
        writer.execute("ROLLBACK")
    assert uses(db)["answer"] == (1, 0, 1)
    assert cached(db, "pond") == [False]


def test_threads_and_processes_share_it(db):
    asked = [f"{word} {n}" for n in range(10) for word in ("heron", "kitten")]
    right = {answer["query"]: answer["hits"] for answer in search(db, *asked)}
    wrong = []

    def go():
        with searcher(db, search_cache_size=7) as one:
            for text in asked * 3:
                (answer,) = one.answer([text], request())
                if answer.to_json()["hits"] != right[text]:
                    wrong.append(text)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=go) for _ in range(4)]
    try:
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(switch)
    assert wrong == []
    assert uses(db)["answer"][0] <= 7


def test_a_read_only_database_is_searched(tmp_path):
    home = Home(tmp_path)
    home.run("ingest", write(tmp_path / "a.jsonl", flat(SAID[0], id=1)), "--quiet")
    folder = tmp_path / "locked"
    folder.mkdir()
    shutil.copy(home.db, folder / "memory.db")
    (folder / "memory.db").chmod(0o444)
    folder.chmod(0o555)
    command = [sys.executable, "-m", "memcli", "search", "heron", "--db", str(folder / "memory.db"), "--json"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everything, and there is no setpriv to take that away")
        drop = "-dac_override,-dac_read_search"
        command = ["setpriv", "--inh-caps", drop, "--bounding-set", drop, *command]
    done = subprocess.run(command, env=home.env, cwd=tmp_path, capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert SAID[0] in done.stdout
    assert [each.name for each in folder.iterdir()] == ["memory.db"]


# --- for people ------------------------------------------------------------------------------------------------------


def test_the_cache_on_the_command_line(tmp_path):
    home = Home(tmp_path)
    home.run("ingest", write(tmp_path / "a.jsonl", *(flat(text, id=n) for n, text in enumerate(SAID))), "--quiet")
    assert [home.run("search", "heron", "--json").json[0]["cached"] for _ in range(2)] == [False, True]
    assert home.run("search", "heron", "--json", "--no-cache").json[0]["cached"] is False
    expected = {"answer": {"entries": 1, "hits": 1, "misses": 1}, "embedding": {"entries": 1, "hits": 0, "misses": 1}}
    assert home.run("stats", "--json").json["search_cache"] == expected
    assert "1 (50%) answered from the query cache" in home.run("stats").out
    assert 'memcli_search_cache_hits_total{kind="answer"} 1' in home.run("stats", "--prometheus", "-").out
    (tmp_path / "memcli.toml").write_text("search_cache_size = 0\n")
    assert home.run("search", "pond", "--json").json[0]["cached"] is False
    assert home.run("search", "pond", "--json").json[0]["cached"] is False

"""`memcli reindex --model`: everything under the new model, nothing under it before all is there, killed or not."""

import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from support_cli import Home, Nursery, holds_lock, some_chat, wait_for, write_jsonl
from support_ingest import assert_sound
from support_models import installed, static_model, transformer

from memcli.embed.models import default_model
from memcli.embed.onnx import OnnxEmbedder

LATER = {"id": "x", "session_id": "z", "role": "user", "content": "Tea is at four o'clock, as ever."}
BATCH = ("--batch-size", "16")


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "other"
    return installed(folder, static_model(), dim=16, pooling="in-graph", normalise="in-graph", special_tokens=False)


@pytest.fixture(scope="module")
def filled(nursery, tmp_path_factory):
    """A database of two agents who were told much the same."""
    made = Home(tmp_path_factory.mktemp("filled"), nursery=nursery)
    for agent in ("ada", "bob"):
        chat = write_jsonl(made.folder / f"{agent}.jsonl", some_chat(60))
        assert made.run("ingest", chat, "--agent", agent).code == 0
    return made


@pytest.fixture
def home(nursery, tmp_path, filled):
    """A copy of it, for one test."""
    shutil.copytree(filled.folder, tmp_path / "home")
    return Home(tmp_path / "home", nursery=nursery)


def move(home, other, *options, **more):
    return home.nursery.run(home, "reindex", "--model", other.folder, *BATCH, *options, **more)


def vectors(home):
    """{memory id: (agent, model, vector)} of all segments, as plain SQL shows them."""
    found = {}
    for agent, model, count, dim, ids, raw in home.rows(
        "SELECT agent_id, model_id, count, dim, memory_ids, vectors FROM segments"
    ):
        rows = np.frombuffer(raw, "<f4").reshape(count, dim)
        for memory_id, row in zip(np.frombuffer(ids, "<i8").tolist(), rows, strict=True):
            assert memory_id not in found
            found[memory_id] = (agent, model, row)
    return found


def assert_moved(home, files):
    texts = {row[0]: row[1:] for row in home.rows("SELECT id, agent_id, content FROM memories WHERE embedded")}
    assert home.rows("SELECT value FROM meta WHERE key = 'model_id'") == [(files.model_id,)]
    found = vectors(home)
    assert found.keys() == texts.keys()
    expected = OnnxEmbedder(files).embed([content for _, content in texts.values()])
    for (memory_id, (agent, _)), row in zip(texts.items(), expected, strict=True):
        assert found[memory_id][:2] == (agent, files.model_id)
        assert found[memory_id][2].tobytes() == row.tobytes()


def memories(home):
    return home.rows("SELECT * FROM memories ORDER BY id"), home.rows("SELECT * FROM merges ORDER BY id")


def test_every_memory_gets_the_new_models_vector_and_nothing_else_changes(home, other):
    before = memories(home)
    done = move(home, other, "--json")
    assert done.code == 0, done.err
    report = done.json
    count = len(home.rows("SELECT 1 FROM memories WHERE embedded"))
    texts = len(home.rows("SELECT DISTINCT content_hash FROM memories WHERE embedded"))
    assert texts < count, "the two agents share texts"
    assert (report["memories"], report["embedded"], report["reused"]) == (count, texts, count - texts)
    assert (report["model_id"], report["from_model_id"]) == (other.model_id, default_model().model_id)
    assert_moved(home, other)
    assert memories(home) == before
    assert home.rows("SELECT command, status FROM runs ORDER BY id DESC LIMIT 1") == [("reindex", "done")]
    assert home.run("search", "nightly build").code == 0
    assert home.run("ingest", home.folder / "ada.jsonl", "--agent", "ada").code == 0
    assert_sound(home.db)


def test_there_and_back_gives_the_very_same_vectors(home, other):
    before = {memory_id: row.tobytes() for memory_id, (_, _, row) in vectors(home).items()}
    assert move(home, other).code == 0
    assert home.run("reindex", "--model", "default").code == 0
    assert {memory_id: row.tobytes() for memory_id, (_, _, row) in vectors(home).items()} == before


def test_a_second_call_has_nothing_to_do_and_writes_nothing(home, other):
    assert move(home, other).code == 0
    generation = home.rows("SELECT value FROM meta WHERE key = 'generation'")
    runs = home.rows("SELECT * FROM runs")
    again = move(home, other, "--json").json
    assert (again["run_id"], again["embedded"]) == (None, 0)
    assert home.rows("SELECT value FROM meta WHERE key = 'generation'") == generation
    assert home.rows("SELECT * FROM runs") == runs


def test_a_dry_run_reports_the_same_and_touches_nothing(home, other):
    before = home.db.read_bytes()
    dry = move(home, other, "--dry-run", "--json").json
    assert home.db.read_bytes() == before
    assert not (home.data / "models" / other.model_id).exists()
    real = move(home, other, "--json").json
    changing = {"run_id", "seconds", "timings", "dry_run"}
    assert {key: dry[key] for key in dry if key not in changing} == {
        key: real[key] for key in real if key not in changing
    }


@pytest.mark.parametrize("moment", ["KILL:stage:2", "KILL:stage:5", "INT:stage:6", "KILL:commit:3:5000"])
def test_what_was_killed_is_continued_and_the_old_vectors_serve_meanwhile(home, other, moment):
    before = home.run("search", "nightly build", "--json").json[0]["hits"]
    done = move(home, other, moment=moment)
    assert done.code == (130 if moment.startswith("INT") else -9 if "stage" in moment else -25), done.err
    hits = home.run("search", "nightly build", "--json").json[0]["hits"]
    assert hits == before
    more = write_jsonl(home.folder / "more.jsonl", [LATER, *some_chat(20)])
    assert home.run("ingest", more, "--agent", "ada").code == 0
    report = move(home, other, "--json").json
    if moment != "KILL:stage:2":
        assert report["resumed"] >= 16
    assert report["resumed"] + report["embedded"] + report["reused"] == report["memories"]
    assert_moved(home, other)
    assert_sound(home.db)


def test_what_an_undo_gives_a_vector_while_a_move_is_interrupted_is_moved_too(home, other):
    twins = [dict(record, id=f"twin-{number}", session_id="t") for number, record in enumerate(some_chat(12))]
    told = write_jsonl(home.folder / "twins.jsonl", twins)
    again = home.run("ingest", told, "--agent", "ada", "--flush", "--json").json
    later = write_jsonl(home.folder / "later.jsonl", some_chat(120, seed=8))
    assert home.run("ingest", later, "--agent", "ada").code == 0
    # Nearly all is embedded when it is killed, so that the duplicates lie before where it came to.
    assert move(home, other, moment="KILL:stage:15").code == -9
    reached = home.rows(f"SELECT max(last_memory_id) FROM segments WHERE model_id = '{other.model_id}'")[0][0]
    assert home.run("dedup", "--undo", str(again["run_id"])).code == 0
    ((missed,),) = home.rows(
        "SELECT count(*) FROM memories AS m JOIN merges AS g ON g.loser_id = m.id"
        f" WHERE m.embedded AND g.ended_reason = 'undone' AND m.id <= {reached}"
    )
    assert missed > 0
    report = move(home, other, "--json").json
    assert report["resumed"] + report["embedded"] + report["reused"] == report["memories"]
    assert report["resumed"] % 16 == 0 < report["resumed"]
    assert_moved(home, other)
    assert_sound(home.db)
    assert home.run("ingest", write_jsonl(home.folder / "more.jsonl", [LATER]), "--agent", "ada").code == 0
    assert_sound(home.db)


def test_an_unfinished_move_is_cleared_away_by_a_move_elsewhere(home, other):
    assert move(home, other, moment="KILL:stage:5").code == -9
    assert {model for _, model, _ in home.rows("SELECT agent_id, model_id, id FROM segments")} == {
        other.model_id,
        default_model().model_id,
    }
    assert home.run("reindex", "--model", "default").code == 0
    assert_moved(home, default_model())


def test_a_transformer_takes_a_database_over(home, tmp_path):
    files = installed(tmp_path / "transformer", transformer())
    assert move(home, files).code == 0
    found = vectors(home)
    texts = home.rows("SELECT id, content FROM memories WHERE embedded ORDER BY id")
    expected = OnnxEmbedder(files).embed([content for _, content in texts])
    for (memory_id, _), row in zip(texts, expected, strict=True):
        assert np.abs(found[memory_id][2] - row).max() < 1e-5


def test_it_waits_for_its_turn_and_needs_a_database_and_a_model(home, other, tmp_path):
    holder = home.start("ingest", "-", "--format", "flat")
    wait_for(holds_lock(home, holder), holder)
    busy = move(home, other)
    assert busy.code == 5
    holder.communicate(b"", timeout=60)
    none = Home(tmp_path / "none", nursery=home.nursery).run("reindex", "--model", "default")
    assert (none.code, "no database" in none.err) == (4, True)
    assert not (tmp_path / "none" / "memory.db").exists()
    assert home.run("reindex", "--model", "").code == 2
    assert home.run("reindex", "--model", "nothing").code == 2


def test_a_batch_takes_so_many_statements_whatever_is_in_it(home, other):
    def statements(size):
        move = ("reindex", "--model", other.folder, "--batch-size", size, "--dry-run", "--json")
        batches = home.nursery.run(home, *move, trace=True).json["batches"]
        return batches, len(json.loads((home.folder / "trace").read_text())["before"])

    (many, small), (few, large) = statements("8"), statements("32")
    assert many > 3 * few
    assert (small - large) / (many - few) < 20


def test_damage_in_the_middle_is_an_error_and_the_old_model_stays(home, other):
    with closing(sqlite3.connect(home.db)) as conn, conn:
        last = "(SELECT max(id) FROM memories WHERE embedded)"
        conn.execute(f"UPDATE memories SET content = CAST(x'ff' AS TEXT) WHERE id = {last}")
    done = move(home, other)
    assert done.code in {1, 8}
    assert home.rows("SELECT value FROM meta WHERE key = 'model_id'") == [(default_model().model_id,)]

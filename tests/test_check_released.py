"""Databases that earlier versions made: each is migrated with all that it holds, is sound, and takes nothing twice.

fixtures/databases/mNNN.db.gz was made by the last commit before the next migration, from chat.jsonl beside it and the
Claude Code transcripts of the fixtures, by ingest, dedup (from m006 on) and a search.
"""

import gzip
import json
import shutil

import pytest
from support_cli import FIXTURES, Home, Nursery

from memcli.store.schema import released

DATABASES = FIXTURES.parent / "databases"
# Migrations that no released database has as its last one, with the reason.
UNRELEASED = dict.fromkeys(
    ("m009_forgotten", "m010_row_hashes", "m011_words"), "the present schema: every other test has such a database"
)
KEPT = {
    "messages": 'id, session_id, identity, external_id, role, speaker, text, text_hash, timestamp, start, "end"',
    "memories": "id, agent_id, session_id, window_id, type, content, content_hash, importance, keywords, timestamp",
    "provenance": 'memory_id, message_id, start, "end", kind',
    "merges": "id, loser_id, winner_id, kind, cosine, overlap, run_id, ended_at",
    "review_pairs": "memory_id, other_id, cosine, status",
    "sessions": "id, agent_id, key",
    "session_tags": "session_id, tag",
    "windows": "id, session_id, source_message_ids, source_spans",
    "window_tiers": "window_id, tier, version, status",
    "segments": "agent_id, model_id, count, dim, memory_ids, vectors",
}


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


def stored():
    return sorted(path.name.split(".")[0] for path in DATABASES.glob("*.db.gz"))


@pytest.fixture(params=stored())
def home(request, nursery, tmp_path):
    made = Home(tmp_path / "home", nursery=nursery)
    made.db.write_bytes(gzip.decompress((DATABASES / f"{request.param}.db.gz").read_bytes()))
    shutil.copytree(FIXTURES / "claude-code", made.folder / "claude-code")
    shutil.copy(DATABASES / "chat.jsonl", made.folder)
    return made


def content(home):
    return {table: home.rows(f"SELECT {columns} FROM {table} ORDER BY 1, 2") for table, columns in KEPT.items()}


def test_every_schema_that_was_released_has_a_database():
    assert {name for name in released() if name.split("_")[0] not in stored()} == set(UNRELEASED)


def test_a_reader_says_how_to_migrate_and_leaves_it_alone(home):
    before = home.db.read_bytes()
    for command in ("stats", "check"):
        done = home.run(command)
        assert (done.code, "memcli ingest" in done.err) == (6, True), done
    assert home.run("backup", "kept.db").code == 0
    assert home.db.read_bytes() == before
    found = content(home)
    home.db = home.folder / "kept.db"
    assert content(home) == found


def test_it_is_migrated_with_its_content_is_sound_and_takes_nothing_twice(home):
    before = content(home)
    assert len(before["memories"]) == 87
    done = home.run("ingest", "claude-code", "chat.jsonl", "--flush", "--json")
    assert done.code == 0, done.err
    report = done.json
    assert (report["messages"]["new"], report["memories"]["created"]) == (0, 0), json.dumps(report, indent=1)
    assert content(home) == before
    checked = home.run("check", "--json")
    assert (checked.code, checked.json["findings"]) == (0, []), checked.out
    assert home.run("search", "retries", "--json").json[0]["hits"]

"""Other programs open the file pleasantly: Datasette with the exported metadata, sqlite-utils, plain SQLite."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import closing
from html import unescape
from pathlib import Path

import pytest
from support_cli import FIXTURES, PATIENCE, Home

from memcli.exchange.datasette import metadata
from memcli.store.catalogue import QUESTIONS, RECORDS_OF_OTHERS, TABLES, VIEWS, WORDS_INDEX
from memcli.store.db import Store
from memcli.store.schema_search import WORDS_TABLE

# Names that end in _id and refer to no table of the database.
NO_REFERENCES = {"agent_id", "external_id", "model_id", "base_model_id", "first_memory_id", "last_memory_id"}
# How far dedup has come: the memory need not be there any more.
NO_REFERENCE = {("dedup_watermarks", "memory_id")}
OLD_INDEX = """
DROP TABLE memories_fts;
CREATE VIRTUAL TABLE memories_fts USING fts5 (
    content, content='memories', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
);
INSERT INTO memories_fts (rowid, content) SELECT id, content FROM memories WHERE embedded;
DELETE FROM _sqlite_migrations WHERE name = 'm011_words';
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory, data, nursery):
    home = Home(tmp_path_factory.mktemp("filled"), data, nursery)
    assert home.run("ingest", FIXTURES, "--quiet").code == 0
    home.metadata = home.folder / "metadata.json"
    home.exported = home.run("export", "--datasette", home.metadata)
    return home


def beside_python(name):
    script = Path(sys.executable).with_name(name)
    if not script.exists():
        pytest.skip(f"{name} is not installed")
    return str(script)


class Site:
    """A running Datasette."""

    def __init__(self, address):
        self.address = address

    def page(self, path, **query):
        return unescape(self._fetched(path, query).decode())

    def rows(self, path, **query):
        return json.loads(self._fetched(f"{path}.json", query | {"_shape": "objects"}))["rows"]

    def _fetched(self, path, query):
        url = f"{self.address}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - our own address
            assert answer.status == 200
            return answer.read()


@pytest.fixture(scope="module")
def site(filled):
    command = [
        beside_python("datasette"),
        filled.db,
        "--metadata",
        filled.metadata,
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    env = {name: value for name, value in os.environ.items() if not name.startswith("DATASETTE")}
    with subprocess.Popen(command, env=env, cwd=filled.folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = ""
            while (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", said)) is None:
                line = process.stderr.readline()
                assert line, said
                said += line
            yield Site(found[1])
        finally:
            process.terminate()


# --- the metadata ----------------------------------------------------------------------------------------------------


def test_the_export_says_how_to_look_at_it(filled):
    assert filled.exported.code == 0
    assert filled.exported.out == f"Look at it with: datasette {filled.db} --metadata {filled.metadata}\n"
    assert json.loads(filled.metadata.read_text()) == json.loads(json.dumps(metadata(filled.db)))
    assert filled.metadata.stat().st_mode & 0o777 == 0o600
    again = filled.run("export", "--datasette", filled.metadata, "--json")
    assert again.json == {"db": str(filled.db), "out": str(filled.metadata)}
    assert filled.run("export", "--datasette", "-").json == json.loads(filled.metadata.read_text())


def test_metadata_needs_a_database_and_goes_with_no_other_export(home, filled):
    assert home.run("export", "--datasette", "x.json").code == 4
    assert not (home.folder / "x.json").exists()
    done = filled.run("export", "--datasette", "x.json", "--agent", "support")
    assert (done.code, done.out) == (2, "")
    assert "--datasette goes with none of" in done.err


def test_what_is_described_is_there_and_what_is_there_is_described(filled):
    names = dict(filled.rows("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"))
    own = {name for name in names if not name.startswith((f"{WORDS_INDEX}_", "sqlite_"))}
    assert own == {*TABLES, *VIEWS, *RECORDS_OF_OTHERS}
    for name, info in (TABLES | VIEWS).items():
        columns = {row[0] for row in filled.rows(f"SELECT name FROM pragma_table_info('{name}')")}
        said = {*info.columns, *info.units, *info.facets, *(x for x in (info.label, info.newest, info.words) if x)}
        assert said <= columns, name


def test_every_question_has_an_answer(filled):
    with closing(sqlite3.connect(filled.db)) as conn:
        session = conn.execute(
            "SELECT key FROM sessions WHERE id = (SELECT session_id FROM memories ORDER BY id DESC)"
        ).fetchone()[0]
        given = {"session": session, "memory": 1, "tag": "project:parcelhook"}
        counts = {name: len(conn.execute(each.sql, given).fetchall()) for name, each in QUESTIONS.items()}
    assert {name for name, count in counts.items() if not count} == {"what_models_cost"}  # no model was asked


def test_the_words_of_a_source_are_those_of_the_memory(filled):
    with closing(sqlite3.connect(filled.db)) as conn:
        conn.row_factory = sqlite3.Row
        for memory, content in conn.execute("SELECT memory_id, content FROM active_memories").fetchall():
            sources = conn.execute(QUESTIONS["sources_of_a_memory"].sql, {"memory": memory}).fetchall()
            assert content.split() in [each["words"].split() for each in sources]


# --- Datasette -------------------------------------------------------------------------------------------------------


def test_the_database_page_shows_what_matters_and_hides_the_machinery(site):
    page = site.page("/memory")
    for each in QUESTIONS.values():
        assert each.title in page
    for name, info in TABLES.items():
        assert (f'href="/memory/{name}"' in page) is not info.machinery, name
    for name in VIEWS:
        assert f'href="/memory/{name}"' in page


@pytest.mark.parametrize(("table", "key"), [("memories", "id"), ("active_memories", "memory_id")])
def test_memories_are_searched_by_their_words(site, filled, table, key):
    page = site.page(f"/memory/{table}", _search="retry")
    assert 'name="_search"' in page
    found = [row[key] for row in site.rows(f"/memory/{table}", _search="retry", _size="max")]
    matching = filled.rows(f"SELECT rowid FROM {WORDS_INDEX} WHERE {WORDS_INDEX} MATCH 'retry'")
    assert sorted(found) == sorted(row[0] for row in matching if table == "memories" or is_active(filled, row[0]))
    assert found == sorted(found, reverse=True)  # the newest first
    assert len(found) > 3
    assert "retries" in page  # stemmed


def is_active(filled, memory):
    return bool(filled.rows("SELECT 1 FROM active_memories WHERE memory_id = ?", memory))


def test_a_search_with_syntax_of_its_own_is_only_text(site):
    assert site.rows("/memory/memories", _search='content:"x OR (NEAR') == []


def test_references_are_links_with_names(site, filled):
    loser, winner = filled.rows("SELECT loser_id, winner_id FROM merges")[0]
    (content,) = filled.rows("SELECT content FROM memories WHERE id = ?", winner)[0]
    page = site.page("/memory/merges", loser_id=loser)
    assert re.search(rf'<a href="/memory/memories/{winner}">{re.escape(content)}</a>', page)
    row = site.page(f"/memory/memories/{winner}")
    assert "Links from other tables" in row
    for table, column in (("merges", "winner_id"), ("provenance", "memory_id"), ("review_pairs", "other_id")):
        assert f"/memory/{table}?{column}={winner}" in row.replace("__exact", ""), table
    sessions = site.page("/memory/memories", id=winner)
    assert re.search(r'<a href="/memory/sessions/\d+">', sessions)


def test_descriptions_units_and_answers_are_shown(site):
    assert f"One row per {TABLES['memories'].row}." in site.page("/memory/memories")
    assert f'data-column-description="{TABLES["memories"].columns["verdict"]}"' in site.page("/memory/memories")
    assert re.search(r"\d\s*kB", site.page("/memory/files"))
    merges = site.page("/memory/merges_with_evidence")
    assert QUESTIONS["merges_with_evidence"].title in merges
    assert "gates_passed" in merges
    assert len(site.rows("/memory/memories_of_a_session", session="nobody")) == 0


# --- sqlite-utils ----------------------------------------------------------------------------------------------------


def sqlite_utils(*arguments):
    command = [beside_python("sqlite-utils"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


def test_sqlite_utils_lists_shows_and_searches(filled):
    tables = {row["table"]: row["count"] for row in json.loads(sqlite_utils("tables", filled.db, "--counts"))}
    assert tables["memories"] == filled.rows("SELECT count(*) FROM memories")[0][0]
    assert {row["view"] for row in json.loads(sqlite_utils("views", filled.db))} == set(VIEWS)
    assert "REFERENCES sessions" in sqlite_utils("schema", filled.db, "memories")
    found = json.loads(sqlite_utils("search", filled.db, "memories", "retry", "-c", "id"))
    matching = filled.rows(f"SELECT rowid FROM {WORDS_INDEX} WHERE {WORDS_INDEX} MATCH 'retry'")
    assert {row["id"] for row in found} == {row[0] for row in matching}


# --- the schema ------------------------------------------------------------------------------------------------------


def test_every_reference_is_declared(filled):
    declared = {
        (table, row[0])
        for table in TABLES
        for row in filled.rows(f"SELECT \"from\" FROM pragma_foreign_key_list('{table}')")
    }
    named = {
        (table, row[0])
        for table in TABLES
        for row in filled.rows(f"SELECT name FROM pragma_table_info('{table}') WHERE name LIKE '%\\_id' ESCAPE '\\'")
        if row[0] not in NO_REFERENCES
    }
    assert named - declared == NO_REFERENCE
    assert filled.rows("PRAGMA foreign_key_check") == []


def test_an_older_keyword_index_is_declared_anew_and_holds_the_same_words(filled, home):
    with closing(sqlite3.connect(filled.db)) as conn, closing(sqlite3.connect(home.db)) as copy:
        conn.backup(copy)
        copy.execute("PRAGMA journal_mode = WAL")
        copy.executescript(OLD_INDEX)
    before = words_of(home)
    with Store.create(home.db):
        pass
    assert words_of(home) == before
    assert 'content="memories"' in home.rows("SELECT sql FROM sqlite_master WHERE name = ?", WORDS_INDEX)[0][0]
    assert 'content="memories"' in WORDS_TABLE
    assert home.run("reindex", "--check").code == 0


def words_of(home):
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute(f"CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, {WORDS_INDEX}, instance)")
        return conn.execute("SELECT term, doc, offset FROM temp.words ORDER BY 1, 2, 3").fetchall()

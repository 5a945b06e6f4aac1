"""The figures of `memcli stats` are those of the database, as counted one by one."""

import json
import sqlite3
from collections import Counter

import pytest
from support_ingest import assistant, flat, query, run, user, write

from memcli.errors import UsageError
from memcli.stats import RECENT_BATCHES, collect, collect_batches
from memcli.store import metrics
from memcli.store.db import Store

DAY = {"timestamp": "2026-03-01T10:00:00Z"}
NEXT_DAY = {"timestamp": "2026-03-02T10:00:00Z"}


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    """Two agents, duplicates, a pair for review, dropped messages, a rejected line, tags, three runs, a waiting one."""
    folder = tmp_path_factory.mktemp("stats")
    chat = write(
        folder / "in/chat.jsonl",
        flat("The staging cluster in Lisbon needs a second replica before March.", id="1", session_id="a", **DAY),
        flat("The staging cluster in Lisbon needs a second replica before March.", id="2", session_id="a", **NEXT_DAY),
        flat("- **The staging cluster in Lisbon needs a second replica before March.**", id="3", session_id="b", **DAY),
        flat("The budget of the project is $500 for this quarter.", id="4", session_id="b", **NEXT_DAY),
        flat("The budget of the project is $5000 for this quarter.", id="5", session_id="b", **NEXT_DAY),
        flat("I prefer green tea over coffee.", id="6", session_id="c", agent_id="tea", **NEXT_DAY),
        flat("thanks!", id="7", session_id="c", agent_id="tea", **NEXT_DAY),
    )
    with chat.open("ab") as file:
        file.write(b"{not json\n")
    write(
        folder / "in/code.jsonl",
        user("Please rename the retry policy of the importer.", "u1", cwd="/home/mira/parcel", gitBranch="main"),
        assistant("The retry policy is called backoff from now on.", "u2", "m2", cwd="/home/mira/parcel"),
        user("Please rename the retry policy of the importer.", "u3", session="s2", cwd="/home/mira/parcel"),
    )
    path = folder / "memory.db"
    run(path, folder / "in", batch_size=3)
    chat.write_bytes(chat.read_bytes() + json.dumps(flat("A dark theme is planned.", id="8", session_id="d")).encode())
    run(path, folder / "in", batch_size=3)
    # Fewer messages than this profile wants in a window: it waits.
    write(
        folder / "in/late.jsonl",
        flat("This one waits for its window, since no others are in it.", id="9", session_id="e"),
    )
    run(path, folder / "in", profile="conservative", extract=("rules",))
    return path


@pytest.fixture
def found(db):
    with Store.open(db) as store:
        return collect(store)


def rows(db, table):
    with sqlite3.connect(db) as conn:
        conn.row_factory = sqlite3.Row
        return [dict(row) for row in conn.execute(f"SELECT * FROM {table}")]


def expected(db, agent=None):
    """The same figures, out of all rows, by Python alone."""
    sessions = {row["id"]: row["agent_id"] for row in rows(db, "sessions")}
    wanted = set(sessions.values()) if agent is None else {agent}
    messages = [row for row in rows(db, "messages") if sessions[row["session_id"]] in wanted]
    memories = {row["id"]: row for row in rows(db, "memories") if row["agent_id"] in wanted}
    live = [row for row in rows(db, "merges") if row["ended_at"] is None and row["loser_id"] in memories]
    winner = {row["loser_id"]: row["winner_id"] for row in live}
    tagged = {
        (row["tag"], winner.get(row["memory_id"], row["memory_id"]))
        for row in rows(db, "memory_tags")
        if row["memory_id"] in memories
    }
    return {
        "messages": len(messages),
        "filtered": Counter(row["filter_reason"] for row in messages if row["filter_reason"]),
        "sessions": sum(name in wanted for name in sessions.values()),
        "windows": sum(sessions[row["session_id"]] in wanted for row in rows(db, "windows")),
        "pending": len(
            {row["message_id"] for row in rows(db, "pending_messages") if sessions[row["session_id"]] in wanted}
        ),
        "files": len({row["file_id"] for row in messages}) if agent else len(rows(db, "files")),
        "memories": len(memories),
        "merged": len(live),
        "kinds": Counter(row["kind"] for row in live),
        "review": sum(row["verdict"] == "review" for row in memories.values()),
        "methods": Counter(row["extraction_method"] for row in memories.values()),
        "types": Counter(row["type"] for row in memories.values()),
        "days": Counter((row["timestamp"] or row["created_at"])[:10] for row in memories.values()),
        "tags": Counter(tag for tag, _ in tagged),
    }


@pytest.mark.parametrize("agent", [None, "default", "tea", "claude-code"])
def test_every_figure_is_the_one_that_counting_row_by_row_gives(db, agent):
    with Store.open(db) as store:
        document = collect(store, agent).to_json()
    want = expected(db, agent)
    counts = document["counts"]
    for name in ("messages", "sessions", "windows", "pending", "files", "memories", "merged"):
        assert counts[name] == want[name], name
    assert counts["active"] == want["memories"] - want["merged"]
    assert counts["dropped"] == sum(want["filtered"].values()) == counts["messages"] - counts["kept"]
    assert document["filtered"] == want["filtered"]
    assert {row["method"]: row["memories"] for row in document["methods"]} == want["methods"]
    assert {row["tag"]: row["memories"] for row in document["tags"]} == want["tags"]
    assert {row["day"]: row["memories"] for row in document["days"]} == want["days"]
    assert document["types"] == want["types"]
    rates = {kind: row["memories"] for kind, row in document["dedup"].items()}
    assert rates == {"exact": want["kinds"]["exact"], "near": want["kinds"]["near"], "review": want["review"]}
    assert document["dedup"]["exact"]["rate"] == round(want["kinds"]["exact"] / want["memories"], 6)
    assert {row["agent"] for row in document["agents"]} == ({agent} if agent else {"default", "tea", "claude-code"})


def test_the_database_of_these_tests_has_something_of_everything(db):
    want = expected(db)
    for name, figure in want.items():
        assert figure, name
    assert want["kinds"]["exact"]
    assert want["kinds"]["near"]
    assert want["review"]


def test_agents_shares_add_up_to_the_whole(found):
    counts = found.to_json()["counts"]
    for name in ("sessions", "messages", "kept", "memories", "merged"):
        assert sum(getattr(row, name) for row in found.agents) == counts[name], name


def test_rejected_lines_are_counted_by_reason(db, found):
    assert sum(found.rejected.values()) == len(rows(db, "rejected_lines")) == 1
    ((reason,),) = ([reason] for reason in found.rejected)
    assert rows(db, "rejected_lines")[0]["reason"] == f"{reason} at column 2"


def test_reasons_that_differ_in_the_place_only_are_one(tmp_path):
    file = write(tmp_path / "a.jsonl", flat("The ferry leaves from the west quay.", id="1"))
    with file.open("ab") as out:
        out.write(b'{"a" 1}\n{"abc" 1}\n7\n')
    run(tmp_path / "memory.db", file)
    with Store.open(tmp_path / "memory.db") as store:
        assert collect(store).rejected == {"not JSON: Expecting ':' delimiter": 2, "a number, not an object": 1}


def test_stages_are_those_of_all_batches(db, found):
    timings = [json.loads(row["timings"]) for row in rows(db, "batches")]
    assert found.batches == len(timings) > 3
    assert list(found.stages) == ["read", "filter", "extract", "embed", "dedup", "commit"]
    for stage, seconds in found.stages.items():
        assert seconds == pytest.approx(sum(batch[stage] for batch in timings)), stage


def test_runs_come_newest_first_with_what_they_made(db, found):
    assert [run.id for run in found.runs] == [3, 2, 1]
    assert {run.command for run in found.runs} == {"ingest"}
    for run_ in found.runs:
        batches = [row for row in rows(db, "batches") if row["run_id"] == run_.id]
        assert run_.outcome == {
            "messages": sum(row["messages_in"] - row["messages_duplicate"] for row in batches),
            "memories": sum(row["memories_created"] for row in batches),
            "merged": sum(row["memories_merged"] for row in batches),
        }
        assert run_.seconds >= 0
    assert found.run_counts == {("ingest", "done"): 3}


def test_a_run_of_another_command_shows_the_counts_of_its_report(db, tmp_path):
    copy = tmp_path / "copy.db"
    copy.write_bytes(db.read_bytes())
    report = json.dumps({"run_id": 9, "undone": 4, "seconds": 0.5, "scope": "all", "restored": 2})
    with sqlite3.connect(copy) as conn:
        conn.execute(
            "INSERT INTO runs VALUES (9, 'dedup', '1', 'done', '2026-03-01T10:00:00.000Z',"
            " '2026-03-01T10:00:01.500Z', ?)",
            (report,),
        )
        conn.execute("INSERT INTO runs VALUES (10, 'dedup', '1', 'running', '2026-03-01T10:00:02.000Z', NULL, NULL)")
    with Store.open(copy) as store:
        newest, other, *_ = collect(store).runs
    assert (other.seconds, other.outcome) == (1.5, {"undone": 4, "restored": 2})
    assert (newest.status, newest.seconds, newest.outcome) == ("running", None, {})


def test_sizes_by_table_add_up_to_the_file(db, found):
    assert found.sizes.exact
    assert sum(found.sizes.tables.values()) + found.sizes.free == found.sizes.total == db.stat().st_size
    assert {"memories", "messages", "segments", "memories_fts"} <= set(found.sizes.tables)
    assert not [name for name in found.sizes.tables if name.startswith("memories_fts_")]
    assert list(found.sizes.tables.values()) == sorted(found.sizes.tables.values(), reverse=True)


def test_without_dbstat_the_stored_values_are_added_up(db, monkeypatch):
    monkeypatch.setattr(metrics, "counts_pages", lambda _: False)
    with Store.open(db) as store:
        sizes = collect(store).sizes
    assert not sizes.exact
    assert sizes.total == db.stat().st_size
    blobs = query(db, "SELECT sum(length(vectors) + length(memory_ids) + length(codes)) FROM segments")[0][0]
    assert blobs < sizes.tables["segments"] < blobs * 1.5
    assert sizes.tables["memories_fts"] > 0


def test_a_commit_in_the_middle_does_not_tear_the_figures(db, tmp_path, monkeypatch):
    copy = tmp_path / "copy.db"
    copy.write_bytes(db.read_bytes())
    original = metrics.messages_by_reason

    def meddle(store, agent):
        with sqlite3.connect(copy) as conn:
            conn.execute("UPDATE messages SET filter_reason = 'greeting' WHERE filter_reason IS NULL")
            conn.execute("DELETE FROM pending_messages")
        return original(store, agent)

    monkeypatch.setattr(metrics, "messages_by_reason", meddle)
    with Store.open(copy) as store:
        document = collect(store).to_json()
    assert document["counts"]["kept"] == sum(row["kept"] for row in document["agents"]) > 0


def test_an_unknown_agent_is_named_with_those_there_are(db):
    with Store.open(db) as store, pytest.raises(UsageError, match="no such agent: tee") as error:
        collect(store, "tee")
    assert "claude-code, default, tea" in error.value.hint


def test_the_same_figures_at_once_do_not_load_rows(db):
    """Whatever the number of rows, a query returns few: what is fetched is counted on a database with 3,000 more."""
    with Store.open(db) as store:
        few = _fetched(store)
    big = db.with_name("big.db")
    big.write_bytes(db.read_bytes())
    with sqlite3.connect(big) as conn:
        columns = [row[1] for row in conn.execute("PRAGMA table_info(memories)")]
        copied = ", ".join("n.value + 10000" if name == "id" else f'm."{name}"' for name in columns)
        numbers = json.dumps(list(range(3000)))
        conn.execute(
            f"INSERT INTO memories SELECT {copied} FROM (SELECT * FROM memories LIMIT 1) AS m, json_each(?) AS n",
            (numbers,),
        )
    with Store.open(big) as store:
        assert _fetched(store) == few


def _fetched(store):
    fetched = []

    class Counting:
        def __init__(self, conn):
            self.conn = conn

        def execute(self, sql, *parameters):
            found = self.conn.execute(sql, *parameters).fetchall()
            fetched.extend(found)
            return Rows(found)

    class Rows(list):
        def fetchall(self):
            return self

        def fetchone(self):
            return self[0] if self else None

    store.conn, conn = Counting(store.conn), store.conn
    collect(store)
    store.conn = conn
    return len(fetched)


def test_batches_are_the_newest_with_their_rates_and_the_slowest_named(db):
    with Store.open(db) as store:
        found = collect_batches(store)
    stored = rows(db, "batches")
    assert [batch.id for batch in found.recent] == [row["id"] for row in stored][-RECENT_BATCHES:]
    document = found.to_json()
    seconds = {row["id"]: sum(json.loads(row["timings"]).values()) for row in stored}
    assert document["slowest"] == sorted(seconds, key=lambda each: -seconds[each])[:5]
    for batch, row in zip(document["batches"], stored, strict=True):
        assert batch["messages"] == (row["messages_in"] or len(json.loads(row["source_message_ids"])))
        assert (batch["memories"], batch["merged"]) == (row["memories_created"], row["memories_merged"])
        assert batch["messages_per_second"] == pytest.approx(batch["messages"] / seconds[batch["id"]], abs=0.1)

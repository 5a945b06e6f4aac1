"""What is forgotten is in no table and in no byte of the file, the rest is as it was, and it does not come back."""

import json
import os
import shutil
import signal
import sqlite3
import tempfile
from contextlib import closing

import pytest
from support_cli import Home
from support_ingest import Quiet, append, environ, flat, memories, query, quick_model, run, texts, user, write
from support_ingest import assert_sound as is_sound
from support_rules import add_rule

from memcli.commands.check import check
from memcli.commands.exchange import ExportRequest, export, import_files
from memcli.commands.forget import forget
from memcli.config import Config
from memcli.errors import UsageError
from memcli.store.forget import Selection
from memcli.text import content_hash

# A word that stands in what goes and nowhere else.
MARK = "Zanzibarquux"
SECRET = f"I always spend the winter in {MARK} with my sister, near the old harbour."
MORE = f"The house in {MARK} has a blue door and belongs to my aunt."
SHARED = "I prefer tea to coffee in the morning, always without sugar."
OTHER = "The nightly backup of the server runs at three o'clock."


def said(text, number, session="s1", **fields):
    return flat(text, id=f"{session}-{number}", session_id=session, timestamp=f"2026-03-0{number}T08:00:00Z", **fields)


@pytest.fixture
def db(tmp_path):
    """Two sessions of one agent in a file each, and one of another agent."""
    write(tmp_path / "a.jsonl", said(SECRET, 1), said(SHARED, 2), said(MORE, 3))
    write(tmp_path / "b.jsonl", said(SHARED, 4, "s2"), said(OTHER, 5, "s2"))
    write(tmp_path / "c.jsonl", said(OTHER, 6, "s3", agent_id="bob"), said(SHARED, 7, "s3", agent_id="bob"))
    db = tmp_path / "m.db"
    for name in "abc":
        run(db, tmp_path / f"{name}.jsonl")
    return db


def assert_sound(db):
    """All that holds in every database, by the tests' own judgement and by `memcli check`."""
    is_sound(db)
    report = check(Config(db=db), Quiet(), environ())
    assert not report.findings, report.findings


def gone(db, dry_run=False, **selection):
    return forget(Config(db=db), Selection(**selection), dry_run=dry_run)


def holds(db, word=MARK):
    """The files beside the database, it included, in whose bytes the word stands, whatever its case."""
    files = (db, *(db.with_name(db.name + end) for end in ("-wal", "-shm", "-journal")))
    return [path.name for path in files if path.exists() and word.lower().encode() in path.read_bytes().lower()]


def test_the_word_is_in_the_bytes_before(db):
    assert holds(db) == ["m.db"]


@pytest.mark.parametrize("what", ["session", "source", "text"])
def test_it_is_in_no_byte_any_more_and_all_else_is_there(db, what):
    selection = {"session": "s1", "source": str(db.parent / "a.jsonl"), "text": MARK}
    report = gone(db, **{what: selection[what]})
    assert holds(db) == []
    assert_sound(db)
    left = [SHARED, OTHER, OTHER, SHARED]
    assert texts(db) == ([SHARED, *left] if what == "text" else left)
    assert sorted(memories(db)) == sorted([(SHARED, 2 if what == "text" else 1), (OTHER, 1), (OTHER, 1), (SHARED, 1)])
    assert report.rows["messages"] == (2 if what == "text" else 3)


def test_an_agent_goes_with_its_name(db):
    gone(db, agent="bob")
    assert holds(db, "bob") == []
    assert_sound(db)
    assert sorted(memories(db)) == sorted([(SECRET, 1), (MORE, 1), (SHARED, 2), (OTHER, 1)])


def test_an_agent_narrows_another_selection(db):
    gone(db, agent="bob", text="tea")
    assert [text for text in texts(db) if text == SHARED] == [SHARED, SHARED]
    assert query(db, "SELECT count(*) FROM sessions WHERE agent_id = 'bob'") == [(1,)]


def test_a_memory_goes_with_its_duplicates_and_the_messages_they_are_of(db):
    sql = "SELECT min(g.loser_id) FROM merges AS g JOIN memories AS m ON m.id = g.loser_id WHERE m.content = ?"
    loser = query(db, sql, SHARED)[0][0]
    gone(db, memory=loser)
    assert texts(db) == [SECRET, MORE, OTHER, OTHER, SHARED]  # that of another agent is another memory
    assert_sound(db)


def test_what_other_sessions_say_stays_with_right_mentions_and_tags(tmp_path):
    db = tmp_path / "m.db"
    only = {"extract": ("verbatim",)}
    run(db, write(tmp_path / "a.jsonl", said(SHARED, 1, model="m-1")), **only)
    run(db, write(tmp_path / "b.jsonl", said(SHARED, 2, "s2", model="m-2"), said(SHARED, 3, "s2", model="m-2")), **only)
    assert memories(db) == [(SHARED, 3)]
    report = gone(db, session="s1")
    assert (report.released, report.relinked) == (1, 1)
    assert memories(db) == [(SHARED, 2)]
    assert query(db, "SELECT DISTINCT tag FROM memory_tags") == [("model:m-2",)]
    assert_sound(db)  # it has a vector and words of its own now
    assert query(db, "SELECT embedded FROM memories ORDER BY id") == [(1,), (0,)]


def test_near_duplicates_of_a_winner_that_goes_stand_alone_until_dedup_compares_them(tmp_path, nursery, data):
    home = Home(tmp_path / "home", data, nursery)
    near = "I prefer tea to coffee in the morning; always without sugar!"
    a = write(tmp_path / "a.jsonl", said(SHARED, 1))
    b = write(tmp_path / "b.jsonl", said(near, 2, "s2"), said(near.replace("!", "."), 3, "s3"))
    for path in (a, b):
        assert home.run("ingest", path, "--extract", "verbatim").code == 0
    assert home.run("dedup").code == 0
    assert home.rows("SELECT count(*) FROM merges WHERE ended_at IS NULL") == [(2,)]
    done = home.run("forget", "--session", "s1", "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["released"] == 2
    assert_sound(home.db)
    assert home.run("dedup").code == 0
    assert home.rows("SELECT count(*) FROM active_memories") == [(1,)]


def back_in_every_way(db, tmp_path):
    """Bring all that was read before once more: the same file, a copy, as another agent, exports, a copy of the db."""
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((tmp_path / "a.jsonl").read_bytes())
    reports = [
        run(db, tmp_path / "a.jsonl"),
        run(db, copy),
        run(db, copy, agent="someone-else"),
        run(db, reextract=True),
    ]
    imports = []
    for path in (tmp_path / "export.jsonl", tmp_path / "before.db"):
        with quick_model():
            imports.append(import_files(Config(db=db), [str(path)], None, Quiet(), environ(), dry_run=False))
    return reports, imports


@pytest.mark.parametrize("what", ["session", "source", "text", "agent"])
def test_it_does_not_come_back(db, tmp_path, what):
    shutil.copy(db, tmp_path / "before.db")
    request = ExportRequest(out=tmp_path / "export.jsonl")
    chunks = lambda documents: (json.dumps(each) + "\n" for each in documents)  # noqa: E731 - as the command does
    export(Config(db=db), request, chunks, print)
    assert MARK in request.out.read_text()
    kept = {"session": "s1", "source": str(tmp_path / "a.jsonl"), "text": MARK, "agent": "default"}
    gone(db, **{what: kept[what]})
    before = sorted(memories(db))
    reports, imports = back_in_every_way(db, tmp_path)
    assert holds(db) == []
    assert_sound(db)
    assert sorted({content for content, _ in memories(db)}) == sorted(
        {content for content, _ in before} | {SHARED, OTHER} if what == "text" else {content for content, _ in before}
    )
    assert reports[1].filtered["forgotten"] >= 2
    assert all(report.forgotten >= 2 for report in imports)
    assert not query(db, "SELECT 1 FROM messages WHERE filter_reason = 'forgotten'")


def test_a_tag_that_holds_a_forgotten_text_does_not_come_back_with_an_import(tmp_path):
    db, copy = tmp_path / "m.db", tmp_path / "before.db"
    lines = user(SHARED, "u1", "s1", cwd=f"/srv/{MARK}"), user(OTHER, "u2", "s2", cwd="/srv/api")
    run(db, write(tmp_path / "a.jsonl", *lines))
    shutil.copy(db, copy)
    out = tmp_path / "export.jsonl"
    export(Config(db=db), ExportRequest(out=out), lambda all_: (json.dumps(each) + "\n" for each in all_), print)
    gone(db, text=MARK)
    assert holds(db) == []
    for path in (out, copy):
        with quick_model():
            import_files(Config(db=db), [str(path)], None, Quiet(), environ(), dry_run=False)
        assert query(db, "SELECT DISTINCT tag FROM session_tags") == [("project:api",)]
        assert holds(db) == []
    assert_sound(db)


def test_a_rejected_line_goes_and_does_not_come_back(tmp_path):
    db, path = tmp_path / "m.db", tmp_path / "a.jsonl"
    write(path, said(SECRET, 1))
    with path.open("a") as file:
        file.write(f'{{"role": "user", "content": "{MARK} is cut off\n')
    run(db, path, write(tmp_path / "b.jsonl", said(OTHER, 2, "s2")))
    assert query(db, "SELECT count(*) FROM rejected_lines") == [(1,)]
    gone(db, source=str(path))
    assert holds(db) == []
    report = run(db, path)
    assert report.rejected == 1  # it is still there, and still no message
    assert holds(db) == []


def test_messages_without_ids_and_times_do_not_come_back_either(tmp_path):
    db, path = tmp_path / "m.db", write(tmp_path / "a.jsonl", *(flat(text) for text in (SECRET, SECRET, OTHER)))
    run(db, path)
    gone(db, text=MARK)
    assert query(db, "SELECT count(*) FROM message_occurrences") == [(1,)]
    append(path, flat("Something else that is new in this file."))
    path.rename(tmp_path / "moved.jsonl")
    run(db, tmp_path / "moved.jsonl")
    other = write(tmp_path / "again.jsonl", *(flat(text) for text in (SECRET, OTHER)))
    report = run(db, other)
    assert report.filtered["forgotten"] == 1
    assert holds(db) == []
    assert_sound(db)


def test_what_is_new_in_a_forgotten_session_is_read(db, tmp_path):
    gone(db, session="s1")
    append(tmp_path / "a.jsonl", said("The garden needs water every second day in July.", 8))
    report = run(db, tmp_path / "a.jsonl")
    assert report.filtered["forgotten"] == 3
    assert "The garden needs water every second day in July." in texts(db)
    assert holds(db) == []


def test_a_session_that_is_read_again_and_has_nothing_new_leaves_no_trace(db, tmp_path):
    gone(db, session="s1")
    run(db, tmp_path / "a.jsonl")
    assert query(db, "SELECT count(*) FROM sessions WHERE key = 's1'") == [(0,)]


def test_copies_that_killed_runs_have_left_go_too(db, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    repairing, trying = tmp_path / f".{db.name}.memcli-abc", tmp_path / "memcli-dry-run-abc"
    at_work, anothers = tmp_path / "memcli-dry-run-def", tmp_path / ".other.db.memcli-abc"
    for folder in (repairing, trying, at_work, anothers):
        folder.mkdir()
        shutil.copy(db, folder / "copy.db")
    os.utime(trying, (0, 0))
    gone(db, dry_run=True, text=MARK)
    assert [each.exists() for each in (repairing, trying, at_work, anothers)] == [True, False, True, True]
    gone(db, text=MARK)
    assert [each.exists() for each in (repairing, at_work, anothers)] == [False, True, True]


def test_tombstones_tell_nothing(db):
    gone(db, text=MARK)
    marks = {row[0] for row in query(db, "SELECT digest FROM forgotten")}
    assert marks
    assert not marks & {content_hash(SECRET), content_hash(MORE)}
    other = db.with_name("other.db")
    run(other, db.parent / "a.jsonl")
    gone(other, text=MARK)
    assert not marks & {row[0] for row in query(other, "SELECT digest FROM forgotten")}  # each has a key of its own


def test_answers_of_models_and_the_query_cache_go(db):
    window = query(db, "SELECT id FROM windows ORDER BY id LIMIT 1")[0][0]
    with closing(sqlite3.connect(db)) as conn, conn:
        for number, own in enumerate((window, None, window + 1)):
            conn.execute(
                "INSERT INTO model_calls (id, run_id, window_id, agent_id, tier, model, key, messages, status,"
                " tokens_in, tokens_out, cost_usd, started_at) VALUES (?, 1, ?, 'default', 'small', 'm', ?, 1, 'done',"
                " 10, 10, 0.5, '2026-03-01')",
                (number + 1, own, bytes([number]) * 16),
            )
            answer = "something else" if own == window + 1 else f"about {MARK}"
            conn.execute(
                "INSERT INTO model_answers (key, call_id, answer) VALUES (?, ?, ?)",
                (bytes([number]) * 16, number + 1, answer),
            )
        conn.execute("INSERT INTO search_cache VALUES ('answer', x'00', ?, 0, 1)", (MARK.encode(),))
        conn.execute("UPDATE search_cache_use SET entries = 1")
    gone(db, session="s1")
    assert holds(db) == []
    assert query(db, "SELECT answer FROM model_answers") == [("something else",)]
    assert query(db, "SELECT count(*), sum(cost_usd) FROM model_calls") == [(3, 1.5)]  # what was spent stays
    assert query(db, "SELECT count(*) FROM model_calls WHERE key IN (?, ?)", bytes(16), b"\1" * 16) == [(0,)]
    assert query(db, "SELECT sum(entries) FROM search_cache_use") == [(0,)]


def test_ids_that_are_given_again_are_new_to_dedup(db):
    horizon = query(db, "SELECT value FROM meta WHERE key = 'recall_horizon'")
    gone(db, agent="bob")
    assert query(db, "SELECT value FROM meta WHERE key = 'recall_horizon'") < horizon
    assert query(db, "SELECT max(id) FROM memories") == query(db, "SELECT value FROM meta WHERE key = 'recall_horizon'")
    assert query(
        db,
        "SELECT count(*) FROM batches AS b, json_each(b.source_message_ids) AS m"
        " WHERE m.value NOT IN (SELECT id FROM messages)",
    ) == [(0,)]


def test_windows_and_what_waits_for_one_lose_their_messages(tmp_path):
    db = tmp_path / "m.db"
    # What has no time is as young as the run that read it: it waits for the profile's timeout.
    lines = (flat(f"{SECRET if n == 2 else OTHER} {n}", id=f"m{n}", session_id="s1") for n in range(1, 6))
    path = write(tmp_path / "a.jsonl", *lines)
    run(db, path, profile="conservative", extract=("rules", "verbatim"))
    assert query(db, "SELECT count(*) FROM pending_messages") == [(5,)]
    gone(db, text=MARK)
    assert query(db, "SELECT count(*) FROM pending_messages") == [(4,)]
    run(db, path, profile="conservative", extract=("rules", "verbatim"), flush=True)
    gone(db, text=f"{OTHER} 3")
    assert query(db, "SELECT messages_kept, json_array_length(source_message_ids) FROM windows") == [(3, 3)]
    assert_sound(db)


def test_a_dry_run_says_the_same_and_touches_nothing(db):
    before = db.read_bytes()
    planned = gone(db, session="s1", dry_run=True)
    assert db.read_bytes() == before
    assert {content for _, content in planned.memories} == {SECRET, SHARED, MORE}
    assert planned.sessions == [("default", "s1")]
    assert planned.files == [str(db.parent / "a.jsonl")]
    done = gone(db, session="s1")
    assert (done.rows, done.tombstones, done.messages) == (planned.rows, planned.tombstones, planned.messages)
    report = json.loads(query(db, "SELECT report FROM runs WHERE command = 'forget'")[0][0])
    assert report["rows"] == done.rows


def test_a_text_goes_out_of_the_path_of_a_transcript_that_stays(tmp_path):
    db = tmp_path / "m.db"
    path = write(tmp_path / MARK / f"{MARK}.jsonl", said(OTHER, 1), said(SECRET, 2))
    run(db, path)
    assert gone(db, text=MARK).left == []
    assert query(db, "SELECT path FROM files") == [(f"{tmp_path}/[forgotten]/[forgotten].jsonl",)]
    assert (holds(db), texts(db)) == ([], [OTHER])
    run(db, path)  # it is still the name of the file
    assert query(db, "SELECT path FROM files") == [(str(path),)]
    assert texts(db) == [OTHER]
    assert_sound(db)


def test_a_text_is_found_where_it_stands_as_json(tmp_path):
    db = tmp_path / "m.db"
    add_rule(db, "tram to", keywords=["Zoë", 'the "boss"'])
    run(db, write(tmp_path / "a.jsonl", said(OTHER, 1), said("I always take the tram to work.", 2)))
    done = gone(db, text="Zoë")
    assert len(done.memories) == 1
    assert done.left == [("rules", "keywords", 1)]
    assert_sound(db)


@pytest.mark.parametrize(
    "selection", [{}, {"session": "nobody"}, {"memory": 99}, {"text": "never said"}, {"source": "/no/such.jsonl"}]
)
def test_nothing_to_forget_is_an_error_and_writes_nothing(db, selection):
    before = query(db, "SELECT count(*) FROM runs")
    with pytest.raises(UsageError):
        gone(db, **selection)
    assert query(db, "SELECT count(*) FROM runs") == before


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(home, tmp_path):
    home.run("ingest", write(tmp_path / "a.jsonl", said(SECRET, 1), said(SHARED, 2), said(MORE, 3)))
    home.run("ingest", write(tmp_path / "b.jsonl", said(SHARED, 4, "s2"), said(OTHER, 5, "s2")))
    return home


def test_without_a_terminal_it_wants_yes(filled):
    done = filled.run("forget", "--session", "s1")
    assert done.code == 2
    assert "--yes" in done.err
    assert holds(filled.db)


@pytest.mark.parametrize(("answer", "stays"), [(b"n\n", True), (b"y\n", False)])
def test_on_a_terminal_it_shows_what_goes_and_asks(filled, answer, stays):
    ours, theirs = os.openpty()
    os.write(ours, answer)
    with filled.start("forget", "--session", "s1", stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 1 << 16):
                written += chunk
        except OSError:  # the end of a terminal
            pass
        assert process.wait(60) == 0
    os.close(ours)
    assert "Forget all of this for good?" in written.decode()
    assert "blue door" in written.decode()
    assert "Dry run" not in written.decode(), "nobody asked for one"
    assert ("Nothing was forgotten." in written.decode()) == stays
    assert bool(holds(filled.db)) == stays


def test_while_somebody_reads_the_file_cannot_be_wiped_and_the_next_call_does_it(filled):
    with closing(sqlite3.connect(filled.db, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        done = filled.run("forget", "--session", "s1", "--yes")
        assert done.code == 5, done.err
        assert "memcli forget --yes" in done.err
    assert filled.run("forget", "--yes").code == 0
    assert holds(filled.db) == []
    assert_sound(filled.db)
    assert filled.run("forget", "--yes").code == 2  # nothing is named, and nothing is left to be done


# --- crashes ---------------------------------------------------------------------------------------------------------

COMMAND = ("forget", "--session", "s1", "--yes")


@pytest.fixture(scope="module")
def undisturbed(nursery, tmp_path_factory):
    """A run that nothing disturbed: its database before and after, and the statements that it makes."""
    folder = tmp_path_factory.mktemp("forget")
    home = Home(folder / "whole", folder / "data")
    home.folder.joinpath("a.jsonl").write_bytes(b"")
    write(home.folder / "a.jsonl", said(SECRET, 1), said(SHARED, 2), said(MORE, 3))
    write(home.folder / "b.jsonl", said(SHARED, 4, "s2"), said(OTHER, 5, "s2"))
    nursery.run(home, "ingest", home.folder / "a.jsonl")
    nursery.run(home, "ingest", home.folder / "b.jsonl")
    home.before = home.db.read_bytes()
    assert nursery.run(home, *COMMAND, trace=True).code == 0
    home.passed = json.loads((home.folder / "trace").read_text())
    return home


def _state(db):
    tables = (
        "messages",
        "memories",
        "provenance",
        "merges",
        "sessions",
        "session_tags",
        "files",
        "windows",
        "segments",
    )
    marks = query(db, "SELECT count(*) FROM forgotten")
    return [query(db, f"SELECT count(*) FROM {table}") for table in tables], marks, sorted(memories(db))


def _killed_and_finished(nursery, tmp_path, undisturbed, moment):
    home = Home(tmp_path, undisturbed.data)
    home.db.write_bytes(undisturbed.before)
    killed = nursery.run(home, *COMMAND, moment=moment)
    assert killed.code in {-signal.SIGKILL, -signal.SIGXFSZ}, (moment, killed)
    again = nursery.run(home, *COMMAND)
    assert again.code in {0, 2}, again.err
    if again.code == 2:  # it was all done but for the good-bye
        assert "nothing like that" in again.err
    assert holds(home.db) == [], moment
    assert _state(home.db) == _state(undisturbed.db), moment
    assert_sound(home.db)


def _moments(passed, count):
    names = passed["before"]
    vital = [number for number, sql in enumerate(names, 1) if sql in {"COMMIT", "VACUUM"} or "wal_checkpoint" in sql]
    spread = [1 + share * (len(names) - 1) // (count - 1) for share in range(count)]
    return sorted({*vital, *spread})


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_around_statements_it_has_done_nothing_or_is_finished_by_the_next_call(
    nursery, tmp_path, undisturbed, side
):
    moments = _moments(undisturbed.passed, 4)
    assert "VACUUM" in undisturbed.passed["before"]
    for number in moments:
        _killed_and_finished(nursery, tmp_path / str(number), undisturbed, f"KILL:{side}:{number}")


@pytest.mark.torture
@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_around_every_statement(nursery, tmp_path, undisturbed, side):
    for number in range(1, len(undisturbed.passed["before"]) + 1):
        _killed_and_finished(nursery, tmp_path / str(number), undisturbed, f"KILL:{side}:{number}")


def test_where_there_is_no_database_nobody_is_asked_to_be_sure(home):
    done = home.run("forget", "1", "--db", home.folder / "none.db")
    assert (done.code, done.out) == (4, "")
    assert "memcli ingest PATH" in done.err
    assert not (home.folder / "none.db").exists()

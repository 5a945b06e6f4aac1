"""`memcli dedup` as its user meets it: reports, the terminal, refusals, locks, kills and interrupts."""

import json
import os
import pty
import re
import signal
import sqlite3
from contextlib import closing

import pytest
from support_cli import UNSAFE, Home, Nursery, finish, holds_lock, some_chat, wait_for, write_jsonl
from support_dedup import content
from support_ingest import assert_sound, logical

WINDOW = "The deploy window is closed for 5% of users."
NOT = "The deploy window is not closed for 5% of users."
SPELLED = "The deploy window is closed for five percent of users."
CHAT = [WINDOW, SPELLED, NOT, "We merged PR #260.", "We merged PR #480.", WINDOW]
STRICT = {"MEMCLI_NEAR_THRESHOLD": "1"}
SMALL = {"MEMCLI_BATCH_SIZE": "16"}


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def home(tmp_path, data, nursery):
    """A database with duplicates that its ingest did not look for."""
    home = Home(tmp_path / "home", data, nursery)
    lines = [{"role": "user", "content": text, "session_id": f"s{n}"} for n, text in enumerate(CHAT)]
    chat = write_jsonl(tmp_path / "chat.jsonl", lines)
    assert home.run("ingest", chat, "--extract", "verbatim", env=STRICT).code == 0
    return home


def runs(home):
    return home.rows("SELECT command, status FROM runs")


# --- reports ---------------------------------------------------------------------------------------------------------


def test_the_report_in_words_and_as_json_says_the_same(home):
    tried = home.run("dedup", "--dry-run", "--json").json
    shown = home.run("dedup")
    assert (tried["dry_run"], tried["near"], tried["examined"]) == (True, 1, 6)
    assert "1 near" in shown.out
    assert f"{tried['compared']:,}" in shown.out
    assert "memcli dedup --undo 2" in shown.out
    again = home.run("dedup", "--json").json
    assert (again["run_id"], again["compared"]) == (None, 0)


def test_a_dry_run_touches_nothing(home):
    before = home.db.read_bytes()
    for command in (["dedup"], ["dedup", "--rethreshold", "0.5"], ["dedup", "--across-types"]):
        assert home.run(*command, "--dry-run").code == 0
    assert home.db.read_bytes() == before
    assert home.run("dedup").code == 0
    for command in (["--accept", "1"], ["--reject", "1"], ["--undo", "2"], ["--undo-merge", "1"]):
        done = home.run("dedup", *command, "--dry-run")
        assert (done.code, "was not touched" in done.out) == (0, True), done
    assert runs(home) == [("ingest", "done"), ("dedup", "done")]


def test_explain_review_and_undo_are_whole_documents_as_json(home):
    assert home.run("dedup", "--threshold", "0.8").code == 0
    explained = home.run("dedup", "--explain", "1", "--json").json
    assert [each["memory_id"] for each in explained["merged"]] == [2, 6]
    assert explained["not_merged"][0]["reasons"]["negation"]
    pairs = home.run("dedup", "--review", "--json").json
    assert pairs[0]["cosine"] >= pairs[-1]["cosine"]
    assert {"negation", "identifiers"} <= {gate for pair in pairs for gate in pair["differences"]}
    decided = home.run("dedup", "--reject", pairs[0]["review_id"], "--json").json
    assert decided["pair"]["status"] == "rejected"
    undone = home.run("dedup", "--undo", "2", "--json").json
    assert (undone["undone"], undone["run_id"]) == (1, 4)


def test_a_list_that_is_not_read_on_a_terminal_is_plain(home):
    assert home.run("dedup", "--threshold", "0.8").code == 0
    done = home.run("dedup", "--review")
    assert done.code == 0
    assert not UNSAFE.search(done.out)
    assert NOT in done.out
    assert "negation:" in done.out
    assert "--accept ID" in done.out


def test_nothing_in_a_memory_acts_on_the_terminal(tmp_path, data):
    home = Home(tmp_path / "home", data)
    evil = "[red]The window\x1b[31m is on\u202e Tuesday\x07 5.[/red]"
    lines = [
        {"role": "user", "content": text, "session_id": "s"} for text in (evil, evil.replace("5", "6"), f"- {evil}")
    ]
    assert home.run("ingest", write_jsonl(tmp_path / "c.jsonl", lines), "--extract", "verbatim").code == 0
    for command in (["--review"], ["--explain", "1"], ["--threshold", "0.5"], ["--undo", "1"]):
        done = home.run("dedup", *command)
        assert not UNSAFE.search(done.out + done.err), command
        assert done.code in {0, 2}


# --- deciding on a terminal ------------------------------------------------------------------------------------------


def typed(home, keys, *args):
    """Run memcli on a terminal on which the user types `keys`; what it wrote there."""
    ours, theirs = pty.openpty()
    os.write(ours, keys.encode())
    with home.start("dedup", "--review", *args, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                chunk = os.read(ours, 1 << 16)
            except OSError:
                break
            written += chunk
            if not chunk:
                break
    os.close(ours)
    assert process.returncode == 0, written
    return re.sub(r"\x1b\[[0-9;]*m", "", written.decode())


def test_pairs_are_decided_one_by_one_on_a_terminal(home):
    assert home.run("dedup", "--threshold", "0.8").code == 0
    statuses = "SELECT status FROM review_pairs ORDER BY cosine DESC, id"
    (first, *others) = home.rows(statuses)
    assert first == ("open",)
    shown = typed(home, "s\nx\nq\n")
    assert NOT in shown
    assert home.rows(statuses) == [first, *others]
    typed(home, "a\nr\n" + "s\n" * 5)
    assert [status for (status,) in home.rows(statuses)][:2] == ["accepted", "rejected"]
    assert [command for command, _ in runs(home)][-2:] == ["dedup accept", "dedup reject"]
    assert home.rows("SELECT count(*) FROM merges WHERE gates_passed = '[\"accepted by review\"]'") == [(1,)]


def test_what_differs_is_marked_on_a_terminal(home):
    assert home.run("dedup", "--threshold", "0.8").code == 0
    shown = home.on_terminal("dedup", "--explain", "1").out
    assert "\x1b[1;4m not" in shown


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--undo", "99"], "there is no run 99"),
        (["--undo-merge", "99"], "there is no merge 99"),
        (["--explain", "99"], "there is no memory 99"),
        (["--accept", "99"], "there is no review pair 99"),
        (["--reject", "99"], "there is no review pair 99"),
        (["--reject", "9" * 30], "no id has as many digits"),
        (["--undo", "1"], "run 1 has nothing to undo"),
        (["--agent", "zoe"], "no such agent: zoe"),
        (["--review", "--agent", "zoe"], "no such agent: zoe"),
        (["--undo", "1", "--explain", "1"], "does not go with"),
        (["--review", "--threshold", "0.5"], "does not go with"),
        (["--threshold", "0.5", "--rethreshold", "0.5"], "does not go with"),
        (["--agent", "default", "--across-agents"], "does not go with"),
        (["--agent", "default", "--explain", "1"], "does not go with"),
        (["--threshold", "2"], "--threshold"),
        (["--explain", "x"], "x"),
        (["--undo", "-1"], "-1"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(tmp_path, data, nursery, args, said):
    home = Home(tmp_path / "home", data, nursery)
    lines = [{"role": "user", "content": text, "session_id": str(n)} for n, text in enumerate(CHAT[:2])]
    chat = write_jsonl(tmp_path / "chat.jsonl", lines)
    assert home.run("ingest", chat, "--extract", "verbatim", env=STRICT).code == 0
    done = home.run("dedup", *args)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "Traceback" not in done.err
    assert runs(home) == [("ingest", "done")]


@pytest.mark.parametrize(
    "args", [[], ["--review"], ["--explain", "1"], ["--undo", "1"], ["--accept", "1"], ["--dry-run"]]
)
def test_without_a_database_there_is_nothing_to_do(tmp_path, data, nursery, args):
    home = Home(tmp_path / "home", data, nursery)
    done = home.run("dedup", *args)
    assert (done.code, done.out) == (4, "")
    assert not home.db.exists()


@pytest.mark.parametrize("args", [[], ["--undo", "1"], ["--accept", "1"], ["--reject", "1"], ["--undo-merge", "1"]])
def test_while_another_run_writes_it_is_locked(home, args):
    with home.start("ingest", "-") as holder:
        wait_for(holds_lock(home, holder), holder)
        done = home.run("dedup", *args)
        reading = home.run("dedup", "--explain", "1")
        assert finish(holder, b"").code == 0
    assert (done.code, reading.code) == (5, 0)
    assert f"process {holder.pid}" in done.err


def test_a_dedup_waits_for_an_ingest(home):
    with home.start("ingest", "-") as holder:
        wait_for(holds_lock(home, holder), holder)
        with home.start("dedup", "--wait", "60", "--json") as waiting:
            assert finish(holder, b"").code == 0
            done = finish(waiting)
    assert (done.code, done.json["near"]) == (0, 1)


# --- killed and interrupted ------------------------------------------------------------------------------------------

COMMANDS = {
    "dedup": [("dedup", "--threshold", "0.8")],
    "undo": [("dedup", "--threshold", "0.8"), ("dedup", "--undo", "2")],
    "undo ingest": [("dedup", "--undo", "1")],
}


@pytest.fixture(scope="module")
def large(tmp_path_factory, data, nursery):
    """A database with duplicates of all kinds."""
    home = Home(tmp_path_factory.mktemp("large"), data, nursery)
    chat = write_jsonl(home.folder / "chat.jsonl", some_chat(120))
    assert home.run("ingest", chat, "--flush", env=STRICT).code == 0
    return home


@pytest.fixture(scope="module")
def whole(large, nursery, tmp_path_factory):
    """By command: what it leaves when nothing disturbs it, and the moments that it passes."""

    def undisturbed(commands):
        home = copied(large, tmp_path_factory.mktemp("whole"), nursery)
        for command in commands:
            done = nursery.run(home, *command, env=SMALL, trace=True)
            assert done.code == 0, done.err
        home.passed = json.loads((home.folder / "trace").read_text())
        return home

    return {name: undisturbed(commands) for name, commands in COMMANDS.items()}


def copied(source, folder, nursery):
    home = Home(folder, source.data, nursery)
    with closing(sqlite3.connect(source.db)) as conn, closing(sqlite3.connect(home.db)) as copy:
        conn.backup(copy)
    return home


def moments(passed):
    """Before and after every statement would be too many: some of each, and the commits."""
    count = len(passed["before"])
    numbers = sorted({1 + share * (count - 1) // 3 for share in range(4)})
    commits = [number for number, sql in enumerate(passed["before"], 1) if sql == "COMMIT"]
    chosen = sorted({*numbers, commits[len(commits) // 2], commits[-1]})
    yield from (f"KILL:{side}:{number}" for side in ("before", "after") for number in chosen)
    yield f"KILL:commit:{1 + len(commits) // 2}:6000"


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_anywhere_and_run_again_it_ends_as_if_nothing_had_been(nursery, large, whole, tmp_path, name):
    *before, last = COMMANDS[name]
    prepared = copied(large, tmp_path / "prepared", nursery)
    for command in before:
        assert nursery.run(prepared, *command, env=SMALL).code == 0
    expected = content(whole[name].db)
    for number, moment in enumerate(moments(whole[name].passed)):
        home = copied(prepared, tmp_path / str(number), nursery)
        killed = nursery.run(home, *last, env=SMALL, moment=moment)
        assert killed.code in {-signal.SIGKILL, -signal.SIGXFSZ}, (moment, killed)
        assert_sound(home.db)
        again = nursery.run(home, *last, env=SMALL)
        # An undo is one transaction: killed behind its commit it is done, and says so.
        assert again.code == 0 or (name != "dedup" and "undone already" in again.err), (moment, again)
        found = content(home.db)
        for subject in expected:
            assert found[subject] == expected[subject], f"{subject} differ after {moment}"
        assert_sound(home.db)
        if name == "dedup":
            assert home.rows("SELECT count(*) FROM runs WHERE status = 'running'") == [(0,)]


def test_a_killed_dedup_goes_on_where_it_stopped(nursery, large, whole, tmp_path):
    home = copied(large, tmp_path / "home", nursery)
    passed = whole["dedup"].passed
    commits = [number for number, sql in enumerate(passed["before"], 1) if sql == "COMMIT"]
    assert len(commits) > 4
    assert nursery.run(home, "dedup", "--threshold", "0.8", env=SMALL, moment=f"KILL:after:{commits[3]}").code < 0
    again = nursery.run(home, "dedup", "--threshold", "0.8", "--json", env=SMALL).json
    done = home.rows("SELECT count(*) FROM memories")[0][0] - again["examined"]
    assert done == 4 * 16


def test_interrupted_it_keeps_its_progress(nursery, large, whole, tmp_path):
    home = copied(large, tmp_path / "home", nursery)
    names = whole["dedup"].passed["stage"]
    middle = [number for number, name in enumerate(names, 1) if name == "stage judge"][2]
    done = nursery.run(home, "dedup", "--threshold", "0.8", env=SMALL, moment=f"INT:stage:{middle}")
    assert done.code == 130
    assert "run it again to go on" in done.err
    assert home.rows("SELECT count(*) FROM dedup_watermarks") != [(0,)]
    assert nursery.run(home, "dedup", "--threshold", "0.8", env=SMALL).code == 0
    expected, found = content(whole["dedup"].db), content(home.db)
    assert all(found[subject] == expected[subject] for subject in expected)


def test_undoing_gives_back_a_database_to_the_last_row(nursery, large, tmp_path):
    home = copied(large, tmp_path / "home", nursery)
    before = logical(home.db)
    assert nursery.run(home, "dedup", "--threshold", "0.8", env=SMALL).code == 0
    assert logical(home.db)["links"] != before["links"]
    assert nursery.run(home, "dedup", "--undo", "2").code == 0
    after = logical(home.db)
    assert [name for name in before if after[name] != before[name]] == []


# --- calibration -----------------------------------------------------------------------------------------------------


def test_a_calibration_is_kept_beside_the_model_and_decides_from_then_on(tmp_path):
    home = Home(tmp_path / "home")
    near = {"id": "1-a", "a": WINDOW, "b": SPELLED, "label": "duplicate", "kind": "figures"}
    apart = {"id": "1-b", "a": WINDOW, "b": NOT, "label": "distinct", "kind": "negation"}
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [near, apart])
    tried = home.run("dedup", "--calibrate", pairs, "--dry-run", "--json").json
    assert tried["path"] is None
    assert (tried["precision"], tried["recall"], tried["pairs"]) == (1.0, 1.0, 2)
    assert not home.data.exists()
    assert home.run("dedup", "--calibrate", pairs).code == 0
    lines = [{"role": "user", "content": text, "session_id": f"s{n}"} for n, text in enumerate((WINDOW, SPELLED))]
    assert home.run("ingest", write_jsonl(tmp_path / "chat.jsonl", lines), "--extract", "verbatim").code == 0
    assert home.rows("SELECT kind, threshold FROM merge_log") == [("near", tried["threshold"])]
    assert home.run("dedup", "--json").json["threshold"] == tried["threshold"] != tried["before"]


@pytest.mark.parametrize("text", ["", "no json\n", '{"id": "1"}\n', "[]\n"])
def test_pairs_that_cannot_be_read_are_refused(home, tmp_path, text):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(text, encoding="utf-8")
    done = home.run("dedup", "--calibrate", pairs)
    assert (done.code, done.out) == (2, "")
    assert str(pairs) in done.err

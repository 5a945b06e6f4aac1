"""Several processes on one database: writers take turns, readers see whole batches, no dead process is in the way."""

import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from support_cli import FIXTURES, Home, Nursery, finish, holds_lock, some_chat, wait_for, write_jsonl
from support_crowd import crowd, run
from support_ingest import assert_sound

from memcli.store.db import Store, copy_database

HOST = socket.gethostname()
# No Linux gives a process so high a number.
OLD_LOCK = f"memcli ingest, process 4194305, on {HOST}, since 2026-01-01T00:00:00.000Z\n"


@pytest.fixture
def home(tmp_path, data):
    return Home(tmp_path / "home", data)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four folders; neighbours share a transcript, byte for byte."""
    top = tmp_path_factory.mktemp("input")
    for number in range(4):
        for name, count in (("own", 60), ("shared", 80)):
            # Each with sessions of its own: of two messages with one identity, the first that comes is kept.
            records = ({**message, "session_id": f"{name}-{number}"} for message in some_chat(count, seed=number))
            write_jsonl(top / str(number) / f"{name}-{number}.jsonl", records)
    for number in range(4):
        shared = f"shared-{number}.jsonl"
        (top / str((number + 1) % 4) / shared).write_bytes((top / str(number) / shared).read_bytes())
    return [top / str(number) for number in range(4)]


def _content(home):
    """What is remembered, whatever the order: messages, memories and merges by their content."""
    messages = home.rows(
        "SELECT s.agent_id, s.key, m.external_id, m.role, m.text, m.timestamp, m.filter_reason FROM messages AS m"
        " JOIN sessions AS s ON s.id = m.session_id"
    )
    memories = home.rows("SELECT agent_id, type, content, importance, keywords, extraction_method FROM memories")
    exact = home.rows(
        "SELECT m.content FROM merges AS g JOIN memories AS m ON m.id = g.loser_id WHERE g.kind = 'exact'"
    )
    files = home.rows("SELECT path, offset, line FROM files")
    tags = home.rows("SELECT s.key, t.tag FROM session_tags AS t JOIN sessions AS s ON s.id = t.session_id")
    mentions = home.rows("SELECT sum(mentions) FROM active_memories")
    return [Counter(rows) for rows in (messages, memories, exact, files, tags, mentions)]


@pytest.mark.parametrize("writers", [2, 4])
def test_ingests_of_overlapping_folders_at_once_do_what_one_ingest_does(home, tmp_path, data, folders, writers):
    used = folders[:writers]
    alone = Home(tmp_path / "alone", data)
    assert alone.run("ingest", FIXTURES, *used, "--batch-size", "10").code == 0
    pairs = [(used[number], used[(number + 1) % writers], FIXTURES) for number in range(writers)]
    started = [home.start("ingest", *pair, "--batch-size", "10", "--wait", "60", "--json") for pair in pairs]
    ended = [finish(process) for process in started]
    assert [done.code for done in ended] == [0] * writers, ended
    assert sum(done.json["messages"]["new"] for done in ended) == alone.rows("SELECT count(*) FROM messages")[0][0]
    assert _content(home) == _content(alone)
    assert_sound(home.db)


def test_without_wait_a_second_ingest_says_which_process_it_would_have_to_wait_for(home, folders):
    with home.start("ingest", "-") as holder:
        wait_for(holds_lock(home, holder), holder)
        second = home.run("ingest", folders[0])
        waited = home.run("ingest", folders[0], "--wait", "0.2")
        assert finish(holder, b"").code == 0
    for done in (second, waited):
        assert done.code == 5
        holder_named = rf"memcli ingest, process {holder.pid}, on {re.escape(HOST)}, since \d{{4}}-\d\d-\d\dT[\d:.]+Z"
        assert re.search(holder_named, " ".join(done.err.split())), done.err
        assert "--wait" in done.err
        assert done.out == ""
    assert home.run("ingest", folders[0]).code == 0


def test_one_file_has_one_lock_by_whatever_link_it_is_named(home, folders, tmp_path):
    assert home.run("ingest", "-", stdin="").code == 0
    link = tmp_path / "link.db"
    link.symlink_to(home.db)
    with home.start("ingest", "-") as holder:
        wait_for(holds_lock(home, holder), holder)
        done = home.run("ingest", folders[0], "--db", link)
        assert finish(holder, b"").code == 0
    assert done.code == 5
    assert f"process {holder.pid}" in done.err


def test_a_run_that_makes_no_database_leaves_no_lock_file(home, folders):
    for model in ("openai:", "none-such"):
        assert home.run("ingest", folders[0], "--model", model).code == 2
        assert not list(home.folder.glob("memory.db*"))


def test_a_dry_run_needs_no_lock(home, folders):
    assert home.run("ingest", folders[0]).code == 0
    with home.start("ingest", "-") as holder:
        wait_for(holds_lock(home, holder), holder)
        done = home.run("ingest", folders[1], "--dry-run", "--json")
        assert finish(holder, b"").code == 0
    assert done.code == 0
    assert done.json["messages"]["new"] > 0


@pytest.mark.parametrize("text", [OLD_LOCK, "", "\0\xff not a process"])
def test_what_a_dead_run_left_in_the_lock_file_never_blocks(nursery, home, folders, text):
    lock = home.db.with_name(home.db.name + ".lock")
    lock.write_bytes(text.encode("latin-1"))
    assert nursery.run(home, "ingest", folders[0]).code == 0
    assert lock.read_text() == "", "nobody holds it, so nobody should be named"


@pytest.mark.parametrize("left", [OLD_LOCK, f"memcli ingest, process {os.getpid()}, on {HOST}, since 2026-01-01\n"])
def test_who_is_named_holds_the_lock_now_whatever_stood_there_before(home, left):
    """A process that is gone is not named; one that was given its number since may be, but never blocks."""
    home.folder.mkdir(exist_ok=True)
    lock = home.db.with_name(home.db.name + ".lock")
    lock.write_text(left)
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = home.run("ingest", "-")
    assert done.code == 5
    assert "4194305" not in done.err
    assert home.run("ingest", "-", stdin="").code == 0


def test_a_killed_holder_does_not_block(home, folders):
    with home.start("ingest", "-") as holder:
        wait_for(holds_lock(home, holder), holder)
        assert home.run("ingest", folders[0]).code == 5
        holder.kill()
        holder.wait()
        assert home.run("ingest", folders[0]).code == 0


def test_a_stopped_holder_blocks_only_until_it_goes_on(home, folders):
    with home.start("ingest", folders[0], "--batch-size", "1") as holder:
        wait_for(holds_lock(home, holder), holder)
        holder.send_signal(signal.SIGSTOP)
        with home.start("ingest", folders[0], "--wait", "60", "--json") as waiting:
            holder.send_signal(signal.SIGCONT)
            assert finish(holder).code == 0
            done = finish(waiting)
    assert done.code == 0
    assert done.json["lines"]["read"] == 0


def test_another_program_that_writes_to_the_database_is_a_lock_and_no_bug(home, folders):
    assert home.run("ingest", folders[0]).code == 0
    before = _content(home)
    with closing(sqlite3.connect(home.db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = home.run("ingest", folders[1])
        other.execute("ROLLBACK")
    assert done.code == 5
    assert str(home.db) in done.err
    assert "bug" not in done.err
    assert _content(home) == before
    assert home.run("ingest", folders[1]).code == 0


_WHOLE_BATCHES = {
    "every memory has its provenance": "SELECT (SELECT count(*) FROM memories) = "
    "(SELECT count(DISTINCT memory_id) FROM provenance)",
    "every embedded memory is in a segment": "SELECT (SELECT count(*) FROM memories WHERE embedded) = "
    "(SELECT coalesce(sum(count), 0) FROM segments)",
    "every window has its tiers": "SELECT (SELECT 2 * count(*) FROM windows) = (SELECT count(*) FROM window_tiers)",
    "every batch has its messages": "SELECT (SELECT count(*) FROM messages) = "
    "(SELECT coalesce(sum(messages_in - messages_duplicate), 0) FROM batches)",
    "the cursor stands where the last batch ended": "SELECT (SELECT coalesce(sum(line), 0) FROM files) = "
    "(SELECT coalesce(sum(lines_read), 0) FROM batches)",
    "what is not in a window waits": "SELECT (SELECT coalesce(sum(messages_kept), 0) FROM batches) = "
    "(SELECT coalesce(sum(messages_kept), 0) FROM windows) + (SELECT count(*) FROM pending_messages)",
    "the generation counts the batches": "SELECT (SELECT value FROM meta WHERE key = 'generation') >= "
    "(SELECT count(*) FROM batches)",
}


def _broken(conn):
    """Which of the statements about whole batches do not hold in one snapshot."""
    conn.execute("BEGIN")
    try:
        return [claim for claim, sql in _WHOLE_BATCHES.items() if conn.execute(sql).fetchone() != (1,)]
    finally:
        conn.execute("ROLLBACK")


def test_readers_during_an_ingest_never_fail_and_never_see_half_a_batch(nursery, home, tmp_path):
    chat = write_jsonl(tmp_path / "chat.jsonl", some_chat(2500))
    assert home.run("ingest", "-", stdin="").code == 0
    snapshots, searches, problems = Counter(), [], []
    ended = threading.Event()

    def watch():
        with closing(sqlite3.connect(f"{home.db.as_uri()}?mode=ro", uri=True, isolation_level=None)) as conn:
            while not ended.is_set():
                problems.extend(_broken(conn))
                snapshots[conn.execute("SELECT count(*) FROM batches").fetchone()[0]] += 1

    watcher = threading.Thread(target=watch)
    with home.start("ingest", chat, "--batch-size", "5", "--json") as process:
        watcher.start()
        try:
            while process.poll() is None:
                searches.append(
                    nursery.run(home, "search", "the nightly build", "the rate limit", "-k", "50", "--json")
                )
        finally:
            ended.set()
            watcher.join()
        done = finish(process)
    assert done.code == 0
    assert not problems, Counter(problems)
    assert len(snapshots) > 20
    assert [found.code for found in searches] == [0] * len(searches), searches
    hits = [hit for found in searches for answer in found.json for hit in answer["hits"]]
    assert hits
    assert all(hit["sources"] for hit in hits)
    assert any(answer["hits"] for found in searches[:-1] for answer in found.json)


_WRITERS = {
    "ingest": ("ingest", "more.jsonl"),
    "dedup": ("dedup", "--rethreshold", "0.8"),
    "reindex": ("reindex",),
    "move": ("reindex", "--compress", "int8"),
    "import": ("import", "lines.jsonl"),
}


@pytest.fixture(scope="module")
def beside():
    """Another nursery: what it forks runs while the first one's process stands still."""
    with Nursery() as running:
        yield running


@pytest.mark.parametrize("writer", _WRITERS)
def test_a_writer_that_stands_still_in_the_middle_of_a_commit_keeps_no_reader_waiting(
    nursery, beside, home, data, tmp_path, writer
):
    """What a reader could wait for at most: the writer is stopped for as long as the reader likes."""
    write_jsonl(home.folder / "more.jsonl", some_chat(40, seed=8))
    write_jsonl(home.folder / "lines.jsonl", ({"id": each, "content": f"Ticket {each} is open."} for each in range(9)))
    for part in range(3):
        chat = write_jsonl(home.folder / f"chat-{part}.jsonl", some_chat(60, seed=part))
        assert nursery.run(home, "ingest", chat).code == 0
    rehearsal = Home(tmp_path / "rehearsal", data)
    shutil.copytree(home.folder, rehearsal.folder, dirs_exist_ok=True)
    assert nursery.run(rehearsal, *_WRITERS[writer], trace=True).code == 0
    passed = json.loads((rehearsal.folder / "trace").read_text())["before"]
    begins = [place for place, sql in enumerate(passed) if sql == "BEGIN IMMEDIATE"]
    begin, commit = max(((each, passed.index("COMMIT", each)) for each in begins), key=lambda each: each[1] - each[0])
    assert commit - begin > 2, "the writer writes nothing"
    asked = ("search", "the nightly build", "the rate limit", "--json", "--no-cache")
    reader = Home(tmp_path / "reader", data)
    reader.env["MEMCLI_DB"] = str(home.db)
    hits = _hits(beside.run(reader, *asked))
    lock = home.db.with_name(home.db.name + ".lock")
    ended = []
    thread = threading.Thread(
        target=lambda: ended.append(nursery.run(home, *_WRITERS[writer], moment=f"STOP:after:{commit}"))
    )
    thread.start()
    try:
        wait_for(lambda: (found := re.search(r"process (\d+),", lock.read_text())) and _is_stopped(int(found[1])))
        pid = int(re.search(r"process (\d+),", lock.read_text())[1])
        while_stopped = [beside.run(reader, *args) for args in (asked, ("stats", "--json"), ("reindex", "--check"))]
        assert _is_stopped(pid)
        os.kill(pid, signal.SIGCONT)
    finally:
        thread.join()
    assert [done.code for done in while_stopped] == [0, 0, 0], while_stopped
    assert _hits(while_stopped[0]) == hits
    assert ended[0].code == 0, ended


def _hits(done):
    assert done.code == 0, done.err
    return [[(hit["memory_id"], hit["score"]) for hit in answer["hits"]] for answer in done.json]


def _is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_searches_while_the_database_is_made_find_it_or_find_none(nursery, home, folders):
    codes = Counter()
    with home.start("ingest", folders[0], "--batch-size", "1") as process:
        while process.poll() is None:
            codes[nursery.run(home, "search", "tea").code] += 1
        assert finish(process).code == 0
    assert set(codes) <= {0, 4}, codes
    assert codes[0]


def test_the_lock_file_and_the_database_are_for_their_owner_only(nursery, home, folders):
    assert nursery.run(home, "ingest", folders[0]).code == 0
    for path in (home.db, home.db.with_name(home.db.name + ".lock")):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.fixture
def joined(home, tmp_path, nursery):
    """What a crowd does to a database in so many seconds: who was in it, and what is there in the end."""

    def join(seconds, meanwhile=lambda: None):
        write_jsonl(tmp_path / "transcripts" / "first.jsonl", some_chat(200))
        assert nursery.run(home, "ingest", tmp_path / "transcripts").code == 0
        members = crowd(tmp_path)
        run(home, members, tmp_path, seconds, meanwhile)
        return members

    return join


def _assert_whole(nursery, home, tmp_path, data, members):
    """Everybody got what was due, and all is there once: as if one had ingested and imported it alone."""
    assert not [wrong for member in members for wrong in member.wrong()]
    for member in members:
        assert member.codes[0], f"{member.name} never had a turn: {member.codes}"
    sources = (("ingest", tmp_path / "transcripts"), ("import", tmp_path / "lines.jsonl"))
    alone = Home(tmp_path / "alone", data)
    for args in sources:
        assert nursery.run(home, *args).code == 0
        assert nursery.run(alone, *args).code == 0
    for args in (("reindex", "--compress", "none"), ("reindex",), ("reindex", "--check")):
        done = nursery.run(home, *args)
        assert done.code == 0, (args, done)
    for ours, expected in zip(_content(home), _content(alone), strict=True):
        assert ours == expected
    assert home.rows("SELECT count(*) FROM active_memories") != home.rows("SELECT count(*) FROM memories")
    assert_sound(home.db)


def test_eight_at_once_for_some_seconds_fail_nowhere_and_lose_or_double_nothing(joined, nursery, home, tmp_path, data):
    members = joined(2)
    assert len(members) == 8
    _assert_whole(nursery, home, tmp_path, data, members)


# --- torture ---------------------------------------------------------------------------------------------------------


@pytest.mark.torture
def test_eight_at_once_for_a_minute_and_no_reader_waits_longer_than_a_commit(joined, nursery, home, tmp_path, data):
    """The wait of a reader is told from that for a processor by the same read of a copy that nobody writes to."""
    waits = {"shared": [], "copy": []}

    def look():
        copy = tmp_path / "copy.db"
        if not copy.exists():
            copy_database(home.db, copy)
        for name, path in (("shared", home.db), ("copy", copy)):
            began = time.monotonic()
            with Store.open(path) as store, store.snapshot():
                assert store.conn.execute("SELECT count(*), max(id) FROM memories").fetchone() > (0, 0)
            waits[name].append(time.monotonic() - began)

    members = joined(60, look)
    _assert_whole(nursery, home, tmp_path, data, members)
    longest = max(seconds for member in members for seconds in member.held)
    worst = {name: max(seconds) for name, seconds in waits.items()}
    codes = {member.name: dict(member.codes) for member in members}
    found = f"longest commit {longest:.3f} s, slowest of {len(waits['shared']):,} reads {worst}"
    (tmp_path / "found.txt").write_text(f"{codes}\n{found}\n")
    assert worst["shared"] <= longest + worst["copy"], found


@pytest.mark.torture
def test_many_rounds_of_ingests_at_once_some_of_them_killed(tmp_path, data, folders):
    alone = Home(tmp_path / "alone", data)
    assert alone.run("ingest", FIXTURES, *folders, "--batch-size", "10").code == 0
    for number in range(30):
        home = Home(tmp_path / str(number), data)
        pairs = list(itertools.permutations(folders, 2))[number % 6 :: 3]
        started = [home.start("ingest", *pair, FIXTURES, "--batch-size", "10", "--wait", "60") for pair in pairs]
        started[number % len(started)].kill()
        codes = [finish(process).code for process in started]
        assert set(codes) <= {0, -signal.SIGKILL}, codes
        assert home.run("ingest", FIXTURES, *folders).code == 0
        assert _content(home) == _content(alone), json.dumps(number)

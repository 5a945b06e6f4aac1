"""Killed after an answer came and before the batch was committed: nothing is asked or paid for twice."""

import json
import signal
import threading

import pytest
from support_chat import Chat, asked_about, completion, configure, honest, statement, talk, tiers_at
from support_cli import PATIENCE, finish, wait_for, write_jsonl
from support_ingest import assert_same, assert_sound, logical, query, run

from memcli.store import calls


@pytest.fixture
def transcript(tmp_path):
    return write_jsonl(tmp_path / "chat.jsonl", talk(100))


def places(nursery, home, transcript, statement):
    """The moments before and after which a statement runs in an undisturbed run."""
    done = nursery.run(home, "ingest", transcript, "--concurrency", "1", trace=True)
    assert done.code == 0, done.err
    passed = json.loads((home.folder / "trace").read_text())
    return [number for number, sql in enumerate(passed["before"], 1) if sql.startswith(statement)]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_the_commit_of_the_batch_no_window_is_asked_again(home, nursery, transcript, tmp_path, moment):
    with Chat() as chat:
        whole = type(home)(tmp_path / "whole", home.data, nursery)
        configure(whole, chat.url, "small", "premium")
        begin = places(nursery, whole, transcript, "BEGIN IMMEDIATE")
        asked = len(chat.requests)
        assert asked == 10
        configure(home, chat.url, "small", "premium")
        # The transactions before it are the answers'; the one after it closes the run.
        batch = begin[-2]
        killed = nursery.run(home, "ingest", transcript, "--concurrency", "1", moment=f"KILL:{moment}:{batch}")
        assert killed.code == -signal.SIGKILL
        assert len(chat.requests) == 2 * asked
        assert home.rows("SELECT count(*) FROM memories") == [(0,)]
        assert home.rows("SELECT status, count(*), count(window_id) FROM model_calls GROUP BY 1") == [("done", 10, 0)]
        done = home.run("ingest", transcript, "--json", "--quiet")
        assert done.code == 0, done.err
        assert len(chat.requests) == 2 * asked
        told = done.json["models"]["small"]
        assert (told["calls"], told["answers_reused"], told["windows"]["done"]) == (0, 5, 5)
        assert done.json["cost_usd"] == 0
        # The windows carry what their answers cost, whichever run paid for them.
        assert home.rows("SELECT sum(cost_usd) FROM windows")[0][0] == pytest.approx(chat.dollars / 2)
    found, wanted = logical(home.db), logical(whole.db)
    for name in ("memories", "tiers", "provenance", "links", "windows"):
        assert found[name] == wanted[name], name
    assert_sound(home.db)


def test_a_run_that_was_killed_while_it_waited_is_charged_with_the_worst_and_pays_only_for_what_it_lacks(
    home, transcript
):
    arrived, let_go = threading.Semaphore(0), threading.Event()

    def hanging(number, body):
        if number > 3:
            arrived.release()
            let_go.wait(PATIENCE)
        return 200, {}, honest(body)

    with Chat(hanging) as chat:
        configure(home, chat.url, "small")
        process = home.start("ingest", transcript, "--concurrency", "1")
        assert arrived.acquire(timeout=PATIENCE)
        wait_for(lambda: home.rows("SELECT count(*) FROM model_calls WHERE status = 'done'") == [(3,)], process)
        process.kill()
        finish(process)
        let_go.set()
        chat.behave = lambda _number, body: (200, {}, honest(body))
        assert home.rows("SELECT status, count(*) FROM model_calls GROUP BY 1") == [("done", 3), ("reserved", 1)]
        before = len(chat.requests)
        assert home.run("ingest", transcript, "--quiet").code == 0
        assert len(chat.requests) - before == 2
        lost = home.rows("SELECT tokens_out, cost_usd > 0, error, run_id FROM model_calls WHERE status = 'lost'")
        assert lost == [(300, 1, "the run ended before the answer", 1)]
    # The calls of both runs can be told apart: the killed one is in the table of runs.
    assert home.rows("SELECT id, status FROM runs ORDER BY id") == [(1, "interrupted"), (2, "done")]
    assert home.rows("SELECT run_id, count(*) FROM model_calls GROUP BY 1") == [(1, 4), (2, 2)]
    assert_sound(home.db)


def test_interrupted_while_it_waits_it_ends_at_once_and_keeps_the_answers(home, transcript):
    arrived, let_go = threading.Semaphore(0), threading.Event()

    def hanging(number, body):
        if number > 2:
            arrived.release()
            let_go.wait(PATIENCE)
        return 200, {}, honest(body)

    with Chat(hanging) as chat:
        configure(home, chat.url, "small")
        process = home.start("ingest", transcript, "--concurrency", "1")
        assert arrived.acquire(timeout=PATIENCE)
        process.send_signal(signal.SIGINT)
        done = finish(process)
        let_go.set()
        assert done.code == 130, done.err
        assert home.rows("SELECT count(*) FROM model_answers") == [(2,)]
        chat.behave = lambda _number, body: (200, {}, honest(body))
        before = len(chat.requests)
        assert home.run("ingest", transcript, "--quiet").code == 0
        assert len(chat.requests) - before == 3
    assert_sound(home.db)


def test_answers_are_on_the_disk_when_they_are_counted(home, transcript):
    code = (
        "import sqlite3, sys\n"
        "seen = []\n"
        "class Connection(sqlite3.Connection):\n"
        "    def execute(self, sql, *args):\n"
        "        if 'INTO model_answers' in sql or 'INTO memories ' in sql:\n"
        "            seen.append((sql.split()[3 if 'REPLACE' in sql else 2],"
        " super().execute('PRAGMA synchronous').fetchone()[0]))\n"
        "        return super().execute(sql, *args)\n"
        "    executemany = lambda self, sql, rows: (self.execute('SELECT 1 -- INTO memories x')"
        " if 'INTO memories ' in sql else None, super(Connection, self).executemany(sql, rows))[1]\n"
        "real = sqlite3.connect\n"
        "sqlite3.connect = lambda *a, **k: real(*a, factory=Connection, **k)\n"
        "import atexit\n"
        "atexit.register(lambda: print(sorted({level for _, level in seen}), len(seen)))\n"
        "from memcli.cli import main\n"
        "main()\n"
    )
    with Chat() as chat:
        configure(home, chat.url, "small")
        done = home.python(code, "ingest", transcript, "--quiet", "--json")
    assert done.code == 0, done.err
    # FULL (2) for the five answers, NORMAL (1) for the batch.
    assert done.out.strip().split("\n")[-1] == "[1, 2] 6"


@pytest.mark.parametrize("name", ["book", "write_rejected_statements", "write_links", "write_told"])
def test_a_batch_that_fails_in_the_middle_leaves_nothing_but_the_answers(tmp_path, monkeypatch, name):
    told = {"role": "system", "content": "You are Bosun, the assistant of the harbour office.", "session_id": "s1"}
    file = write_jsonl(tmp_path / "chat.jsonl", [told, *talk(40)])

    def linked(_number, body):
        (first, text), (second, other), *_ = asked_about(body).items()
        memories = [
            statement(text[:30], first, number=1, relates_to=[2]),
            statement(other[:30], second, number=2),
            statement("never said", first, number=3),
        ]
        return 200, {}, completion({"memories": memories})

    with Chat(linked) as chat:
        options = {"tiers": tiers_at(chat.url, "premium"), "extract": ("verbatim", "premium")}
        run(tmp_path / "whole.db", file, **options)
        genuine = getattr(calls, name)

        def failing(*args):
            genuine(*args)
            raise RuntimeError(name)

        monkeypatch.setattr(calls, name, failing)
        with pytest.raises(RuntimeError, match=name):
            run(tmp_path / "failed.db", file, **options)
        monkeypatch.undo()
        tables = ("batches", "windows", "memories", "rejected_statements", "memory_links", "boot_lines")
        assert [query(tmp_path / "failed.db", f"SELECT count(*) FROM {table}") for table in tables] == [[(0,)]] * 6
        asked = len(chat.requests)
        report = run(tmp_path / "failed.db", file, **options)
        assert len(chat.requests) == asked == 4
    assert report.models["premium"].reused == 2
    assert_same(tmp_path / "failed.db", tmp_path / "whole.db")
    for rows in (
        "window_id, tier, reason, statements FROM rejected_statements",
        "memory_id, related_id FROM memory_links",
        "agent_id, line_hash FROM boot_lines",
        "window_id, tokens_in FROM model_calls",
    ):
        one, other = (query(tmp_path / f"{name}.db", f"SELECT {rows} ORDER BY 1, 2") for name in ("failed", "whole"))
        assert one == other != []

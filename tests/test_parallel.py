"""Workers: no result depends on how many there are or when threads take turns, and one worker is one thread a pool."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_cli import Home, finish, some_chat, wait_for, write_jsonl
from support_ingest import FIXTURES, assert_sound, environ, logical, query, quick_model, run

from memcli import render, workers
from memcli.bench.corpus import generate
from memcli.commands.search import search
from memcli.config import Config
from memcli.dedup import scan
from memcli.search import Request

OFTEN = 1e-6


@pytest.fixture
def home(tmp_path, data):
    return Home(tmp_path / "home", data)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Half of the windows close while it is read, the others at the end, in several batches each."""
    folder = tmp_path_factory.mktemp("corpus")
    messages = list(generate(1400, 11))
    for number in range(7):
        write_jsonl(folder / f"{number}.jsonl", messages[number * 200 : (number + 1) * 200])
    return folder


@pytest.fixture
def often(monkeypatch):
    """Threads take turns as often as they can, and there are many tasks for them."""
    monkeypatch.setattr(scan, "_ROWS_PER_TASK", 64)
    before = sys.getswitchinterval()
    sys.setswitchinterval(OFTEN)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(autouse=True)
def afterwards(monkeypatch):
    for name in workers._POOLS:
        monkeypatch.delenv(name, raising=False)
    yield
    workers.use(None)


@pytest.mark.usefixtures("often")
def test_a_database_says_the_same_for_any_number_of_workers(corpus, tmp_path):
    found = []
    for count in (1, 2, 4, 2):
        workers.use(count)
        db = tmp_path / f"{len(found)}.db"
        report = run(db, corpus, FIXTURES / "transcripts", batch_size=150)
        found.append((logical(db), report.embedded, report.embed_reused))
    assert_sound(db)
    assert found[0] == found[1] == found[2] == found[3]
    assert report.merged_exact
    assert report.merged_near


@pytest.mark.usefixtures("often")
def test_no_text_is_embedded_twice_although_batches_are_embedded_ahead(corpus, tmp_path, monkeypatch):
    from memcli.embed.onnx import OnnxEmbedder

    embedded, threads = [], set()
    own = OnnxEmbedder.embed

    def watched(self, texts):
        embedded.extend(texts)
        threads.add(threading.current_thread().name)
        return own(self, texts)

    monkeypatch.setattr(OnnxEmbedder, "embed", watched)
    workers.use(2)
    report = run(tmp_path / "m.db", corpus, batch_size=100)
    assert len(embedded) == len(set(embedded)) == report.embedded
    assert set(embedded) == {text for (text,) in query(tmp_path / "m.db", "SELECT content FROM memories")}
    assert any(name.startswith("embed-ahead") for name in threads)


def test_a_run_that_ends_between_batches_goes_on_where_it_stopped(corpus, tmp_path):
    run(tmp_path / "whole.db", corpus, batch_size=100)
    db, stopped = tmp_path / "pieces.db", 0
    while run(db, corpus, batch_size=100, time_budget=0).stopped:
        stopped += 1
    assert stopped > 10
    assert logical(db) == logical(tmp_path / "whole.db")


@pytest.mark.usefixtures("often")
def test_threads_that_search_while_one_ingests_see_whole_batches(corpus, tmp_path):
    workers.use(2)
    db, faults, answers, ended = tmp_path / "m.db", [], [], threading.Event()
    run(db, FIXTURES / "transcripts" / "claude-code")
    config = Config(db=db)

    def ask():
        try:
            while not ended.is_set():
                found = search(config, ["the billing service", "an oat milk latte"], Request(k=3), environ())
                answers.extend(found)
        except Exception as error:  # noqa: BLE001 - it is the test's to show
            faults.append(error)

    with quick_model():
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        report = run(db, corpus, batch_size=100)
        ended.set()
        for thread in threads:
            thread.join(60)
    assert not faults
    assert answers
    run(alone := tmp_path / "alone.db", FIXTURES / "transcripts" / "claude-code")
    run(alone, corpus, batch_size=100)
    assert report.stopped is None
    assert logical(db) == logical(alone)


def test_processes_that_search_while_others_ingest_see_whole_batches(home, tmp_path):
    for number in range(2):
        write_jsonl(tmp_path / f"{number}.jsonl", some_chat(400, seed=number))
    assert home.run("ingest", FIXTURES / "transcripts" / "claude-code").code == 0
    writers = [
        home.start("ingest", tmp_path / f"{number}.jsonl", "--batch-size", "20", "--workers", "2", "--wait", "60")
        for number in range(2)
    ]
    seen = []
    for _ in itertools.takewhile(lambda _: any(each.poll() is None for each in writers), range(12)):
        readers = [home.start("search", "what was decided", "--json", "--workers", str(count)) for count in (1, 2)]
        seen.extend(finish(reader) for reader in readers)
    assert [finish(writer).code for writer in writers] == [0, 0]
    assert seen
    assert all(each.code == 0 and each.json for each in seen), [each.err for each in seen]
    assert_sound(home.db)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_one_worker_is_one_thread_in_every_pool(tmp_path, corpus, data):
    script = (
        "import os, sys\n"
        "from memcli.cli.app import run\n"
        "try:\n"
        "    run()\n"
        "finally:\n"
        "    print(len(os.listdir('/proc/self/task')), file=sys.stderr)\n"
    )
    counts = {}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MEMCLI_")}
    for count in (1, 4):
        words = ["ingest", str(corpus), "--quiet", "--workers", str(count), "--db", str(tmp_path / f"{count}.db")]
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            capture_output=True,
            text=True,
            env=environment | {"MEMCLI_DATA_DIR": str(data)},
            cwd=tmp_path,
            check=True,
        )
        counts[count] = int(done.stderr.split()[-1])
    # Beside the main thread: one that scans, and one that onnxruntime starts when it is imported.
    assert counts[1] <= 3
    # Threads that tokenised have ended by now.
    assert counts[4] > counts[1]


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5", ""])
def test_workers_is_a_whole_number_from_1_on(home, wrong):
    done = home.run("search", "anything", "--workers", wrong)
    assert done.code == 2
    assert "workers" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "command",
    [
        ("ingest", "x"),
        ("dedup",),
        ("reindex", "--model", "default"),
        ("search", "x"),
        ("import", FIXTURES / "transcripts" / "agents" / "support.jsonl"),
    ],
)
def test_every_command_that_has_pools_takes_workers(home, command):
    home.run("ingest", FIXTURES / "transcripts" / "claude-code")
    done = home.run(*(FIXTURES / "transcripts" if word == "x" else word for word in command), "--workers", "1")
    assert done.code == 0, done.err


def test_the_setting_is_known_and_its_origin_shown(home):
    (home.folder / "memcli.toml").write_text("workers = 3\n", encoding="utf-8")
    assert "workers" in home.run("config", "show").out
    (home.folder / "memcli.toml").write_text("workers = 0\n", encoding="utf-8")
    assert home.run("search", "x").code == 2


def test_all_processors_that_the_process_may_use_are_the_default(monkeypatch):
    if hasattr(os, "sched_getaffinity"):
        assert workers.workers() == len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert workers.workers() == 1
    workers.use(7)
    assert workers.workers() == 7
    assert os.environ["RAYON_NUM_THREADS"] == "7"


def test_bench_parallel_measures_what_it_says_and_the_results_are_the_same(home):
    done = home.run("bench", "parallel", "--scale", "0.01", "--repeat", "1", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert (document["benchmark"], document["workers"], document["goal"]) == ("parallel", 2, 1.7)
    assert all(part["same_result"] for part in document["parts"])
    assert all(min(part["seconds"]) > 0 for part in document["parts"])
    held = {part["part"]: part["held_by"] for part in document["parts"]}
    assert held["similarity scan"] is None
    assert "Python" in held["gates"]
    assert "one writer" in held["ingest, the whole run"]


@pytest.fixture
def asked(home, corpus, tmp_path):
    """A database, and a file of so many queries that several processes are worth it; some are rubbish."""
    assert home.run("ingest", corpus).code == 0
    words = [str(message["content"]).split()[:4] for message in generate(700, 11)]
    path = tmp_path / "queries.txt"
    path.write_text("\n".join(['"', "NEAR (", *(" ".join(each) for each in words if each)]), encoding="utf-8")
    return path


def test_many_queries_in_several_processes_give_the_answers_of_one(home, asked, monkeypatch):
    from memcli.commands import shares

    answers = {}
    for count in (1, 2, 3):
        done = home.run("search", "--queries", asked, "--no-cache", "--json", "--workers", str(count))
        assert done.code == 0, done.err
        answers[count] = [{**answer, "seconds": None} for answer in done.json]
    assert answers[1] == answers[2] == answers[3]
    lines = asked.read_text(encoding="utf-8").split("\n")
    assert [answer["query"] for answer in answers[2]] == lines
    monkeypatch.setattr(workers, "available", lambda: 2)
    assert shares.processes_for(lines) == 2
    assert shares.processes_for(lines[:100]) == 1


@pytest.mark.parametrize("count", [64, 65, 700, 1000])
def test_shares_are_whole_groups_in_order(count):
    from memcli.commands import shares

    queries = [str(number) for number in range(count)]
    for processes in (1, 2, 3, 5):
        cut = shares._shares(queries, processes)
        assert [query for share in cut for query in share] == queries
        assert all(len(share) % shares.TOGETHER == 0 for share in cut[:-1])


def _children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in /proc")
def test_an_interruption_ends_all_processes_with_one_message(home, asked):
    asked.write_text(asked.read_text(encoding="utf-8") * 20, encoding="utf-8")
    searching = home.start("search", "--queries", asked, "--json", "--workers", "2", start_new_session=True)
    wait_for(lambda: len(_children(searching.pid).split()) > 1, searching)
    os.killpg(searching.pid, signal.SIGINT)
    done = finish(searching)
    assert done.code == 130
    assert "Traceback" not in done.err
    assert done.err.count("interrupted") == 1
    assert not done.out


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(), st.text() | st.lists(st.text()) | st.none()), max_size=3))
def test_documents_that_are_ready_are_printed_as_one(documents):
    """Answers come as text from the processes that found them: what is printed is what print_json prints of them."""
    with redirect_stdout(StringIO()) as one:
        render.print_json(documents)
    with redirect_stdout(StringIO()) as other:
        render.print_documents([json.dumps(each, ensure_ascii=False, indent=2) for each in documents])
    assert one.getvalue() == other.getvalue()

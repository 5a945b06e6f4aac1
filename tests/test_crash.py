"""A run that is killed or interrupted, anywhere and however often, and run again ends as one that never was."""

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from support_cli import FIXTURES, Home, finish, holds_lock, some_chat, wait_for, write_jsonl
from support_ingest import assert_sound, logical

BATCH = ("--batch-size", "5")
# Few batches, so that every statement of all of them can be tried.
LARGE_BATCH = ("--batch-size", "64")
CONSERVATIVE = ("--profile", "conservative", "--extract", "rules,verbatim")
# Bytes that reach the log before the end: one of the first frame, a frame and a half, most of a small batch.
BYTES_WITHIN_COMMIT = (1, 6_000, 25_000)
STATEMENTS_TRIED = 12
RANDOM_KILLS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("crash")


@pytest.fixture(scope="module")
def chat(folder):
    return write_jsonl(folder / "input" / "chat.jsonl", some_chat(150))


@pytest.fixture(scope="module")
def whole(nursery, folder, chat):
    """A run that nothing disturbed, with the moments that it passed."""
    return _undisturbed(nursery, folder, "whole", ("ingest", FIXTURES, chat, *BATCH))


def _undisturbed(nursery, folder, name, *commands):
    home = Home(folder / name, folder / "data")
    for command in commands:
        done = nursery.run(home, *command, trace=True)
        assert done.code == 0, done.err
    home.passed = json.loads((home.folder / "trace").read_text())
    home.logical = logical(home.db)
    return home


@pytest.fixture
def command(chat):
    return ("ingest", FIXTURES, chat, *BATCH)


@pytest.fixture
def home(tmp_path, folder):
    return Home(tmp_path, folder / "data")


def _check_as_whole(home, whole):
    """The logical content is that of the undisturbed run; to the last row, and the file is sound."""
    found = logical(home.db)
    for name in whole.logical:
        assert found[name] == whole.logical[name], f"{name} differ"
    assert_sound(home.db)


def _killed_and_run_again(nursery, home, command, whole, *moments):
    for moment in moments:
        killed = nursery.run(home, *command, moment=moment)
        assert killed.code in {-signal.SIGKILL, -signal.SIGXFSZ}, (moment, killed)
    again = nursery.run(home, *command)
    assert again.code == 0, again.err
    assert home.rows("SELECT count(*) FROM runs WHERE status = 'running'") == [(0,)]
    _check_as_whole(home, whole)


def _middle(names, name):
    places = [number for number, each in enumerate(names, 1) if each == name]
    return places[len(places) // 2]


def test_the_input_exercises_what_a_crash_could_break(whole):
    stages = Counter(whole.passed["stage"])
    assert set(stages) == {"start", "advance", "finish"} | {
        f"stage {name}" for name in ("read", "filter", "extract", "embed", "dedup", "commit")
    }
    assert stages["stage commit"] > 50
    assert max(count for *_, count in whole.logical["occurrences"]) > 1
    assert {kind for _, _, kind, *_ in whole.logical["links"]} == {"exact", "near"}
    assert whole.logical["reviews"]


@pytest.mark.parametrize("stage", ["read", "filter", "extract", "embed", "dedup", "commit"])
@pytest.mark.parametrize("when", ["first", "middle", "last"])
def test_killed_at_a_stage(nursery, home, command, whole, stage, when):
    names = whole.passed["stage"]
    places = [number for number, name in enumerate(names, 1) if name == f"stage {stage}"]
    number = {"first": places[0], "middle": places[len(places) // 2], "last": places[-1]}[when]
    _killed_and_run_again(nursery, home, command, whole, f"KILL:stage:{number}")


@pytest.mark.parametrize("name", ["start", "advance", "finish"])
def test_killed_between_the_batches_and_around_the_run(nursery, home, command, whole, name):
    _killed_and_run_again(nursery, home, command, whole, f"KILL:stage:{_middle(whole.passed['stage'], name)}")


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("share", range(STATEMENTS_TRIED))
def test_killed_around_a_statement(nursery, home, command, whole, side, share):
    number = 1 + share * (len(whole.passed["before"]) - 1) // (STATEMENTS_TRIED - 1)
    _killed_and_run_again(nursery, home, command, whole, f"KILL:{side}:{number}")


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_right_before_and_right_after_a_commit(nursery, home, command, whole, side):
    number = _middle(whole.passed["before"], "COMMIT")
    _killed_and_run_again(nursery, home, command, whole, f"KILL:{side}:{number}")


@pytest.mark.parametrize("size", BYTES_WITHIN_COMMIT)
def test_killed_within_a_commit_whose_pages_are_partly_written(nursery, home, command, whole, size):
    number = len(whole.passed["commit"]) // 2
    moment = f"KILL:commit:{number}:{size}"
    before = nursery.run(home, *command, moment=moment)
    assert before.code == -signal.SIGXFSZ
    committed = home.rows("SELECT count(*) FROM batches")
    _killed_and_run_again(nursery, home, command, whole)
    assert committed[0][0] > 10


def test_killed_twice_in_a_row_and_then_a_third_time(nursery, home, command, whole):
    moments = ("KILL:stage:100", "KILL:before:400", "KILL:commit:20:6000")
    _killed_and_run_again(nursery, home, command, whole, *moments)


def test_killed_while_the_database_was_made_it_is_no_database_yet(nursery, home, command, whole):
    made = _middle(whole.passed["before"], next(sql for sql in whole.passed["before"] if "'recall_horizon', 0)" in sql))
    for number in (8, 9, 24, 27, made):
        nursery.run(home, *command, moment=f"KILL:after:{number}")
        found = nursery.run(home, "search", "retries")
        assert found.code == 4, (number, found.err)
    _killed_and_run_again(nursery, home, command, whole)


def test_killed_while_the_model_was_copied(nursery, tmp_path, command, whole):
    home = Home(tmp_path)
    patch = (
        "import os, signal, sys, memcli.cli, memcli.embed.models as models\n"
        "copy = models.copy_file\n"
        "def dying(source, target):\n"
        "    copy(source, target)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "models.copy_file = dying\n"
        "memcli.cli.main()\n"
    )
    killed = home.python(patch, *command)
    assert killed.code == -signal.SIGKILL
    assert list((home.data / "models").iterdir())
    _killed_and_run_again(nursery, home, command, whole)
    assert (home.data / "models" / home.rows("SELECT value FROM meta WHERE key = 'model_id'")[0][0]).is_dir()


def test_killed_with_windows_pending_and_then_while_they_are_flushed(nursery, folder, home):
    # What has no time is as young as the run that read it: its windows wait for the profile's timeout.
    timeless = ({**message, "timestamp": None} for message in some_chat(200))
    pending = ("ingest", write_jsonl(folder / "timeless" / "chat.jsonl", timeless), *BATCH, *CONSERVATIVE)
    flush = (*pending, "--flush")
    whole = _undisturbed(nursery, folder, "flushed", pending, flush)
    assert nursery.run(home, *pending, moment="KILL:before:1500").code == -signal.SIGKILL
    assert nursery.run(home, *pending).code == 0
    waiting = home.rows("SELECT count(*) FROM pending_messages")[0][0]
    assert waiting > 5
    commit = _middle(whole.passed["before"], "COMMIT")
    assert nursery.run(home, *flush, moment=f"KILL:after:{commit}").code == -signal.SIGKILL
    assert 0 < home.rows("SELECT count(*) FROM pending_messages")[0][0] < waiting
    assert nursery.run(home, *flush).code == 0
    assert home.rows("SELECT count(*) FROM pending_messages") == [(0,)]
    _check_as_whole(home, whole)


def test_killed_from_outside_at_random_moments(home, command, whole):
    draw = random.Random(11)  # noqa: S311 - moments, not secrets
    began = time.monotonic()
    assert home.run(*command).code == 0
    duration = time.monotonic() - began
    for number in range(RANDOM_KILLS):
        victim = Home(home.folder / str(number), home.data)
        with victim.start(*command) as process:
            time.sleep(draw.uniform(0.3, 1.0) * duration)
            process.kill()
        assert victim.run(*command).code == 0
        _check_as_whole(victim, whole)


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
@pytest.mark.parametrize("moment", ["stage:200", "before:33", "after:1500", "before:2999"])
def test_interrupted_it_says_so_keeps_the_progress_and_goes_on_later(nursery, home, command, whole, name, moment):
    stopped = nursery.run(home, *command, moment=f"{name}:{moment}")
    assert stopped.code == 130
    assert f"interrupted (SIG{name})" in stopped.err
    assert "run it again" in stopped.err
    assert "Traceback" not in stopped.err
    assert stopped.out == ""
    kept = home.rows("SELECT count(*) FROM sqlite_master WHERE name = 'batches'")[0][0] and home.rows(
        "SELECT count(*) FROM batches"
    )
    assert nursery.run(home, *command).code == 0
    _check_as_whole(home, whole)
    if moment != "before:33":
        assert kept[0][0] > 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_standard_input_is_idle_it_ends_at_once(home, chat, number):
    with home.start("ingest", "-", "--batch-size", "1", "--verbose") as process:
        process.stdin.write(b"".join(chat.read_bytes().splitlines(keepends=True)[:3]))
        process.stdin.flush()
        while b"batch 1: commit" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        process.wait(timeout=20)
        done = finish(process)
    assert done.code == 130
    assert "interrupted" in done.err
    assert "Fatal Python error" not in done.err
    assert "Traceback" not in done.err
    assert home.rows("SELECT count(*) FROM messages")[0][0] >= 1


def test_interrupted_before_anything_came_from_standard_input_it_ends_at_once(home):
    with home.start("ingest", "-") as process:
        wait_for(holds_lock(home, process), process)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
        done = finish(process)
    assert done.code == 130
    assert "Fatal Python error" not in done.err
    if home.db.exists():
        names = home.rows("SELECT name FROM sqlite_master WHERE name = 'runs'")
        assert not names or not home.rows("SELECT * FROM runs")


def test_interrupted_while_waiting_for_the_lock_it_ends_at_once(home, chat):
    with home.start("ingest", "-") as holder:
        wait_for(holds_lock(home, holder), holder)
        with home.start("ingest", chat, "--wait", "600") as waiting:
            wait_for(lambda: _catches_signals(waiting.pid), waiting)
            waiting.send_signal(signal.SIGINT)
            waiting.wait(timeout=20)
            assert finish(waiting).code == 130
        assert finish(holder, b"").code == 0


def _catches_signals(pid):
    """Whether the process has installed its handlers, which it does before it waits."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


# --- torture ---------------------------------------------------------------------------------------------------------


@pytest.mark.torture
@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_around_every_statement(nursery, folder, tmp_path, chat, side):
    command = ("ingest", FIXTURES, chat, *LARGE_BATCH)
    whole = _undisturbed(nursery, folder, f"every-{side}", command)
    for number in range(1, len(whole.passed["before"]) + 1):
        home = Home(tmp_path / str(number), folder / "data")
        _killed_and_run_again(nursery, home, command, whole, f"KILL:{side}:{number}")
        home.db.unlink()


@pytest.mark.torture
def test_killed_within_every_commit(nursery, folder, tmp_path, chat):
    command = ("ingest", FIXTURES, chat, *LARGE_BATCH)
    whole = _undisturbed(nursery, folder, "every-commit", command)
    for number in range(3, len(whole.passed["commit"]) + 1):
        for size in range(1, 60_000, 4_300):
            home = Home(tmp_path / f"{number}-{size}", folder / "data")
            nursery.run(home, *command, moment=f"KILL:commit:{number}:{size}")
            _killed_and_run_again(nursery, home, command, whole)


@pytest.mark.torture
def test_interrupted_200_times_at_random_statements(nursery, folder, tmp_path, command, whole):
    draw = random.Random(13)  # noqa: S311 - moments, not secrets
    for number in range(200):
        home = Home(tmp_path / str(number), folder / "data")
        place = draw.randrange(1, len(whole.passed["before"]))
        stopped = nursery.run(home, *command, moment=f"INT:{draw.choice(('before', 'after'))}:{place}")
        assert stopped.code == 130
        _killed_and_run_again(nursery, home, command, whole)

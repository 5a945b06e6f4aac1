"""A short command pays for what it uses: importing the command line and embedding one query stays within its bounds."""

import os
import statistics
import sys

import pytest
from support_cli import Home, some_chat, write_jsonl

from memcli.cli.app import _narrowed
from memcli.cli.app import app as whole

# What reading transcripts, rules, tables and providers takes, and a search does without.
NOT_FOR_SEARCH = ("memcli.ingest", "memcli.readers", "memcli.extract", "memcli.bench", "re2", "ijson", "rich.progress",
                  "rich.table", "openai", "huggingface_hub", "onnx")  # fmt: skip
SEARCH = ("search", "the billing service", "-k", "2")
# Processor time and not the clock, which other programs on the machine disturb more. The bound is the promise, with
# room for slower machines.
SECONDS = 0.35
SLOWER_MACHINE = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("home"))
    home.run("ingest", write_jsonl(home.folder / "chat.jsonl", some_chat(60)), "--quiet")
    return home


def cpu_seconds(home, *args):
    process = home.start(*args, stdout=-3, stderr=-3)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_a_search_imports_nothing_of_reading_and_rules(home):
    code = (
        "import atexit, sys\n"
        "from memcli.cli import main\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "main()"
    )
    done = home.python(code, *SEARCH)
    assert done.code == 0
    modules = done.err.split()
    assert "memcli.embed.onnx" in modules
    assert [name for name in modules if name in NOT_FOR_SEARCH or name.startswith("memcli.readers.")] == []


def test_a_search_takes_hardly_more_than_its_packages_and_stays_within_reach_of_a_third_of_a_second(home):
    samples = [cpu_seconds(home, *SEARCH) for _ in range(3)]
    assert min(samples) < SECONDS * SLOWER_MACHINE, statistics.median(samples)


def named(command):
    return command.name or command.callback.__name__


def test_only_the_command_that_is_asked_for_is_built():
    names = [named(each) for each in whole.registered_commands]
    groups = [each.name for each in whole.registered_groups]
    assert "search" in names
    assert "bench" in groups
    for name in names:
        own = _narrowed([name, "--help"])
        assert [named(each) for each in own.registered_commands] == [name]
        assert own.registered_groups == []
    for name in groups:
        own = _narrowed([name])
        assert [each.name for each in own.registered_groups] == [name]
        assert own.registered_commands == []


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["nonsense"], ["--install-completion"]])
def test_where_no_command_is_named_all_are_there(words):
    own = _narrowed(words)
    assert len(own.registered_commands) == len(whole.registered_commands)
    assert len(own.registered_groups) == len(whole.registered_groups)


def test_narrowing_leaves_the_whole_app_as_it_is():
    before = len(whole.registered_commands)
    _narrowed(["search"])
    assert len(whole.registered_commands) == before > 1
    assert sys.modules["memcli.cli.app"].app is whole

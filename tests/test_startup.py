"""A short command pays for what it uses: importing the command line and embedding one query stays within its bounds."""

import os
import sqlite3
import statistics
from contextlib import closing

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations
from support_cli import Home, some_chat, write_jsonl

from memcli.cli.app import COMMANDS, GROUPS, _asked_for
from memcli.store import schema
from memcli.store.db import Store

# What other commands take: reading transcripts, rules, tables, providers, writing; or what a library brings along.
NOT_FOR_SEARCH = ("memcli.ingest", "memcli.readers", "memcli.extract", "memcli.bench", "re2", "ijson", "rich.progress",
                  "rich.table", "openai", "huggingface_hub", "onnx",
                  "pydantic", "sqlite_utils", "filelock", "numpy.ma", "memcli.model", "memcli.embed.api")  # fmt: skip
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


def test_reading_knows_the_migrations_that_sqlite_utils_has_applied(tmp_path):
    with Store.create(tmp_path / "memory.db") as store:
        recorded = Migrations("memcli").applied(Database(store.conn))
        assert schema.applied(store.conn) == schema.released() == [each.name for each in recorded]
    with closing(sqlite3.connect(":memory:")) as empty:
        assert schema.applied(empty) == []


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_only_the_command_that_is_asked_for_is_built(name):
    assert list(_asked_for([name, "--help"])) == [name]


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["nonsense"], ["--install-completion"]])
def test_where_no_command_is_named_all_are_there(words):
    assert list(_asked_for(words)) == [*COMMANDS, *GROUPS]

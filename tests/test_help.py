"""Help reads well on a terminal of 80 columns: for every command a summary, an example that works, a word per flag."""

import re
import shlex

import pytest
from support_cli import Home
from support_tree import TREE, command_of

from memcli.cli.first import GREETING

WIDTH = 80


@pytest.fixture(scope="module")
def helps(tmp_path_factory, data, nursery):
    """The help of every command, as a process of its own prints it."""
    home = Home(tmp_path_factory.mktemp("home"), data, nursery)
    done = {path: home.run(*path, "--help", env={"COLUMNS": str(WIDTH)}) for path in TREE}
    assert all((each.code, each.err) == (0, "") for each in done.values())
    return {path: each.out for path, each in done.items()}


def test_the_tree_is_whole():
    assert len(TREE) > 40
    assert {("ingest",), ("rules", "add"), ("model", "distill"), ("bench", "scan")} <= TREE.keys()


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_a_command_has_a_summary_and_fits_on_the_screen(helps, path):
    lines = helps[path].splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith(f"Usage: {' '.join(('memcli', *path))}")
    assert re.fullmatch(r"  [A-Z].*", lines[2])
    assert not re.search(r"<\w|\.{4,}|\]\]|\[\[", helps[path]), "a Python type, or brackets in brackets"
    if path:
        listed = re.search(rf"(?m)^  {re.escape(path[-1])} +(\S.*)$", helps[path[:-1]])
        assert listed, "not listed one level up"
        assert listed[1].endswith(".")
        assert not listed[1].endswith("..."), "the summary is cut off"
        assert "\n\n" in helps[path]


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_a_command_has_an_example_on_one_line_that_is_accepted(helps, path):
    (example,) = re.findall(r"(?m)^  Example: memcli (.*)$\n\n?(?=\S)", helps[path])
    called, rest = command_of(shlex.split(example))
    assert called[: len(path)] == path
    group = TREE[called]
    assert not hasattr(group, "commands") or group.invoke_without_command, "the example names no command"
    TREE[called].make_context("memcli", rest)  # fails for what the command line would refuse


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_every_flag_and_argument_is_explained(path):
    for param in TREE[path].params:
        words = param.help or ""
        assert re.fullmatch(r"(?s)\W*[\w.].*[.\]]", words), (param.name, words)
        assert len(words) <= 90, param.name


def test_the_exit_codes_are_one_table(helps):
    table = helps[()].partition("  Exit codes:\n")[2]
    assert "\n\n" not in table
    assert [int(code) for code in re.findall(r"(?m)^ +(\d+): ", table)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]


def test_the_greeting_names_three_commands_that_are_accepted():
    named = re.findall(r"(?m)^  memcli (.*?)(?:  +|$)", GREETING)
    assert len(named) == 3
    for line in named:
        called, rest = command_of(shlex.split(line))
        TREE[called].make_context("memcli", rest)
    assert [command_of(shlex.split(line))[0] for line in named] == [("ingest",), ("search",), ("stats",)]

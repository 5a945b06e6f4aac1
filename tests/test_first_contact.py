"""Whoever does not know memcli yet: no command, a wrong one, `ingest` without a path; asked on a terminal only."""

import ast
import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import signal
import threading
import zipfile
from pathlib import Path

import pytest
from support_cli import ESCAPE_CODES, FIXTURES, PATIENCE, UNSAFE, Done, some_chat, write_jsonl

import memcli
from memcli import errors
from memcli.cli.first import GREETING

CLAUDE = FIXTURES / "claude-code"
CODEX = FIXTURES / "codex"
VARIABLES = ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "PI_CODING_AGENT_DIR", "XDG_CONFIG_HOME", "XDG_DOWNLOAD_DIR")
QUESTION = "[y/n"
ERRORS = {name for name, each in vars(errors).items() if isinstance(each, type)}


@pytest.fixture
def user(home):
    """A user whose home says where everything is; nothing is there yet."""
    for name in VARIABLES:
        home.env.pop(name, None)
    return home


def put(source, target):
    shutil.copytree(source, target)
    return target


def export_zip(path, members=("conversations.json",)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, "[]")
    return path


def typed(home, *args, answers=(), **options):
    """Run memcli on a terminal and type an answer whenever it asks; None is the end of the input (Ctrl-D)."""
    ours, theirs = pty.openpty()
    left = list(answers)
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs} | options
    with home.start(*args, **terminal) as process:
        os.close(theirs)
        overdue = threading.Timer(PATIENCE, process.kill)
        overdue.start()
        written, asked = b"", 0
        with contextlib.suppress(OSError):  # how the end of a terminal is told
            while chunk := os.read(ours, 1 << 16):
                written += chunk
                if written.count(QUESTION.encode()) > asked and left:
                    asked += 1
                    answer = left.pop(0)
                    os.write(ours, b"\x04" if answer is None else f"{answer}\n".encode())
        out = process.stdout.read().decode() if process.stdout else ""
        process.wait(PATIENCE)
        overdue.cancel()
    os.close(ours)
    assert not left, "it asked less often than expected"
    return Done(process.returncode, out, ESCAPE_CODES.sub("", written.decode().replace("\r\n", "\n")))


def taken(home):
    """The files that were read, as (format, name)."""
    if not home.db.exists():
        return []
    return [(name, path.rpartition("/")[2]) for name, path in home.rows("SELECT format, path FROM files ORDER BY id")]


# --- no command, wrong commands --------------------------------------------------------------------------------------


def test_no_command_shows_three_to_begin_with_and_is_a_wrong_usage(user):
    done = user.run()
    assert (done.code, done.out, done.err) == (2, "", GREETING)
    assert max(map(len, GREETING.splitlines())) <= 80
    assert len(GREETING.splitlines()) <= 10
    assert user.on_terminal().out == GREETING
    assert "Exit codes" in user.run("--help").out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["serch", "x"], "did you mean: memcli search"),
        (["pull", "x/y"], "did you mean: memcli model pull"),
        (["list"], "did you mean: memcli rules list, or: memcli model list"),
        (["review"], "did you mean: memcli dedup --review"),
        (["undo", "3"], "did you mean: memcli dedup --undo"),
        (["distil"], "did you mean: memcli model distill"),
        (["help", "ingest"], "did you mean: memcli --help"),
        (["rules", "lst"], "did you mean: memcli rules list"),
        (["\x1b[31mxyzzy"], "all commands: memcli --help"),
        (["--db", "x.db", "search", "y"], "put it behind: memcli search ... --db"),
        (["rules", "--json", "list"], "put it behind: memcli rules list ... --json"),
    ],
)
def test_a_wrong_command_is_answered_with_what_was_probably_meant(user, words, hint):
    done = user.run(*words)
    assert (done.code, done.out) == (2, "")
    assert hint in done.err
    assert len(done.err.splitlines()) == 2
    assert not UNSAFE.search(done.err)


@pytest.mark.parametrize(("flag", "meant"), [("--dryrun", "--dry-run"), ("--jsno", "--json"), ("--agnt=x", "--agent")])
def test_a_wrong_flag_is_answered_with_the_nearest(user, flag, meant):
    done = user.run("ingest", flag)
    assert (done.code, done.out) == (2, "")
    assert meant in done.err.split("No such option")[1]


def test_completion_asks_without_a_command_and_is_not_greeted(user):
    env = {"_MEMCLI_COMPLETE": "complete_bash", "COMP_WORDS": "memcli sea", "COMP_CWORD": "1"}
    done = user.run(env=env)
    assert done.out.split() == ["search"]
    assert user.run(env=env | {"COMP_WORDS": "memcli nonsense --a", "COMP_CWORD": "2"}).err == ""
    assert GREETING not in done.err


# --- ingest without a path -------------------------------------------------------------------------------------------


def test_where_nobody_can_be_asked_it_says_what_is_there_and_the_very_command(user):
    put(CLAUDE, user.folder / ".claude" / "projects")
    put(CODEX, user.folder / ".codex" / "sessions")
    done = user.run("ingest")
    assert (done.code, done.out) == (2, "")
    files = len(list(CLAUDE.rglob("*.jsonl")))
    assert f"~/.claude/projects (claude-code, {files} files), ~/.codex/sessions (codex, 2 files)" in done.err
    command = done.err.partition("read that with: ")[2].strip()
    assert command == "memcli ingest ~/.claude/projects ~/.codex/sessions"
    assert not user.db.exists()
    for words in (["--json"], ["--quiet"], ["--dry-run"]):
        assert user.run("ingest", *words).err == done.err
    # What it says to do, a shell does.
    paths = [each.replace("~", str(user.folder)) for each in shlex.split(command)[2:]]
    assert user.run("ingest", *paths).code == 0
    assert {name for name, _ in taken(user)} == {"claude-code", "codex"}


def test_pipes_are_never_asked_and_standard_input_is_read_where_it_is_named(user):
    put(CODEX, user.folder / ".codex" / "sessions")
    chat = "".join(json.dumps(each) + "\n" for each in some_chat(4))
    done = user.run("ingest", stdin=chat)
    assert (done.code, done.out) == (2, "")
    assert "- is standard input" in done.err
    assert user.run("ingest", "-", stdin=chat).code == 0
    assert taken(user) == [("flat", "-")]
    # A terminal to answer on does not help where the question cannot be seen, nor the other way round.
    for hidden in ("stdin", "stderr"):
        assert typed(user, "ingest", **{hidden: -3}).code == 2


def test_with_nothing_anywhere_it_says_how_to_name_something(user):
    for done in (user.run("ingest"), user.on_terminal("ingest")):
        said = ESCAPE_CODES.sub("", done.err + done.out)
        assert done.code == 2
        assert "there are none in the usual places" in said
        assert "memcli formats" in said
        assert QUESTION not in said
    assert not user.db.exists()


def test_on_a_terminal_it_shows_what_it_found_asks_and_says_what_cron_needs(user):
    put(CLAUDE, user.folder / ".claude" / "projects")
    put(CODEX, user.folder / ".codex" / "sessions")
    done = typed(user, "ingest", answers=["y"])
    assert done.code == 0
    assert "claude-code" in done.err
    assert "kB" in done.err
    assert "memcli ingest ~/.claude/projects ~/.codex/sessions" in done.err
    assert {name for name, _ in taken(user)} == {"claude-code", "codex"}
    assert max(map(len, done.err.split("[y/n")[0].splitlines())) <= 80


def test_one_of_several_is_chosen_by_its_number_and_nonsense_is_asked_again(user):
    put(CLAUDE, user.folder / ".claude" / "projects")
    put(CODEX, user.folder / ".codex" / "sessions")
    done = typed(user, "ingest", answers=["", "3", "0", "maybe", "y 1", "99999999999", "2"])
    assert done.code == 0
    assert {name for name, _ in taken(user)} == {"codex"}
    assert "needs it: memcli ingest ~/.codex/sessions" in done.err


@pytest.mark.parametrize("answer", ["n", "No", None])
def test_a_no_reads_nothing_and_is_no_error(user, answer):
    put(CODEX, user.folder / ".codex" / "sessions")
    done = typed(user, "ingest", answers=[answer])
    assert done.code == 0
    assert "Nothing was read" in done.err
    assert not user.db.exists()


def test_the_question_stays_off_standard_output(user):
    put(CODEX, user.folder / ".codex" / "sessions")
    done = typed(user, "ingest", "--json", answers=["y"], stdout=-1)
    assert done.code == 0
    assert json.loads(done.out)["files"]["read"] == 2


def test_a_dry_run_and_a_format_hold_for_what_is_offered(user):
    put(CLAUDE, user.folder / ".claude" / "projects")
    put(CODEX, user.folder / ".codex" / "sessions")
    done = typed(user, "ingest", "--format", "codex", "--dry-run", answers=["y"])
    assert done.code == 0
    assert "claude" not in done.err
    assert not user.db.exists()
    assert "there are none of pi" in user.run("ingest", "--format", "pi").err
    assert "there are none of flat" in user.run("ingest", "--map", "role=author").err
    assert "did you mean 'codex'" in user.run("ingest", "--format", "codexx").err


# --- where it looks --------------------------------------------------------------------------------------------------


def offered(user, **env):
    done = user.run("ingest", env={name: str(value) for name, value in env.items()})
    assert done.code == 2
    return shlex.split(done.err.partition("read that with: memcli ingest ")[2])


def test_the_programs_variables_are_honoured(user):
    elsewhere = user.folder / "else where"
    put(CLAUDE, user.folder / ".claude" / "projects")
    put(CLAUDE, elsewhere / "claude" / "projects")
    put(CODEX, elsewhere / "codex" / "archived_sessions")
    put(FIXTURES / "pi", elsewhere / "pi" / "sessions")
    put(CLAUDE, elsewhere / "config" / "claude" / "projects")
    named = {"CLAUDE_CONFIG_DIR": elsewhere / "claude", "CODEX_HOME": elsewhere / "codex"}
    places = ["~/else where/claude/projects", "~/else where/codex/archived_sessions", "~/else where/pi/sessions"]
    assert offered(user, **named, PI_CODING_AGENT_DIR=elsewhere / "pi") == places
    assert offered(user, XDG_CONFIG_HOME=elsewhere / "config") == [
        "~/.claude/projects",
        "~/else where/config/claude/projects",
    ]


def test_exports_of_chatgpt_are_found_among_the_downloads_and_other_zips_left_alone(user):
    downloads = user.folder / "Téléchargements"
    export_zip(downloads / "chatgpt export.zip")
    export_zip(downloads / "shards.zip", ["a/conversations-000.json"])
    export_zip(downloads / "photos.zip", ["a.jpg", "log.jsonl"])
    (downloads / "broken.zip").write_bytes(b"PK\x03\x04 no zip")
    (downloads / "loop.zip").symlink_to("loop.zip")
    (downloads / "unpacked").mkdir()
    (downloads / "unpacked" / "conversations.json").write_text("[]")
    found = ["chatgpt export.zip", "shards.zip", "unpacked/conversations.json"]
    assert offered(user, XDG_DOWNLOAD_DIR=downloads) == [f"~/Téléchargements/{name}" for name in found]
    (user.folder / ".config").mkdir()
    (user.folder / ".config" / "user-dirs.dirs").write_text('# x\nXDG_DOWNLOAD_DIR="$HOME/Téléchargements"\n')
    assert len(offered(user)) == 3
    downloads.rename(user.folder / "Downloads")
    (user.folder / ".config" / "user-dirs.dirs").unlink()
    assert len(offered(user)) == 3


def test_empty_folders_links_to_the_same_and_unreadable_ones_are_not_offered(user):
    (user.folder / ".codex" / "sessions").mkdir(parents=True)
    (user.folder / ".codex" / "sessions" / "empty.jsonl").touch()
    (user.folder / ".pi" / "agent").mkdir(parents=True)
    (user.folder / ".pi" / "agent" / "sessions").symlink_to("sessions")
    put(CLAUDE, user.folder / ".claude" / "projects")
    (user.folder / ".config").mkdir()
    (user.folder / ".config" / "claude").symlink_to(user.folder / ".claude")
    assert offered(user) == ["~/.claude/projects"]


def test_places_that_cannot_be_are_no_places(user):
    (user.folder / ".config").mkdir()
    (user.folder / ".config" / "user-dirs.dirs").write_bytes(b'XDG_DOWNLOAD_DIR="$HOME/\0\xff"\n')
    names = {
        "CLAUDE_CONFIG_DIR": "~nobody-of-that-name/x",
        "CODEX_HOME": "x" * 5000,
        "PI_CODING_AGENT_DIR": "/dev/null",
    }
    done = user.run("ingest", env=names)
    assert done.code == 2
    assert "there are none in the usual places" in done.err


def test_a_name_with_controls_is_shown_harmless(user):
    evil = user.folder / "x\x1b[31m\u202e"
    write_jsonl(evil / "projects" / "a.jsonl", some_chat(3))
    done = user.run("ingest", env={"CLAUDE_CONFIG_DIR": str(evil)})
    assert done.code == 2
    assert not UNSAFE.search(done.err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_at_the_question_ends_it_and_leaves_nothing(user, number):
    put(CODEX, user.folder / ".codex" / "sessions")
    ours, theirs = pty.openpty()
    with user.start("ingest", stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while QUESTION.encode() not in seen:
            seen += os.read(ours, 1 << 16)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 130
    os.close(ours)
    assert not user.db.exists()


# --- errors ----------------------------------------------------------------------------------------------------------

# These say in the message itself what is to be written instead.
SAY_IT_THEMSELVES = re.compile(r"must be|must not be|give both|not a pattern")


def raised():
    """Yield (place, message, hint or None) of every error of ours that is raised with a message written there."""
    package = Path(memcli.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
                hints = [*node.args[1:2], *(each.value for each in node.keywords if each.arg == "hint")]
                place = f"{path.relative_to(package)}:{node.lineno}"
                yield place, ast.unparse(node.args[0]), ast.unparse(hints[0]) if hints else None


def test_every_error_says_what_to_do_next():
    found = list(raised())
    assert len(found) > 200
    bare = [each for each in found if each[2] in {None, "''"} and not SAY_IT_THEMSELVES.search(each[1])]
    assert bare == []

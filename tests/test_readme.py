"""README.md says what the program does: its tables, help texts and tour are compared with the real thing."""

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import support_readme
from support_cli import FIXTURES, PATIENCE, Home
from support_readme import README, TABLES, rendered
from support_tree import TREE, command_of

from memcli.store.db import Store


def timeless(text):
    """Without what differs from run to run: times, the order of lines they wrap into, days of memories and merges."""
    text = re.sub(r"(?m)^time .*\n( {10,}.*\n)*", "", text)
    text = re.sub(r"· \d{4}-\d\d-\d\d ·( merge \d+$| threshold)", r"·\1", text, flags=re.MULTILINE)
    return re.sub(r"[ \t]+", " ", text)


def test_the_generated_parts_of_the_readme_are_up_to_date():
    text = README.read_text(encoding="utf-8")
    assert timeless(rendered(text)) == timeless(text), "run: make readme"


def test_every_table_of_the_database_is_documented(tmp_path):
    with Store.create(tmp_path / "memory.db"):
        pass
    conn = sqlite3.connect(tmp_path / "memory.db")
    names = {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    own = {name for name in names if not name.startswith(("memories_fts_", "_sqlite_", "sqlite_"))}
    conn.close()
    assert own == set(TABLES)


def test_every_command_is_documented():
    from memcli.cli.app import COMMANDS, GROUPS, build

    app = build([*COMMANDS, *GROUPS])
    named = {command.name or command.callback.__name__ for command in app.registered_commands}
    for group in app.registered_groups:
        named |= {f"{group.name} {each.name}" for each in group.typer_instance.registered_commands}
        # A group that does something by itself.
        named |= {group.name} if group.typer_instance.registered_callback else set()
    assert named == set(support_readme.COMMANDS)


# --- what is not generated -------------------------------------------------------------------------------------------

# The first words of lines that are not run here, and why. All the same the command line must accept them.
NOT_RUN = {
    "pip install": "the tests run in an environment that has it; .ci/run installs the wheel in a fresh one",
    "memcli --install-completion": "would change the start files of the shell",
    "memcli model pull": "needs the Hugging Face Hub: tests/test_model_pull.py has one of its own",
    "memcli model import ./my-model": "needs another model: tests/test_model_import.py",
    "memcli model info multilingual": "as above: tests/test_model_cli.py",
    "memcli model use intfloat": "as above",
    "memcli model remove intfloat": "as above",
    "memcli model distill": "takes minutes: tests/test_embed_distill.py",
    "export OPENAI_API_KEY": "needs an account: tests/test_api_cli.py has a server of its own",
    "memcli ingest ~/.claude/projects --model openai:": "as above",
    "datasette": "a server: tests/test_datasette.py",
}
# Blocks that other tests run.
CRON = re.compile(r"^[\d*/,-]+ ")  # tests/test_cron.py
UNIT = "ini"  # tests/test_cron.py
PLAIN = [
    line
    for _, language, lines in support_readme.blocks(README.read_text(encoding="utf-8"))
    if not language and not lines[0].startswith("$ ") and not CRON.match(lines[0])
    for line in lines
]


@pytest.fixture(scope="module")
def user(tmp_path_factory, data):
    """Somebody with transcripts, and with the files that the README names."""
    home = Home(tmp_path_factory.mktemp("user"), data)
    shutil.copytree(FIXTURES / "claude-code", home.folder / ".claude" / "projects")
    (home.folder / "backups").mkdir()
    (home.folder / "questions.txt").write_text("what did we decide about retries\nwho approved the budget\n")
    (home.folder / "notes.jsonl").write_text('{"content": "The train to Graz leaves at nine."}\n')
    old = home.folder / "exports" / "old.json"
    said = ("My telephone number is on the door of the old workshop.", "Jane Roe waters the plants while I am away.")
    for name, text in zip((old, home.folder / "plants.json"), said, strict=True):
        name.parent.mkdir(exist_ok=True)
        name.write_text(json.dumps({"messages": [{"role": "user", "content": text}]}))
        assert home.run("ingest", name, "--quiet").code == 0
    assert home.run("ingest", FIXTURES / "agents", "--quiet").code == 0
    assert home.run("ingest", FIXTURES / "codex", "--quiet", "--db", home.folder / "laptop.db").code == 0
    home.env["PATH"] = f"{Path(sys.executable).parent}:{home.env['PATH']}"
    return home


def test_every_line_is_run_or_it_is_said_why_not():
    assert len(PLAIN) > 30
    unused = [words for words in NOT_RUN if not any(line.startswith(words) for line in PLAIN)]
    assert unused == []


@pytest.mark.parametrize("line", PLAIN)
def test_a_line_does_what_it_says(user, line):
    if any(line.startswith(words) for words in NOT_RUN):
        words = shlex.split(line, comments=True)
        if words[0] == "memcli":
            called, rest = command_of(words[1:])
            assert called or rest == ["--install-completion"]
            if called:
                TREE[called].make_context("memcli", rest)
        return
    done = subprocess.run(
        ["sh", "-ec", line],
        cwd=user.folder,
        env=user.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), line
    for word in re.findall(r"(?:--out|--datasette|--with-vectors|rules export) (\S+?)[;\s]", line):
        assert (user.folder / word).stat().st_size > 0


def test_the_examples_of_settings_are_accepted(user):
    found = [lines for _, language, lines in support_readme.blocks(README.read_text()) if language == "toml"]
    assert len(found) == 2
    for lines in found:
        file = user.folder / "example.toml"
        file.write_text("\n".join(lines))
        done = user.run("config", "show", "--config", file)
        assert (done.code, done.err) == (0, "")
        assert "example.toml" in done.out


def test_every_code_block_is_of_a_kind_that_is_looked_at():
    for heading, language, lines in support_readme.blocks(README.read_text(encoding="utf-8")):
        assert language in {"", "toml", UNIT}, heading
        if lines[0].startswith("$ "):
            assert heading in {"A tour", "`memcli dedup`", "Review", "Undo"}, (
                f"{heading}: not executed by `make readme`"
            )


def test_commands_in_the_text_exist_with_their_flags():
    text = re.sub(r"```.*?```", "", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`(memcli [^`]+)`", text)]
    assert len(spans) > 40
    for span in spans:
        words = re.findall(r"[^\s\[\]]+", span.split("#")[0])[1:]
        called, rest = command_of(words)
        assert called or rest[0].startswith("-") or rest[0] == "COMMAND", span
        flags = {flag for param in TREE[called].params for flag in (*param.opts, *param.secondary_opts)} | {"--help"}
        assert {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"} <= flags, span

"""Transcripts, files, rules, settings and models that say what should be acted on: every command, every output."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
from support_chat import Chat
from support_cli import Home, write_jsonl
from support_hostile import (
    ARGUMENT,
    ATTACKS,
    EVIL,
    NAME,
    TOLD,
    VISIBLE,
    answers,
    assert_harmless,
    evil,
    refusals,
    rules_file,
    settings,
    shown,
    toml_string,
    transcripts,
    with_models,
)

from memcli.render.terminal import safe


@pytest.fixture(scope="module")
def victim(tmp_path_factory, data, nursery):
    """A user into whose database everything hostile has gone; `rules` and `texts` are where it came from."""
    folder = tmp_path_factory.mktemp("victim")
    home = Home(folder / NAME, data, nursery)
    home.texts, home.rules = transcripts(folder), rules_file(folder)
    settings(home)
    for command in [("rules", "import", home.rules), ("ingest", home.texts, "--profile", VISIBLE)]:
        done = home.run(*command)
        assert done.code in {0, 3}, done
        assert_harmless(done.out + done.err)
    known = write_jsonl(folder / "known.jsonl", [{"role": "user", "content": TOLD, "session_id": VISIBLE}] * 2)
    assert home.run("ingest", known, "--agent", VISIBLE, "--profile", VISIBLE).code == 0
    assert home.rows("SELECT count(*) FROM memories")[0][0] >= 8
    return home


def _ids(home):
    """Memories that have all of an attack in them."""
    return [
        str(memory) for (memory,) in home.rows("SELECT id FROM memories WHERE instr(content, char(27)) ORDER BY id")
    ]


def _commands(home):
    """Every command that shows anything of what it was given, in all its views."""
    first, last = _ids(home)[0], _ids(home)[-1]
    rule = home.rows("SELECT id FROM rules")[0][0]
    copy = home.folder / f"copy{NAME}.db"
    yield from (
        ("ingest", home.texts, "--dry-run", "--verbose"),
        ("ingest", home.texts, "--profile", VISIBLE, "--db", copy),
        ("ingest", home.texts, "--reextract", "--profile", VISIBLE),
        ("ingest", f"{home.texts}/none{NAME}.jsonl"),
        ("ingest", f"{home.texts}/bomb{NAME}.zip"),
        ("search", TOLD, "-k", "50", "--explain", "--context", "1"),
        ("search", EVIL.replace("\0", ""), "green", "-k", "3"),
        ("search", '"green tea" OR NEAR(x y) * ^ : - ( {', "-k", "3"),
        ("search", "tea", "--mode", "keyword", "--env", f"model:{ARGUMENT}"),
        ("search", "tea", "--agent", ARGUMENT, "--session", ARGUMENT, "--tag", ARGUMENT, "--source", ARGUMENT),
        ("dedup", "--dry-run", "--threshold", "0.5"),
        ("dedup", "--review"),
        ("dedup", "--explain", first),
        ("dedup", "--explain", last),
        ("dedup", "--agent", ARGUMENT, "--dry-run"),
        ("dedup", "--across-agents", "--across-types", "--threshold", "0.3"),
        ("stats",),
        ("stats", "--batches"),
        ("stats", "--agent", ARGUMENT),
        ("stats", "--prometheus", "-"),
        ("reindex", "--check"),
        ("reindex", "--dry-run"),
        ("check",),
        ("check", "--secrets"),
        ("check", "--repair", "--dry-run"),
        ("backup", home.folder / f"backup{NAME}.db", "--force"),
        ("backup", home.db),
        ("forget", "--agent", ARGUMENT, "--dry-run"),
        ("forget", "--source", home.texts, "--dry-run"),
        ("forget", "--session", ARGUMENT, "--dry-run"),
        ("forget", "--text", TOLD, "--dry-run"),
        ("export", "--format", "markdown"),
        ("export", "--datasette", home.folder / f"out{NAME}.metadata.json"),
        ("export", "--out", home.folder / f"out{NAME}.jsonl"),
        ("export", "--agent", ARGUMENT),
        ("import", home.folder / f"out{NAME}.jsonl", "--db", copy),
        ("import", home.db, "--db", copy),
        ("profiles",),
        ("config", "show"),
        ("cost", "estimate", home.texts, "--profile", VISIBLE),
        ("cost", "scenario", "--messages-per-day", "9", "--agents", "2", "--profile", VISIBLE),
        ("cost", "report", "--profile", VISIBLE),
        ("rules", "list"),
        ("rules", "list", "--agent", ARGUMENT),
        ("rules", "show", rule),
        ("rules", "test", "green tea"),
        ("rules", "test", "prefer", home.texts),
        ("rules", "coverage"),
        ("rules", "export", home.folder / f"out{NAME}.toml"),
        ("rules", "export", home.folder / f"out{NAME}.json"),
        ("rules", "disable", rule, "--dry-run"),
        ("model", "list"),
        ("formats",),
    )


def test_every_command_writes_nothing_that_would_be_acted_on(victim):
    ran = 0
    for command in _commands(victim):
        done = victim.run(*command)
        assert done.code in {0, 2, 3}, (command, done)
        assert_harmless(done.out + done.err)
        ran += done.code in {0, 3}
    assert ran > 30


@pytest.mark.parametrize(
    "command",
    [
        ("dedup", "--agent", VISIBLE, "--threshold", "0.5", "--dry-run"),
        ("rules", "list"),
        ("cost", "scenario", "--messages-per-day", "9", "--agents", "2", "--profile", VISIBLE),
        ("search", TOLD, "--agent", VISIBLE),
        ("profiles",),
        ("stats", "--prometheus", "-"),
        ("export", "--format", "csv"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_name_that_is_markup_is_shown_as_it_is(victim, command):
    assert VISIBLE in victim.run(*command).out


def _texts_in(document):
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from _texts_in(value)
    elif isinstance(document, list):
        for each in document:
            yield from _texts_in(each)
    elif isinstance(document, str):
        yield document


def test_json_escapes_it_all_and_gives_back_what_was_said(victim):
    whole = 0
    for command in _commands(victim):
        if command[:2] == ("stats", "--prometheus") or command[0] in {
            "import",
            "reindex",
            "formats",
            "model",
            "config",
        }:
            continue  # no JSON, or nothing of a transcript in it
        done = victim.run(*command, "--json")
        assert_harmless(done.out + done.err)
        if done.code in {0, 3} and done.out:
            try:
                documents = [json.loads(done.out)]
            except json.JSONDecodeError:  # as lines, where a command streams
                documents = [json.loads(line) for line in done.out.splitlines()]
            # What SQLite cannot hold, NUL, is gone already.
            whole += any(ATTACKS["CSI"] in text for document in documents for text in _texts_in(document))
    assert whole >= 10


def test_exports_in_lines_give_back_what_was_said(victim):
    done = victim.run("export")
    assert_harmless(done.out)
    told = [record["content"] for record in map(json.loads, done.out.splitlines()) if record.get("kind") == "memory"]
    stored = [text for (text,) in victim.rows("SELECT content FROM active_memories")]
    assert sorted(told) == sorted(stored)
    assert any("\u202eolleh\u202c" in text for text in told)


def test_a_table_holds_no_formula_and_no_control(victim):
    done = victim.run("export", "--format", "csv")
    assert_harmless(done.out.replace("\r\n", "\n"), lines=False)
    for row in csv.reader(io.StringIO(done.out)):
        assert not any(cell.lstrip()[:1] in {*"=+@-", "\t", "\r"} for cell in row if not _is_number(cell))


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


ON_TERMINAL = [
    ("ingest", "{texts}", "--dry-run"),
    ("search", TOLD, "-k", "9", "--explain", "--context", "1"),
    ("dedup", "--dry-run", "--threshold", "0.5"),
    ("stats",),
    ("stats", "--batches"),
    ("rules", "list"),
    ("rules", "coverage"),
    ("rules", "test", "prefer"),
    ("profiles",),
    ("config", "show"),
    ("search", TOLD, "--json"),
    ("export", "--format", "markdown"),
    ("ingest", "/none" + ARGUMENT),
]


@pytest.mark.parametrize("command", ON_TERMINAL, ids=lambda command: " ".join(command[:2])[:20])
def test_on_a_terminal_only_the_codes_of_memcli_itself_are_sent(victim, command):
    done = victim.on_terminal(*(str(part).replace("{texts}", str(victim.texts)) for part in command))
    assert done.code in {0, 2, 3}, done
    # Whole sequences of an attack would not be seen any more once codes are taken out.
    for attack in ("\x1b[2J", "\x1b]", "\x1bP", "\x1b[5m"):
        assert attack not in done.out
    assert_harmless(shown(done.out), lines=False)


def test_errors_say_what_is_wrong_without_acting_it_out(victim):
    for command in [
        ("ingest", "/none" + ARGUMENT),
        ("ingest", victim.texts, "--format", ARGUMENT),
        ("ingest", victim.texts, f"--{ARGUMENT}"),
        ("ingest", victim.texts, "--model", ARGUMENT),
        ("ingest", victim.texts, "--db", f"/proc/{ARGUMENT}/x"),
        ("ingest", victim.texts, "--config", f"/none{ARGUMENT}"),
        ("search", "x", "--type", ARGUMENT),
        ("search", "x", "--since", ARGUMENT),
        ("search", "x", "--db", f"/none{ARGUMENT}"),
        ("search", "--queries", f"/none{ARGUMENT}"),
        (ARGUMENT,),
        ("rules", "add", f"({ARGUMENT}", "--name", "x"),
        ("rules", "add", "x", "--name", ARGUMENT),
        ("rules", "show", ARGUMENT),
        ("rules", "import", f"/none{ARGUMENT}.json"),
        ("rules", "export", f"/none{ARGUMENT}.json"),
        ("model", "info", ARGUMENT),
        ("model", "use", ARGUMENT),
        ("model", "remove", ARGUMENT),
        ("model", "import", f"/none{ARGUMENT}"),
        ("export", "--out", f"/none{ARGUMENT}/x"),
        ("import", f"/none{ARGUMENT}"),
        ("import", f"{victim.texts}/none{NAME}.jsonl"),
        ("stats", "--agent", ARGUMENT),
        ("stats", "--prometheus", f"/none{ARGUMENT}/x"),
        ("cost", "estimate", victim.texts, "--price", ARGUMENT),
        ("dedup", "--explain", ARGUMENT),
        ("bench", "dedup", "--pairs", f"/none{ARGUMENT}"),
    ]:
        done = victim.run(*command)
        assert done.code in {2, 3, 4, 6}, (command, done)
        assert_harmless(done.out + done.err)


@pytest.mark.parametrize(
    "text",
    [
        f'"{ARGUMENT}" = 1',
        "batch_size = '''" + ARGUMENT.replace("\x1b", "").replace("\r", "") + "'''",
        f"[profiles.{toml_string(EVIL)}]\nrates = 1",
        f"[tiers.{toml_string(EVIL)}]\nmodel = 1",
    ],
)
def test_faults_of_a_configuration_are_told_harmlessly(home, text):
    (home.folder / "memcli.toml").write_bytes(text.encode())
    done = home.run("search", "x")
    assert done.code == 2, done
    assert_harmless(done.out + done.err)


@pytest.mark.parametrize("behave", [answers, refusals])
def test_what_a_model_or_its_server_says_is_harmless(home, tmp_path, behave):
    talk = [{"role": "user", "content": evil(f"{TOLD} {n}"), "session_id": EVIL, "id": f"{n}"} for n in range(8)]
    chat = write_jsonl(tmp_path / "chat.jsonl", talk)
    with Chat(behave) as server:
        with_models(home, server)
        runs = [home.run("ingest", chat, "--flush", "--verbose"), home.run("ingest", chat, "--flush", "--json")]
    runs += [
        home.run(*command) for command in (("search", TOLD), ("stats",), ("stats", "--batches"), ("cost", "report"))
    ]
    for done in runs:
        assert done.code in {0, 7}, done
        assert_harmless(done.out + done.err)
    assert server.bodies, runs


def test_a_bug_is_told_harmlessly(home):
    code = (
        "import sys, memcli.cli, memcli.commands.search as command\n"
        "def broken(*_, **__):\n"
        "    raise ZeroDivisionError(sys.argv.pop())\n"
        "command.search = broken\n"
        "memcli.cli.main()\n"
    )
    for more in ((), ("--verbose",)):
        done = home.python(code, "search", "x", *more, ARGUMENT)
        assert done.code in {1, 2, 4}
        assert_harmless(done.out + done.err)


# --- paths in transcripts --------------------------------------------------------------------------------------------


def test_paths_in_transcripts_are_never_followed(home, tmp_path):
    """Files that a transcript names, by every way a dialect has of naming one, are not opened."""
    canary = tmp_path / "canary.jsonl"
    canary.write_text(json.dumps({"role": "user", "content": "CANARY: I prefer black coffee."}) + "\n")
    link = f"![x](file://{canary}) @{canary} <img src={canary}> {{{{include {canary}}}}} @file:{canary}"
    record = {
        "type": "user",
        "uuid": "u",
        "sessionId": str(canary),
        "cwd": str(canary.parent),
        "gitBranch": str(canary),
    }
    record |= {"message": {"role": "user", "content": [{"type": "text", "text": f"I prefer tea. {link}"}]}}
    image = {"type": "image", "source": {"type": "file", "path": str(canary), "url": f"file://{canary}"}}
    parts = [{"asset_pointer": f"file-service://{canary}"}, f"I prefer tea. {link}"]
    message = {"author": {"role": "user"}, "content": {"parts": parts}, "metadata": {"attachments": [str(canary)]}}
    flat = {"role": "user", "content": link, "path": str(canary), "attachments": [str(canary)]}
    texts = tmp_path / "texts"
    write_jsonl(texts / "a.jsonl", [record, {**record, "uuid": "v", "message": {"role": "user", "content": [image]}}])
    write_jsonl(texts / "b.jsonl", [flat])
    (texts / "conversations.json").write_text(json.dumps([{"id": "c", "mapping": {"n": {"message": message}}}]))
    opened = home.python(WATCHED, "ingest", texts, "--flush")
    assert opened.code == 0, opened
    files = json.loads(opened.err.rpartition("OPENED ")[2])
    assert any(name.endswith("a.jsonl") for name in files)
    assert not [name for name in files if "canary" in name]
    assert not home.rows("SELECT 1 FROM messages WHERE text GLOB '*CANARY:*'")


WATCHED = """
import atexit, json, os, sys
opened = set()
sys.addaudithook(lambda event, args: event == "open" and opened.add(os.fsdecode(args[0])
                 if isinstance(args[0], (str, bytes)) else str(args[0])))
atexit.register(lambda: sys.stderr.write("OPENED " + json.dumps(sorted(opened))))
from memcli.cli import main
main()
"""


# --- what is written out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_is_written_out(name):
    assert_harmless(safe(ATTACKS[name]))


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f 1\ufe0f\u20e3",  # a family, a heart, a keycap
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "\u0915\u094d\u200d\u0937",  # Devanagari
        "naïve Ärger 東京 한국 Ελλάδα e\u0301",
    ],
)
def test_what_people_write_is_shown_as_it_is(text):
    assert safe(text) == text


@pytest.mark.parametrize(
    "text", ["a\u200db", "a\u200c\u200cb", "\u200d\u0645", "pay\u200bpal", "\u0645\u200d\u200d\u0645"]
)
def test_a_joiner_that_joins_nothing_is_written_out(text):
    assert "\\u200" in safe(text)
    assert not {"\u200b", "\u200c", "\u200d"} & set(safe(text).replace("\u0645\u200d\u0645", ""))


def test_there_is_a_test_of_every_command(victim):
    from memcli.cli.app import COMMANDS, GROUPS

    assert {command[0] for command in _commands(victim)} >= {*COMMANDS, *GROUPS} - {"bench"}


def test_a_name_that_is_no_text_is_told_as_one(victim):
    assert any(b"\xff" in os.fsencode(each.name) for each in Path(victim.texts).iterdir())
    done = victim.run("ingest", victim.texts, "--db", victim.folder / "again.db", "--verbose")
    assert "\\udcff" in done.err or "\ufffd" in done.out + done.err or done.code in {0, 3}
    assert_harmless(done.out + done.err)

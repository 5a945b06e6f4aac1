"""A user whose transcripts, files, rules, settings and models all say what should be acted on, and never may be."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from pathlib import Path

from support_chat import Chat, asked_about, completion, configure, statement
from support_cli import ESCAPE_CODES, Home, write_jsonl

FORGED = "FORGED by a transcript"
# Each would be acted on by a terminal, by Rich, by a renderer of text, or by who reads one line as two.
ATTACKS = {
    "CSI": "\x1b[2J\x1b[31mred",
    "OSC title": "\x1b]0;title\x07",
    "OSC 8": "\x1b]8;;file:///etc/passwd\x1b\\link\x1b]8;;\x1b\\",
    "OSC 52": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "DCS": '\x1bP$q"p\x1b\\',
    "C1": "\x9b2J\x9d0;t\x9c",
    "markup": "[bold red]x[/bold red] [/] [link=file:///etc/passwd]y[/link] [blink]",
    "emoji": ":boom: :warning:",
    "braces": "{task.fields[rate]} %s {0} ${HOME}",
    "bidi": "\u202eolleh\u202c \u2066x\u2069 \u200fy\u061c",
    "zero width": "a\u200bb\u2060c\ufeffd\u200de\u00adf",
    "tags": "\U000e0041\U000e0042\ufe01",
    "lines": f"\n{FORGED}\r{FORGED}\x0b{FORGED}\x0c{FORGED}\x85{FORGED}\u2028{FORGED}\u2029{FORGED}",
    "NUL": "\x00",
    "backspace": "\b\b\x7f|",
}
EVIL = " ".join(ATTACKS.values())
# What may stand in an argument, and in the name of a file.
ARGUMENT = EVIL.replace("\0", "")
# Within the 255 bytes of a name.
NAME = "[red]x[blink] \x1b[31m\u202e\u200b\r\n" + FORGED + " \x9b2J :boom:"
# Where controls are refused.
VISIBLE = "[red]x[/red] [/] :boom: [link=file:///etc/passwd]y[/link]"
TOLD = "I prefer green tea over coffee in the morning"

_KEPT = {"\n"}
# Wider than what memcli writes out: nothing of these categories may reach an output, but for what emoji are made of.
_FORBIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp", "Co"}


def raw_of(text: str, *, kept: str = "") -> list[str]:
    """The characters of an output that should not be in it, each with what surrounds it."""
    return [
        f"{ord(each):x} in {text[max(0, place - 40) : place + 20]!r}"
        for place, each in enumerate(text)
        if each not in _KEPT and each not in kept and unicodedata.category(each) in _FORBIDDEN
    ]


def assert_harmless(text: str, *, lines: bool = True) -> None:
    """Nothing in an output would be acted on, and with `lines` no transcript has begun a line of its own."""
    assert not raw_of(text), raw_of(text)[:3]
    if lines:
        assert not re.search(rf"^\s*{FORGED}", text, re.MULTILINE), text
    assert "\U0001f4a5" not in text  # what Rich makes of :boom:


def shown(text: str) -> str:
    """What a terminal was sent, without the codes that memcli itself sends."""
    return ESCAPE_CODES.sub("", text).replace("\r", "")


def evil(text: str = TOLD) -> str:
    """A statement that is worth remembering, with all attacks in it."""
    return f"{text} {EVIL}"


def transcripts(folder: Path) -> Path:
    """One transcript of each dialect, every text in it hostile, in folders and under names that are, too."""
    folder = folder / NAME
    when = "2026-03-01T00:00:00Z"
    block = [{"type": "text", "text": evil()}, {"type": EVIL, "text": EVIL}]
    claude = {"uuid": f"u{EVIL}", "sessionId": f"s{EVIL}", "type": "user", "cwd": f"/w/{EVIL}", "gitBranch": EVIL}
    claude |= {"timestamp": when, "version": EVIL, "message": {"role": "user", "content": evil()}}
    answer = {"role": "assistant", "model": EVIL, "id": EVIL, "content": [{"type": "tool_use", "name": EVIL}, *block]}
    head = {"timestamp": when, "type": "session_meta", "payload": {"id": EVIL, "cwd": EVIL, "originator": EVIL}}
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": evil()}]}
    node = {"author": {"role": "user", "name": EVIL}, "content": {"content_type": "text", "parts": [evil()]}}
    turn = {"role": "user", "content": evil("We decided to use two replicas"), "id": EVIL, "name": EVIL}
    files = {
        "claude": [
            claude,
            {**claude, "uuid": "u2", "type": "assistant", "message": answer},
            {**claude, "type": EVIL, "uuid": "u3"},
        ],
        "codex": [head, {"timestamp": when, "type": "response_item", "payload": said}],
        "pi": [
            {"type": "session", "id": EVIL, "cwd": EVIL, "version": 3},
            {"type": "message", "id": EVIL, "message": {"role": "user", "content": evil(), "model": EVIL}},
        ],
        "openai": [{"id": EVIL, "messages": [turn, {**turn, "role": "assistant", "tool_calls": [EVIL]}]}],
        "sharegpt": [
            {"id": EVIL, "conversations": [{"from": "human", "value": evil()}, {"from": EVIL, "value": EVIL}]}
        ],
        "flat": [
            {"role": "user", "content": evil("My name is Ann"), "agent": EVIL, "session_id": EVIL, "id": EVIL},
            {"role": EVIL, "content": evil("I live in Bern"), "model": EVIL, "tags": [EVIL]},
        ],
    }
    for name, records in files.items():
        path = write_jsonl(folder / f"{name}{NAME}.jsonl", records)
        with path.open("a") as file:
            file.write('{"type": "user", "\x1b[31m[bold]\u202e\u200b\n')
    conversation = {"id": EVIL, "title": EVIL, "mapping": {EVIL: {"id": EVIL, "message": {"id": EVIL, **node}}}}
    (folder / f"conversations{NAME}.json").write_text(json.dumps([conversation]))
    (folder / f"none{NAME}.jsonl").write_text(json.dumps({EVIL: EVIL}) + "\n")
    (folder / f"bomb{NAME}.zip").write_bytes(b"no zip \x1b[31m")
    broken = os.fsencode(folder) + b"/\xff\xfe\x1b[31m.jsonl"
    Path(os.fsdecode(broken)).write_text(json.dumps({"role": "user", "content": evil("I like rivers")}) + "\n")
    return folder


def settings(home: Home) -> None:
    """A memcli.toml whose profile, models and texts are hostile where the configuration takes them."""
    text = ""
    for name in (EVIL, VISIBLE):
        text += f"[profiles.{toml_string(name)}]\nmax_messages = 20\ntimeout_minutes = 0\nmin_messages = 1\n"
        text += f'rate = 1.0\nmin_chars = 5\nfilters = "none"\nfocus = {toml_string(VISIBLE)}\n'
        text += 'tiers = ["rules", "verbatim"]\n'
    (home.folder / "memcli.toml").write_text(text)


def toml_string(text: str) -> str:
    """JSON's strings are TOML's, but for DEL and pairs of surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def rules_file(folder: Path) -> Path:
    """Rules with names, keywords and patterns as hostile as they may be."""
    rules = [
        {"name": VISIBLE, "pattern": f"green tea|{re.escape(FORGED)}", "keywords": [VISIBLE], "agent": VISIBLE},
        {"name": f"{VISIBLE} two", "pattern": "prefer[^.]{0,400}", "keep": "match"},
    ]
    path = folder / f"rules{NAME}.json"
    path.write_text(json.dumps({"rules": rules}))
    return path


def answers(_number: int, body: dict) -> tuple[int, dict, object]:
    """What a hostile model says, word for word from the transcript and beyond it."""
    texts = asked_about(body)
    told = [statement(text[:50], name, says=f"{text[:60]} {EVIL}", keywords=[EVIL]) for name, text in texts.items()]
    return 200, {}, completion({"memories": [*told, statement(EVIL, EVIL, says=EVIL, type=EVIL)]})


def refusals(_number: int, _body: dict) -> tuple[int, dict, object]:
    """A server that says hostile things of itself."""
    return 400, {"x-request-id": "[red]x[/red]"}, {"error": {"message": EVIL, "code": EVIL, "type": EVIL}}


def with_models(home: Home, chat: Chat) -> None:
    """Let the user's model tier be at a hostile server."""
    configure(home, chat.url, "small")

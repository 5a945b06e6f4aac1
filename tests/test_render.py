"""What is printed can be trusted: text of a transcript stays text, numbers stay in their columns, JSON stays JSON."""

import io
import json
import os
import re
import sys
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcli import render
from memcli.errors import MemcliError
from memcli.ingest.report import IngestReport
from memcli.search import Answer, Request
from memcli.search.report import MARKS as FOUND
from memcli.search.report import Hit, Ranked
from memcli.store.search import Details

# Every character a terminal might act on, a renderer might turn text around with, or a stream might fail on.
CONTROLS = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in {"Cc", "Zl", "Zp", "Cs"}]
BIDI = [
    chr(code)
    for code in range(0x110000)
    if unicodedata.bidirectional(chr(code)) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
]
# What is not shown at all: of category Cf or Mn, letters that are blank, and places kept for more of them.
UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u3164\uffa0"
    + "".join(map(chr, [*range(0xFE00, 0xFE0E), *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000)]))
    + "".join(chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf")
)
MARKS = ["\u200e", "\u200f", "\u061c"]
UNSAFE = frozenset(CONTROLS + BIDI + MARKS)
# The alphabet of trouble, so that short examples hold much of it.
nasty_text = st.text(st.one_of(st.sampled_from(sorted(UNSAFE)), st.sampled_from("[]/\\ bold*_`\"'\t"), st.characters()))
text = st.text(st.characters(codec="utf-8"))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def printed(monkeypatch, capsys):
    """Run something that prints, on a pipe or on a terminal of 80 columns; what came out."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")

    def run(call, *args, terminal=False):
        if not terminal:
            call(*args)
            captured = capsys.readouterr()
            return captured.out + captured.err
        stream = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", stream)
            patch.setattr("sys.stderr", stream)
            call(*args)
        return stream.getvalue()

    return run


def _plain(shown):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def _report(**changes):
    report = IngestReport(db="/data/memory.db", run_id=3, seconds=12.345)
    report.files.seen, report.files.read = 1_234, 1_200
    report.lines_read, report.messages_read, report.messages_new = 123_456_789, 98_765_432, 98_765_000
    report.skipped = Counter({f"system/a_rather_long_kind_{number}": 10**number for number in range(9)})
    report.filtered = Counter({"tool_result": 1_000_000, "greeting": 7})
    report.timings = dict.fromkeys(report.timings, 1234.5)
    for name, value in changes.items():
        setattr(report, name, value)
    return report


def _star(content, **changes):
    values = {"memory_id": 1, "content": content, "type": "episodic", "agent_id": "a", "session_id": "s"}
    values["timestamp"] = "2026-03-01T00:00:00.000Z"
    return Details(**(values | changes))


def _answered(query, *stars, context=()):
    hits = tuple(Hit(Ranked(star.memory_id, 1.0, {"words": 1.0}), star, context) for star in stars)
    return Answer(query, Request(explain=True), 0.1, hits), [star.content for star in stars]


# --- safe ------------------------------------------------------------------------------------------------------------


@given(nasty_text)
def test_nothing_dangerous_survives(value):
    shown = render.safe(value)
    assert not UNSAFE & set(shown)
    shown.encode()


def test_no_single_character_survives_that_a_terminal_could_act_on():
    assert [ascii(character) for character in sorted(UNSAFE) if character in render.safe(f"a{character}b")] == []


def test_no_single_character_survives_that_hides():
    # Signs of Arabic, Syriac and Kaithi numbers, and the layout of hieroglyphs: they are seen.
    seen = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}
    survived = {ord(character) for character in UNSEEN if character in render.safe(f"a{character}b")}
    assert survived <= seen


@given(text.filter(lambda value: not (UNSAFE | UNSEEN | {"\u2065"}) & set(value)))
def test_harmless_words_are_shown_as_they_are(value):
    assert render.safe(value).split() == value.split()


@given(nasty_text)
def test_what_is_safe_stays_as_it_is(value):
    assert render.safe(render.safe(value)) == render.safe(value)


def test_what_is_dangerous_is_written_out():
    assert render.safe("\x1b[31m\x07\x9b\u202e\u2066\ud800") == "\\x1b[31m\\x07\\x9b\\u202e\\u2066\\ud800"


def test_a_hit_of_several_lines_is_shown_on_one(printed):
    shown = printed(render.show_answers, [_answered("q", _star("a\n\n b\r\nc\td\u2028e"))])
    assert shown.splitlines()[0] == "1. a b c d e"


def test_marks_that_a_text_holds_itself_do_no_harm(printed):
    begin, end = FOUND
    answer, _ = _answered("q", _star("x"))
    for marked in (f"{end}a {begin}b{end} c", f"a {begin}b{end} {end}c", f"a {begin}b{begin} c", f"{begin}a b c"):
        assert printed(render.show_answers, [(answer, [marked])]).splitlines()[0] == "1. a b c"


def test_a_name_can_be_copied_as_it_is_shown():
    assert render.safe("/a  folder/with two  spaces.jsonl") == "/a  folder/with two  spaces.jsonl"


# --- JSON ------------------------------------------------------------------------------------------------------------

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | nasty_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(nasty_text, inner, max_size=3),
    max_leaves=8,
)


@given(documents)
def test_json_comes_back_as_it_was_and_holds_nothing_dangerous(document):
    stream = io.StringIO()
    stdout, sys.stdout = sys.stdout, stream
    try:
        render.print_json(document)
    finally:
        sys.stdout = stdout
    shown = stream.getvalue()
    assert json.loads(shown) == document
    assert not UNSAFE & set(shown) - {"\n"}
    shown.encode()


def test_json_is_readable_in_other_scripts(capsys):
    render.print_json({"text": "naïve 日本語 👍"})
    assert "naïve 日本語 👍" in capsys.readouterr().out


# --- reports and hits ------------------------------------------------------------------------------------------------


def test_a_report_fits_80_columns_on_a_terminal(printed):
    shown = _plain(printed(render.show_ingest, _report(), terminal=True))
    assert max(map(len, shown.splitlines())) <= 80
    for part in ("123,456,789", "98,765,432 ", "1,000,007", "12.35 s", "tool_result", "greeting", "others"):
        assert part.strip() in shown


def test_a_report_is_not_wrapped_padded_or_coloured_for_a_pipe(printed):
    lines = printed(render.show_ingest, _report()).splitlines()
    assert [line.split()[0] for line in lines] == (
        ["files", "lines", "messages", "dropped", "windows", "memories", "embedded", "time", "Run"]
    )
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in "".join(lines)
    assert "tool_result 1,000,000, greeting 7" in lines[3]
    assert "others" in lines[1]


@pytest.mark.parametrize(
    ("changes", "closing"),
    [
        ({}, "Run 3 in 0 batches into /data/memory.db."),
        ({"run_id": None}, "Nothing new; /data/memory.db is up to date."),
        ({"dry_run": True}, "Dry run: /data/memory.db was not touched."),
        ({"stopped": "limit"}, "Stopped by limit; run it again to go on."),
        ({"db": "/x/[bold]\x1b[31m.db"}, "into /x/[bold]\\x1b[31m.db."),
    ],
)
def test_the_last_line_says_what_became_of_the_database(printed, changes, closing):
    assert printed(render.show_ingest, _report(**changes)).splitlines()[-1].endswith(closing)


@given(nasty_text, st.booleans())
def test_hits_are_shown_as_text_whatever_they_say(value, terminal):
    star = _star(
        value, agent_id=value, session_id=value, sources=[{"path": value, "external_id": value, "message_id": 7}] * 2
    )
    star.tags[value].add(1)
    stream = Terminal() if terminal else io.StringIO()
    stdout, sys.stdout = sys.stdout, stream
    try:
        around = [{"speaker": value, "role": "user", "text": value, "source": True}]
        render.show_answers([_answered(value, star, context=around), _answered("q")])
    finally:
        sys.stdout = stdout
    shown = stream.getvalue()
    # Rich's own codes are styles only; no other control gets through, and none was made of markup.
    assert not UNSAFE & set(re.sub(r"\x1b\[[0-9;]*m", "", shown)) - {"\n"}
    if not terminal:
        assert "\x1b" not in shown
        said = render.safe(" ".join(value.split()))
        assert f"1. {said}".rstrip() in [line.rstrip() for line in shown.split("\n")]


def test_markup_is_no_markup_anywhere(printed):
    markup = "[bold]x[/bold] [/] [red]"
    star = _star(markup, sources=[{"path": f"/t/{markup}", "external_id": markup}])
    shown = printed(render.show_answers, [_answered(markup, star)] * 2)
    assert shown.count(markup) == 8
    report = _report(rejections=[(markup, 3, markup)], rejected=1)
    assert printed(render.explain_rejected, report) == f"{markup}:3: {markup}\n"
    assert printed(render.print_error, MemcliError(markup, markup)) == f"memcli: {markup}\n        {markup}\n"
    assert markup in printed(render.show_config, {"db": (markup, markup)})


def test_long_lines_are_not_cut_for_a_pipe(printed):
    path = "/" + "very-long-folder/" * 20 + "chat.jsonl"
    star = _star("word " * 200, sources=[{"path": path, "external_id": "m1"}])
    shown = printed(render.show_answers, [_answered("q", star)])
    assert f"{path} message m1" in shown
    assert ("word " * 200).strip() in shown
    assert f"{path}:3: {'x' * 300}" in printed(render.explain_rejected, _report(rejections=[(path, 3, "x" * 300)]))
    assert path in printed(render.print_error, MemcliError(path))


# --- progress --------------------------------------------------------------------------------------------------------


def _progress(**flags):
    progress = render.ConsoleProgress(**({"quiet": False, "verbose": False} | flags))
    progress.start(1_000_000)
    progress.stage("embed", 0.0125)
    progress.advance(400_000, 1_000)
    progress.note("[bold]careful[/] \x1b[31m")
    progress.stage("embed", 0.5)
    progress.finish()
    progress.finish()


def test_progress_on_a_pipe_is_plain_lines_now_and_then(printed, monkeypatch):
    assert printed(_progress) == "memcli: warning: [bold]careful[/] \\x1b[31m\n"
    monkeypatch.setattr("memcli.render.progress.LINE_INTERVAL", 0.0)
    first, warning = printed(_progress).splitlines()
    assert re.fullmatch(r"memcli: 0\.4 of 1\.0 MB, about [\d,]+ s left, 1,000 messages, [\d,]+ messages/s", first)
    assert warning.startswith("memcli: warning: ")


def _phases():
    progress = render.ConsoleProgress(quiet=False, verbose=False)
    progress.start(1_000_000)
    progress.advance(1_000_000, 1_000)
    progress.phase("closing windows", 800)
    progress.advance(0, 200)
    progress.finish()


def test_what_follows_the_reading_is_named_and_goes_over_messages(printed, monkeypatch):
    monkeypatch.setattr("memcli.render.progress.LINE_INTERVAL", 0.0)
    read, closing = printed(_phases).splitlines()
    assert "1.0 of 1.0 MB, about 0 s left, 1,000 messages" in read
    assert re.fullmatch(r"memcli: closing windows: 200 of 800 messages, about \d+ s left, [\d,]+ messages/s", closing)
    assert re.search(r"closing windows\s.*200/800 messages", _plain(printed(_phases, terminal=True)))


def test_steps_that_an_earlier_run_has_done_are_left_out(printed, monkeypatch):
    def run():
        progress = render.ConsoleProgress(quiet=False, verbose=False, unit="steps")
        for done in (400, 500, 800):
            progress.step("teacher", done, 1000)
        progress.step("training", 0, 8)
        progress.step("training", 2, 8)
        progress.finish()

    monkeypatch.setattr("memcli.render.progress.LINE_INTERVAL", 0.0)
    lines = printed(run).splitlines()
    assert [line.partition(" steps")[0] for line in lines] == [
        "memcli: teacher: 100 of 600",
        "memcli: teacher: 400 of 600",
        "memcli: training: 2 of 8",
    ]
    assert re.search(r"teacher\s.*400/600 steps", _plain(printed(run, terminal=True)))


def test_of_what_nobody_knows_the_size_no_time_is_foretold(printed, monkeypatch):
    def run():
        progress = render.ConsoleProgress(quiet=False, verbose=False)
        progress.start(None)
        progress.advance(400_000, 10)

    monkeypatch.setattr("memcli.render.progress.LINE_INTERVAL", 0.0)
    assert re.fullmatch(r"memcli: 0\.4 MB, 10 messages, [\d,]+ messages/s\n", printed(run))


def test_verbose_progress_tells_the_stages_by_batch(printed):
    lines = printed(lambda: _progress(verbose=True)).splitlines()
    assert lines[0] == "memcli: batch 1: embed 12.5 ms"
    assert lines[-1] == "memcli: batch 2: embed 500.0 ms"


def test_quiet_progress_says_nothing(printed):
    assert printed(lambda: _progress(quiet=True)) == ""
    assert printed(lambda: _progress(quiet=True), terminal=True) == ""


def test_a_bar_on_a_terminal_is_wiped_when_it_ends(printed):
    shown = printed(_progress, terminal=True)
    assert "1,000 messages" in shown
    assert "\\x1b[31m" in shown
    assert shown.rstrip("\n").endswith(("\x1b[2K", "\x1b[?25h"))
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_a_reader_that_went_away_ends_nothing(monkeypatch):
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        render.print_json({"x": 1})
        render.show_ingest(_report())

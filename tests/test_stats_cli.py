"""`memcli stats` as it is seen: the dashboard, the document, and the metrics that monitoring reads."""

import io
import os
import re
import sqlite3
from pathlib import Path

import pytest
from rich.cells import cell_len
from support_cli import UNSAFE, Home, some_chat, write_jsonl
from support_ingest import flat, run, write

from memcli import render
from memcli.commands.stats import write_whole
from memcli.errors import UsageError
from memcli.stats import collect, collect_batches
from memcli.store.db import Store

NASTY = (
    "\x1b[31mred\x1b[0m",
    "two\nlines\ttab",
    "[bold]markup[/bold]",
    "記憶" * 40,
    "x" * 300,
    'quo"te\\back',
    "\u202eright",
)
KEYS = {
    "db",
    "memcli",
    "agent",
    "model_id",
    "counts",
    "agents",
    "filtered",
    "rejected",
    "days",
    "tags",
    "methods",
    "types",
    "dedup",
    "stages",
    "size",
    "search_cache",
    "runs",
}
COUNTS = {"messages", "kept", "dropped", "pending", "rejected", "sessions", "agents", "files", "windows", "memories",
          "active", "merged", "review_pairs", "batches"}  # fmt: skip
SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>[-+.0-9eE]+|NaN)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def parse(text):
    """Samples of the exposition format by (name, labels); anything out of order fails."""
    assert text.endswith("\n")
    samples, kinds, helped = {}, {}, set()
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped.add(line.split(" ", 3)[2])
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds, "a metric comes in one group"
            assert kind in {"gauge", "counter"}
            kinds[name] = kind
            last = name
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert match["name"] == last, "samples follow their TYPE line"
        labels = match["labels"] or ""
        pairs = LABEL.findall(labels)
        assert "".join(f'{name}="{value}",' for name, value in pairs) in {labels + ",", ""}, line
        unescaped = tuple(
            (name, re.sub(r'\\(["\\n])', lambda each: "\n" if each[1] == "n" else each[1], value))
            for name, value in pairs
        )
        assert (last, unescaped) not in samples, "a sample comes once"
        samples[last, unescaped] = float(match["value"])
    assert helped == set(kinds)
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in kinds.items())
    return samples


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("home"))
    write_jsonl(home.folder / "chat.jsonl", some_chat(300))
    assert home.run("ingest", home.folder / "chat.jsonl", "--batch-size", "40", "-q").code == 0
    return home


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A database in which everything that users name is named badly, and counts are large."""
    folder = tmp_path_factory.mktemp("nasty")
    records = [
        flat(f"The number {place} is a fact about the cluster.", id=str(place), agent_id=f"agent {place}")
        for place in range(len(NASTY))
    ]
    db = folder / f"{'deep' * 30}.db"
    run(db, write(folder / "chat.jsonl", *records))
    with sqlite3.connect(db) as conn:
        for place, name in enumerate(NASTY):
            for table in ("sessions", "memories"):
                conn.execute(f"UPDATE {table} SET agent_id = ? WHERE agent_id = ?", (name, f"agent {place}"))
            conn.execute("UPDATE memories SET extraction_method = ? WHERE agent_id = ?", (f"rules:{name}", name))
            conn.execute("UPDATE messages SET filter_reason = ? WHERE id = ?", (name, place + 1))
            conn.execute("INSERT INTO memory_tags VALUES (?, ?, 1.0)", (place + 1, f"project:{name}"))
            conn.execute("INSERT INTO rejected_lines VALUES (NULL, 1, ?, 0, ?, ?, 1)", (place, name, f"head {place}"))
            conn.execute(
                "INSERT INTO runs VALUES (?, ?, '1', 'done', '2026-03-01', '2026-03-02', '{}')", (place + 2, name)
            )
        conn.execute(
            "UPDATE batches SET messages_in = 123456789, memories_created = 12345678, memories_merged = 1e7,"
            " timings = ?",
            ('{"read": 98765.4, "\\u001b[1mstage": 123456.7}',),
        )
    return db


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """What the dashboard or the batches of a database look like."""

    def show(db, columns=None, batches=False, agent=None):
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        stream = Terminal() if columns else io.StringIO()
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setenv("COLUMNS", str(columns or 200))
        monkeypatch.setenv("TERM", "xterm")
        with Store.open(db) as store:
            if batches:
                render.show_batches(collect_batches(store))
            else:
                render.show_stats(collect(store, agent))
        return stream.getvalue()

    return show


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("columns", [None, 80, 200])
@pytest.mark.parametrize("where", ["home", "nasty"])
def test_no_line_is_wider_than_80_columns(request, shown, where, columns, batches):
    place = request.getfixturevalue(where)
    text = shown(place.db if where == "home" else place, columns, batches)
    assert max(map(cell_len, plain(text).split("\n"))) <= 80
    assert ("\x1b[" in text) == bool(columns)
    assert not UNSAFE.search(plain(text))


@pytest.mark.parametrize("batches", [False, True])
def test_a_narrower_terminal_gets_one_column(nasty, shown, batches):
    assert max(map(cell_len, plain(shown(nasty, 50, batches)).split("\n"))) <= 50


def test_the_dashboard_fits_into_40_lines_with_everything_in_it(home, nasty, shown):
    for db in (home.db, nasty):
        text = shown(db, 80)
        assert len(text.split("\n")) <= 40
        for heading in (
            "memories by message day",
            "top tags",
            "rules and tiers",
            "dropped messages",
            "time by stage",
            "size by table",
            "duplicates",
            "last runs",
        ):
            assert heading in text
    assert "rejected lines by reason" in text


def test_figures_of_the_dashboard_are_those_of_the_document(home, shown):
    document = home.run("stats", "--json").json
    lines = shown(home.db).split("\n")
    counts = document["counts"]
    assert f"{counts['messages']:,}" in lines[1]
    assert f"{counts['kept']:,} kept, {counts['dropped']:,} dropped, {counts['pending']:,} pending" in lines[1]
    assert f"{counts['active']:,} active, {counts['merged']:,} merged" in lines[2]
    text = "\n".join(lines)
    for kind, row in document["dedup"].items():
        assert re.search(rf"{kind} +{row['memories']:,} +{row['rate']:.1%}", text), kind
    for reason, count in document["filtered"].items():
        assert re.search(rf"{reason} +{count:,} ", text), reason


def test_bars_are_as_long_as_their_figures_say(shown, home):
    text = shown(home.db)
    most, bar = re.search(r"verbatim +(\d+) (█+)", text).groups()
    assert len(bar) > 5
    for name, count, other in re.findall(r"(rules:\S+(?: \w+)*) +(\d+) (█*)", text):
        assert len(other) == pytest.approx(len(bar) * int(count) / int(most), abs=1), name


def test_what_cannot_be_told_apart_by_agent_says_so(nasty, shown):
    text = shown(nasty, agent="x" * 300)
    assert text.count("(all agents)") >= 4
    assert "messages           1 " in text


@pytest.mark.parametrize("records", [[], [flat("I prefer green tea over coffee.")]], ids=["nothing", "one message"])
def test_a_database_with_next_to_nothing_looks_sensible(tmp_path, shown, records):
    db = tmp_path / "memory.db"
    run(db, write(tmp_path / "chat.jsonl", *records))
    text = shown(db)
    assert re.search(rf"messages +{len(records)} ", text)
    assert "none" in text
    assert "nan" not in text.lower()
    assert len(text.split("\n")) <= 40
    with Store.open(db) as store:
        assert collect(store).to_json()["counts"]["messages"] == len(records)
        parse(render.metrics_text(collect(store)))
    batches = shown(db, batches=True)
    assert ("messages/s" if records else "no batches yet") in batches


def test_the_document_has_the_documented_keys(home):
    document = home.run("stats", "--json").json
    assert set(document) == KEYS
    assert set(document["counts"]) == COUNTS
    assert set(document["dedup"]) == {"exact", "near", "review"}
    assert set(document["size"]) == {"bytes", "free_bytes", "wal_bytes", "exact", "tables"}
    assert set(document["runs"][0]) == {"id", "command", "status", "started_at", "seconds", "outcome"}
    batches = home.run("stats", "--batches", "--json").json
    assert set(batches) == {"db", "total", "batches", "slowest", "slowest_windows", "failures"}
    assert set(batches["batches"][0]) == {
        "id", "run_id", "started_at", "messages", "memories", "merged", "timings", "seconds", "messages_per_second",
        "tokens", "cost_usd", "memories_per_message",
    }  # fmt: skip


def test_metrics_say_what_the_document_says(home):
    document = home.run("stats", "--json").json
    done = home.run("stats", "--prometheus", "-")
    assert (done.code, done.err) == (0, "")
    samples = parse(done.out)
    counts = document["counts"]
    assert samples["memcli_memories", (("agent", "default"), ("state", "active"))] == counts["active"]
    assert samples["memcli_memories", (("agent", "default"), ("state", "merged"))] == counts["merged"]
    assert samples["memcli_messages", (("agent", "default"), ("state", "kept"))] == counts["kept"]
    assert samples["memcli_messages_pending", ()] == counts["pending"]
    assert samples["memcli_rejected_lines", ()] == counts["rejected"]
    assert samples["memcli_batches_total", ()] == counts["batches"]
    assert samples["memcli_database_bytes", ()] == document["size"]["bytes"]
    assert samples["memcli_runs_total", (("command", "ingest"), ("status", "done"))] == 1
    ((started, finished),) = home.rows("SELECT strftime('%s', started_at), strftime('%s', finished_at) FROM runs")
    ended = samples["memcli_last_done_timestamp_seconds", (("command", "ingest"),)]
    assert int(started) <= int(ended) == int(finished)
    for stage, seconds in document["stages"].items():
        assert samples["memcli_stage_seconds_total", (("stage", stage),)] == pytest.approx(seconds, abs=1e-3)


def test_labels_are_escaped_so_that_they_come_back_as_they_were(nasty):
    with Store.open(nasty) as store:
        text = render.metrics_text(collect(store))
    agents = {dict(labels)["agent"] for name, labels in parse(text) if name == "memcli_memories"}
    assert {"[bold]markup[/bold]", 'quo"te\\back', "x" * 300, "記憶" * 40} <= agents
    # What a terminal would act on is written out, here too.
    assert {"\\x1b[31mred\\x1b[0m", "two\\x0alines\\x09tab", "\\u202eright"} <= agents
    assert not UNSAFE.search(text)


def test_the_file_of_metrics_is_put_in_place_whole_and_readable_for_others(home, tmp_path):
    target = tmp_path / "memcli.prom"
    target.write_text("old")
    before = target.stat().st_ino
    os.umask(0o077)
    done = home.run("stats", "--prometheus", target)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert parse(target.read_text())
    assert target.stat().st_mode & 0o777 == 0o644
    assert target.stat().st_ino != before, "it was written in place"
    assert [path.name for path in tmp_path.iterdir()] == ["memcli.prom"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "memcli.prom"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(target, "\ud800")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["memcli.prom"]


@pytest.mark.parametrize("name", ["", "missing/memcli.prom"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, name):
    with pytest.raises(UsageError, match=str(tmp_path)):
        write_whole(tmp_path / name, "text")


def test_a_device_is_never_replaced_by_a_file():
    with pytest.raises(UsageError, match="not a regular file"):
        write_whole(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--agent", "nobody"), 2),
        (("--prometheus", "-", "--json"), 2),
        (("--prometheus", "-", "--agent", "default"), 2),
        (("--batches", "--agent", "default"), 2),
        (("--db", "absent.db"), 4),
    ],
)
def test_wrong_calls_end_with_their_exit_code(home, arguments, code):
    done = home.run("stats", *arguments)
    assert done.code == code
    assert done.out == ""
    assert "memcli: " in done.err


def test_stats_does_not_load_what_it_does_not_need(home):
    code = (
        "import sys, memcli.cli\ntry:\n memcli.cli.main()\nexcept SystemExit:\n print(*sys.modules, file=sys.stderr)\n"
    )
    modules = set(home.python(code, "stats").err.split())
    assert "memcli.store.metrics" in modules
    # sqlite-utils imports numpy by itself where there is one.
    assert not {"onnxruntime", "tokenizers", "re2", "memcli.wiring"} & modules

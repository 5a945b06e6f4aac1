"""The command line as its users meet it: real processes, what they print where, and what they exit with."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support_cli import FIXTURES, Home, some_chat, write_jsonl

import memcli
from memcli.errors import EXIT_CODES

HEAVY = ("numpy", "onnxruntime", "tokenizers", "sqlite_utils")
MODELS = ("model pull", "model import", "model list", "model info", "model use", "model remove")
COMMANDS = tuple(
    tuple(name.split())
    for name in (
        *("ingest", "search", "stats", "reindex", "formats", "config show", "bench ingest", "rules list"),
        *MODELS,
    )
)
STAGES = ("read", "filter", "extract", "embed", "dedup", "commit")
REPORT = {
    "run_id": None,
    "db": None,
    "seconds": None,
    "files": {"seen", "read", "unchanged", "failed"},
    "lines": {"read", "skipped", "rejected"},
    "messages": {"read", "new", "duplicate", "filtered", "pending"},
    "windows": {"processed", "skipped_by_rate", "failed"},
    "memories": {"created", "merged_exact", "merged_near", "review"},
    "embedded": None,
    "embed_reused": None,
    "batches": None,
    "timings": set(STAGES),
    "cost_usd": None,
    "messages_per_second": None,
}
# Of the report itself, and of its files.
MAY_BE_ADDED = {
    "redacted",
    "dry_run",
    "stopped",
    "formats",
    "unknown",
    "embed_calls",
    "embed_tokens",
    "scan_seconds",
    "models",
    "waiting",
    "expectation",
}
HIT = {
    "memory_id",
    "content",
    "type",
    "importance",
    "keywords",
    "score",
    "agent_id",
    "session_id",
    "timestamp",
    "tags",
    "sources",
}
TEA = [
    {"id": "1", "session_id": "s", "role": "user", "content": "I prefer green tea over coffee.", "ts": "2026-03-01"},
    {"id": "2", "session_id": "s", "role": "assistant", "content": "Noted, green tea it is.", "ts": "2026-03-02"},
    {"id": "3", "session_id": "s", "role": "user", "content": "The train leaves at nine tomorrow.", "ts": "2026-03-03"},
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory, data, nursery):
    """A database with the fixtures in it, and the first report about it; for tests that only read."""
    home = Home(tmp_path_factory.mktemp("filled"), data, nursery)
    home.first = home.run("ingest", FIXTURES, "--json")
    return home


@pytest.fixture
def tea(tmp_path):
    return write_jsonl(tmp_path / "tea.jsonl", TEA)


def _texts(home):
    return [text for (text,) in home.rows("SELECT text FROM messages WHERE filter_reason IS NULL ORDER BY id")]


# --- help and version ------------------------------------------------------------------------------------------------


def test_the_installed_command_is_memcli(home):
    script = Path(sys.executable).with_name("memcli")
    found = str(script) if script.exists() else shutil.which("memcli")
    if found is None:
        pytest.skip("memcli is not installed")
    done = subprocess.run([found, "--version"], env=home.env, capture_output=True, text=True, check=True)
    assert done.stdout == f"memcli {memcli.__version__}\n"
    assert done.stderr == ""


def test_the_version_is_printed(home):
    done = home.run("--version")
    assert (done.code, done.out, done.err) == (0, f"memcli {memcli.__version__}\n", "")


def test_help_lists_the_commands_and_every_exit_code(home):
    done = home.run("--help")
    assert done.code == 0
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^ *{code}: {re.escape(meaning)}$", done.out, re.MULTILINE), code
    for name in ("ingest", "search", "config"):
        assert re.search(rf"^ *{name} +\w", done.out, re.MULTILINE)
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself_with_an_example(home, command, flag):
    done = home.run(*command, flag)
    assert done.code == 0
    assert f"Example: memcli {' '.join(command)}" in done.out


def _imported(home, *arguments):
    code = (
        "import sys, memcli.cli\n"
        "try:\n"
        "    memcli.cli.main()\n"
        "except SystemExit as end:\n"
        "    print('code', end.code, *sys.modules, file=sys.stderr)\n"
    )
    return home.python(code, *arguments).err.split()


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("ingest", "-h")], ids=" ".join)
def test_help_imports_nothing_heavy(home, arguments):
    code, number, *modules = _imported(home, *arguments)
    assert (code, number) == ("code", "0")
    assert "typer" in modules
    assert not {*HEAVY, "rich"} & set(modules)


def test_what_help_must_not_import_is_what_a_first_ingest_imports(tmp_path):
    chat = write_jsonl(tmp_path / "chat.jsonl", some_chat(4))
    assert set(HEAVY) <= set(_imported(Home(tmp_path / "home"), "ingest", chat))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--quiet", "--verbose"])
def test_quiet_and_verbose_are_taken_everywhere(home, command, flag):
    done = home.run(*command, flag, "-h")
    assert done.code == 0, done.err
    assert flag in done.out


# --- ingest ----------------------------------------------------------------------------------------------------------


def test_the_report_is_one_json_document_with_the_promised_keys(filled):
    done = filled.first
    assert done.code == 0
    assert done.err == ""
    report = done.json
    assert REPORT.keys() <= report.keys() <= REPORT.keys() | MAY_BE_ADDED
    for name, keys in REPORT.items():
        assert keys is None or keys <= set(report[name]) <= keys | MAY_BE_ADDED, name
    assert report["db"] == str(filled.db)
    assert report["run_id"] == 1
    files = report["files"]
    assert files["seen"] == files["read"] >= 5
    assert files["unchanged"] == files["failed"] == 0


def test_the_reports_figures_are_those_of_the_database(filled):
    report = filled.first.json
    (messages,) = filled.rows("SELECT count(*), count(filter_reason) FROM messages")
    assert messages == (report["messages"]["new"], sum(report["messages"]["filtered"].values()))
    assert report["messages"]["read"] == report["messages"]["new"] + report["messages"]["duplicate"]
    merged = report["memories"]["merged_exact"] + report["memories"]["merged_near"]
    assert filled.rows("SELECT count(*) FROM memories") == [(report["memories"]["created"] + merged,)]
    assert filled.rows("SELECT count(*) FROM active_memories") == [(report["memories"]["created"],)]
    assert filled.rows("SELECT sum(count) FROM segments")[0][0] >= report["embedded"] > 0
    assert filled.rows("SELECT count(*) FROM windows") == [(report["windows"]["processed"],)]
    assert filled.rows("SELECT count(*) FROM batches") == [(report["batches"],)]
    assert filled.rows("SELECT count(*), sum(line) FROM files") == [(report["files"]["read"], report["lines"]["read"])]


def test_a_second_run_reads_nothing_embeds_nothing_and_writes_nothing(home):
    first = home.run("ingest", FIXTURES, "--json").json
    before = home.db.read_bytes()
    done = home.run("ingest", FIXTURES, "--json")
    assert done.code == 0
    report = done.json
    assert report["run_id"] is None
    assert report["files"]["unchanged"] == report["files"]["seen"] == first["files"]["read"]
    assert report["files"]["read"] == report["files"]["failed"] == 0
    assert report["lines"] == {"read": 0, "skipped": {}, "rejected": 0}
    assert report["embedded"] == report["batches"] == report["messages"]["read"] == 0
    assert home.db.read_bytes() == before
    assert "Nothing new" in home.run("ingest", FIXTURES).out


def test_every_rejected_line_is_explained_with_its_place_and_the_rest_is_taken(home, tmp_path):
    path = tmp_path / "chat.jsonl"
    good = json.dumps(TEA[0])
    path.write_text(f"{good}\n{{broken\n[1, 2]\n\n{json.dumps(TEA[1])}\n17\n")
    done = home.run("ingest", path, "--json")
    assert done.code == 3
    assert done.json["lines"]["rejected"] == 3
    assert done.json["messages"]["new"] == 2
    explained = re.findall(rf"^{re.escape(str(path))}:(\d+): (\S.*)$", done.err, re.MULTILINE)
    assert [line for line, _ in explained] == ["2", "3", "6"]
    assert "a list, not an object" in explained[1][1]
    assert home.rows("SELECT line, reason FROM rejected_lines ORDER BY line") == [
        (int(line), reason) for line, reason in explained
    ]
    assert "rejected_lines" in done.err
    again = home.run("ingest", path)
    assert (again.code, again.err) == (0, "")


def test_of_many_rejected_lines_the_rest_is_counted_and_found_in_the_table(home, tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(TEA[0]) + "\n" + "{broken\n" * 500)
    done = home.run("ingest", path)
    shown = done.err.count(f"{path}:")
    assert done.code == 3
    assert f"{500 - shown} more" in done.err
    assert home.rows("SELECT count(*) FROM rejected_lines") == [(500,)]


def test_standard_input_is_a_transcript(home, tea):
    done = home.run("ingest", "-", "--json", stdin=tea.read_bytes())
    assert done.code == 0
    assert done.json["messages"]["new"] == 3
    assert home.run("ingest", "-", "--json", stdin=tea.read_bytes()).json["messages"]["duplicate"] == 3
    assert _texts(home) == [message["content"] for message in TEA]


def test_fields_are_mapped(home, tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [{"author": "user", "meta": {"body": "I prefer green tea."}, "at": 1e9}])
    assert home.run("ingest", path).code == 3
    assert home.run("ingest", path, "--map", "role=author,content=meta.body,timestamp=at").code == 0
    assert home.rows("SELECT text, timestamp FROM messages") == [("I prefer green tea.", "2001-09-09T01:46:40.000Z")]


def test_the_format_is_taken_as_named(home, tea):
    done = home.run("ingest", tea, "--format", "claude-code", "--json")
    assert done.json["messages"]["new"] == 0
    assert home.run("ingest", tea, "--format", "flat", "--json").json["messages"]["new"] == 3


def test_since_roles_and_limit_choose_messages(home, tea, tmp_path):
    assert home.run("ingest", tea, "--since", "2026-03-02", "--roles", "user").code == 0
    assert home.rows("SELECT external_id, filter_reason FROM messages ORDER BY id") == [
        ("1", "before_since"),
        ("2", "role"),
        ("3", None),
    ]
    other = Home(tmp_path / "other", home.data, home.nursery)
    stopped = other.run("ingest", tea, "--limit", "2", "--json").json
    assert (stopped["messages"]["read"], stopped["stopped"]) == (2, "limit")
    rest = other.run("ingest", tea, "--limit", "2", "--json").json
    assert (rest["messages"]["read"], rest["messages"]["new"]) == (1, 1)


def test_pending_windows_wait_until_they_are_flushed(home, tea):
    profile = ("--profile", "conservative", "--extract", "verbatim")
    first = home.run("ingest", tea, *profile, "--json").json
    assert (first["messages"]["pending"], first["memories"]["created"]) == (0, 0)  # under 50 characters: all too short
    long = tea.with_name("long.jsonl")
    write_jsonl(long, [{**message, "id": f"l{message['id']}", "content": message["content"] * 3} for message in TEA])
    waiting = home.run("ingest", long, *profile, "--json").json
    assert (waiting["messages"]["pending"], waiting["windows"]["processed"]) == (3, 0)
    flushed = home.run("ingest", long, *profile, "--flush", "--json").json
    assert (flushed["messages"]["pending"], flushed["windows"]["processed"]) == (0, 1)
    assert flushed["memories"]["created"] == 3


def test_a_dry_run_reports_the_same_and_leaves_nothing(home, tea):
    dry = home.run("ingest", tea, "--dry-run", "--json").json
    assert dry["dry_run"] is True
    assert not home.db.exists()
    assert "not touched" in home.run("ingest", tea, "--dry-run").out
    real = home.run("ingest", tea, "--json").json
    timed = {"seconds", "timings", "scan_seconds", "messages_per_second", "dry_run"}
    assert {key: dry[key] for key in dry.keys() - timed} == {key: real[key] for key in real.keys() - timed}
    before = home.db.read_bytes()
    more = write_jsonl(tea.with_name("more.jsonl"), some_chat(20))
    assert home.run("ingest", more, "--dry-run", "--json").json["messages"]["new"] == 20
    assert home.db.read_bytes() == before


def test_tiers_and_the_starter_rules_are_chosen(home, tea, tmp_path):
    assert home.run("ingest", tea).code == 0
    assert set(home.rows("SELECT extraction_method, type FROM memories")) == {
        ("rules:preference", "semantic"),
        ("verbatim", "episodic"),
    }
    for number, flags in enumerate([("--no-starter-rules",), ("--extract", "verbatim")]):
        other = Home(tmp_path / str(number), home.data, home.nursery)
        assert other.run("ingest", tea, *flags).code == 0
        assert set(other.rows("SELECT extraction_method FROM memories")) == {("verbatim",)}
    assert set(other.rows("SELECT tier FROM window_tiers")) == {("verbatim",)}


def test_verbose_has_one_timing_line_per_batch_and_stage(home, tmp_path):
    chat = write_jsonl(tmp_path / "chat.jsonl", some_chat(50))
    done = home.run("ingest", chat, "--batch-size", "20", "--verbose", "--json")
    found = Counter(re.findall(r"^memcli: batch (\d+): (\w+) [\d.]+ ms$", done.err, re.MULTILINE))
    read = range(1, 4)  # the batches after those close windows that were still open
    assert {pair for pair in found if int(pair[0]) in read} == {
        (str(batch), stage) for batch in read for stage in STAGES
    }
    assert set(found.values()) == {1}
    assert {int(batch) for batch, _ in found} == set(range(1, done.json["batches"] + 1))


def test_quiet_writes_no_warning_and_the_report_still_goes_to_stdout(home, tea):
    loud = home.run("ingest", tea, "--profile", "consevative", "--dry-run")
    assert "warning" in loud.err
    assert 'did you mean "conservative"' in loud.err
    quiet = home.run("ingest", tea, "--profile", "consevative", "--quiet", "--json")
    assert quiet.err == ""
    assert quiet.json["messages"]["new"] == 3


# --- configuration ---------------------------------------------------------------------------------------------------


def test_config_show_tells_every_value_and_where_it_comes_from(home):
    config = home.folder / "memcli.toml"
    config.write_text('batch_size = 7\nwait = 3\n[profiles.local]\nmin_chars = 4\nfocus = "[bold]x[/]"\n')
    env = {"MEMCLI_WAIT": "9", "MEMCLI_EXTRACT": "verbatim"}
    done = home.run("config", "show", "--db", "mine.db", "--json", env=env)
    assert (done.code, done.err) == (0, "")
    values = {name: (item["value"], item["from"]) for name, item in done.json.items()}
    assert values["db"] == (str(home.folder / "mine.db"), "flag --db")
    assert values["batch_size"] == (7, f"file {config}")
    assert values["wait"] == (9, "environment MEMCLI_WAIT")
    assert values["extract"] == (["verbatim"], "environment MEMCLI_EXTRACT")
    assert values["embed_batch_size"] == (64, "default")
    assert values["profiles.local.min_chars"] == (4, f"file {config}")
    shown = home.run("config", "show", "--db", "mine.db", env=env)
    table = dict(re.findall(r"^(\S+) +(.*\S)$", shown.out, re.MULTILINE))
    assert set(values) <= set(table)
    assert table["batch_size"].split() == ["7", "file", str(config)]
    assert table["wait"].split()[1:] == ["environment", "MEMCLI_WAIT"]
    assert table["profiles.local.focus"].startswith("[bold]x[/]")


def test_a_named_configuration_file_is_used_and_flags_win_over_it(home, tea):
    config = home.folder / "other.toml"
    config.write_text('extract = "verbatim"\nagent = "mira"\n')
    assert home.run("ingest", tea, "--config", config).code == 0
    assert set(home.rows("SELECT agent_id, extraction_method FROM memories")) == {("mira", "verbatim")}
    more = write_jsonl(tea.with_name("more.jsonl"), TEA)
    assert home.run("ingest", more, "--config", config, "--agent", "noah").code == 0
    assert set(home.rows("SELECT agent_id FROM sessions")) == {("mira",), ("noah",)}


# --- search ----------------------------------------------------------------------------------------------------------


def test_search_json_has_the_promised_shape(filled):
    done = filled.run("search", "what did we decide about retries", "backups", "-k", "3", "--json")
    assert (done.code, done.err) == (0, "")
    retries, backups = done.json
    assert retries["query"] == "what did we decide about retries"
    assert backups["query"] == "backups"
    for answer in done.json:
        assert set(answer) == {"query", "seconds", "cached", "hits"}
        assert len(answer["hits"]) == 3
        scores = [hit["score"] for hit in answer["hits"]]
        assert scores == sorted(scores, reverse=True)
        for hit in answer["hits"]:
            assert set(hit) == HIT
            for source in hit["sources"]:
                assert set(source) == {"message_id", "external_id", "path", "start", "end"}
                ((text,),) = filled.rows("SELECT text FROM messages WHERE id = ?", source["message_id"])
                assert 0 <= source["start"] < source["end"] <= len(text)
    assert "decided" in retries["hits"][0]["content"]
    assert "retries" in retries["hits"][1]["content"]
    assert retries["hits"][0]["tags"]["project:parcelhook"] == 1.0


def test_search_shows_what_it_found_and_where_it_comes_from_uncut(filled):
    done = filled.run("search", "retries", "-k", "2")
    (answer,) = filled.run("search", "retries", "-k", "2", "--json").json
    assert done.code == 0
    for place, hit in enumerate(answer["hits"], 1):
        assert f"{place}. {hit['content']}\n" in done.out
        source = hit["sources"][0]
        assert f"{source['path']} message {source['external_id'] or source['message_id']}\n" in done.out
    assert "project:parcelhook" in done.out


def test_search_filters(filled):
    def found(*flags):
        (answer,) = filled.run("search", "the retries", "-k", "1000", "--json", *flags).json
        return answer["hits"]

    everything = found()
    agents = {hit["agent_id"] for hit in everything}
    assert len(agents) > 1
    for agent in agents:
        assert {hit["agent_id"] for hit in found("--agent", agent)} == {agent}
    assert {hit["type"] for hit in found("--type", "semantic")} == {"semantic"}
    tagged = found("--tag", "project:parcelhook")
    assert 0 < len(tagged) < len(everything)
    assert all("project:parcelhook" in hit["tags"] for hit in tagged)
    middle = sorted(hit["timestamp"] for hit in everything if hit["timestamp"])[len(everything) // 2]
    later = found("--since", middle)
    assert 0 < len(later) < len(everything)
    assert all(hit["timestamp"] >= middle for hit in later)


def test_queries_come_from_a_file_and_from_standard_input(filled, tmp_path):
    path = tmp_path / "queries.txt"
    path.write_text("\ufeffretries\n\n  backups \n")
    assert [each["query"] for each in filled.run("search", "--queries", path, "--json").json] == ["retries", "backups"]
    assert [each["query"] for each in filled.run("search", "-", "--json", stdin="a lease\n").json] == ["a lease"]

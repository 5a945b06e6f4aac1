"""What is no import is refused before anything is written; a count of one is told as one; numbers are numbers."""

import gzip

import pytest
from support_cli import write_jsonl


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", b"# A page\n\nwith some lines\nand no JSON\n" * 50),
        ("bytes.bin", bytes(range(256)) * 40),
        ("array.json", b'[{"content": "one"}]\n'),
        ("pretty.json", b'{\n  "content": "one"\n}\n'),
        ("page.gz", gzip.compress(b"a page\nand no JSON\n")),
    ],
)
def test_a_file_without_a_json_object_is_refused_in_two_lines_and_nothing_is_written(home, tmp_path, name, content):
    path, good = tmp_path / name, write_jsonl(tmp_path / "good.jsonl", [{"content": "Mira drinks tea."}])
    path.write_bytes(content)
    done = home.run("import", good, path)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 2
    assert str(path) in done.err
    assert "memcli export" in done.err
    assert "memcli ingest" in done.err
    assert not home.db.exists()


def test_bad_lines_before_the_first_object_are_rejected_one_by_one(home, tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text('no json\n{"content": "Mira drinks tea."}\n')
    done = home.run("import", path)
    assert done.code == 3
    assert f"{path}:1: " in done.err
    assert home.rows("SELECT content FROM active_memories") == [("Mira drinks tea.",)]


def test_a_transcript_is_sent_to_ingest(home, tmp_path):
    path = write_jsonl(tmp_path / "chat.jsonl", [{"type": "user", "message": {"role": "user", "content": "Hello."}}])
    done = home.run("import", path)
    assert done.code == 3
    assert "memcli ingest" in done.err


def test_a_count_of_one_is_told_as_one(home, tmp_path):
    path = write_jsonl(tmp_path / "one.jsonl", [{"content": "Mira drinks tea."}])
    assert home.run("import", path).code == 0
    assert "1 message, 1 memory, 1 provenance, 1 segment checked." in home.run("check").out
    assert "1 vector in 1 segment, 1 in the keyword index." in home.run("reindex", "--check").out
    assert "1 memory, 1 message they come from" in home.run("export", "--out", tmp_path / "out.jsonl").out
    last = home.run("stats").out.splitlines()[-1]
    assert last.endswith("1 memory, 1 message")


@pytest.mark.parametrize("number", ["NaN", "1e999"])
@pytest.mark.parametrize(
    "line",
    [
        ["dedup", "--threshold"], ["dedup", "--rethreshold"], ["bench", "dedup", "--threshold"],
        ["bench", "scan", "--threshold"], ["rules", "add", "tea", "--importance"], ["search", "x", "--min-importance"],
        ["ingest", "x", "--max-usd"], ["ingest", "x", "--wait"],
    ],
)  # fmt: skip
def test_what_is_no_finite_number_is_wrong_usage(home, line, number):
    done = home.run(*line, number)
    assert (done.code, done.out) == (2, "")
    assert line[-1].strip("-") in done.err


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize("flag", ["--price", "--window-price"])
def test_a_price_is_a_finite_number_of_dollars(home, flag, number):
    prices = f"small={number},1" if flag == "--price" else f"small={number}"
    plan = ["cost", "scenario", "--messages-per-day", "5", "--agents", "1", "--profile", "balanced"]
    done = home.run(*plan, "--model", "small=m", flag, prices)
    assert (done.code, done.out) == (2, "")
    assert f"{flag} {prices}" in done.err


@pytest.mark.parametrize("name", ["near_threshold", "max_usd", "max_usd_per_month", "embed_price", "search_cache_ttl"])
@pytest.mark.parametrize("number", ["nan"])
def test_a_setting_is_a_finite_number(home, tmp_path, name, number):
    settings = tmp_path / "memcli.toml"
    settings.write_text(f"{name} = {number}\n")
    assert home.run("config", "show", "--config", settings).code == 2
    done = home.run("config", "show", env={f"MEMCLI_{name.upper()}": number})
    assert done.code == 2
    assert f"MEMCLI_{name.upper()}" in done.err


def test_settings_are_shown_as_the_file_takes_them(home):
    shown = {line.split()[0]: line.split()[1] for line in home.run("config", "show").out.splitlines()[1:]}
    assert (shown["redact"], shown["max_usd"], shown["batch_size"]) == ("true", "-", "1024")


@pytest.mark.parametrize(
    "words",
    [
        *(("dedup",), ("dedup", "--dry-run"), ("dedup", "--undo", "1"), ("reindex",), ("forget", "1", "--yes")),
        *(("rules", "remove", "early"), ("check", "--repair"), ("search", "tea"), ("backup", "copy.db")),
    ],
)
def test_an_empty_file_is_no_database_and_is_left_alone(nursery, home, words):
    """Such a file is what a run leaves that is killed at its very start."""
    home.folder.mkdir(exist_ok=True)
    home.db.touch()
    done = nursery.run(home, *words)
    assert done.code == 4, done
    assert "memcli ingest PATH" in done.err
    assert home.db.stat().st_size == 0

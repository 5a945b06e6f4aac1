"""`memcli bench scale` ingests growing numbers of messages, and says how each stage grows."""

import json
import signal
from pathlib import Path

import pytest
from support_cli import PATIENCE, Home, wait_for

from memcli.bench import corpus, scale
from memcli.bench.scale import exponents, product, slope
from memcli.render import show_scale_benchmark

STAGES = ["read", "filter", "extract", "embed", "dedup: scan", "dedup: judge", "commit", "outside stages"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def done(home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    found = home.run("bench", "scale", "--sizes", "200,800", "--json", "--quiet", env={"TMPDIR": str(folder)})
    assert found.code == 0, found.err
    assert list(folder.iterdir()) == [], "the generated files and databases must be deleted"
    return found


def test_each_size_is_ingested_whole_and_a_run_with_nothing_new_follows(done):
    few, many = done.json["sizes"]
    assert [few["messages"], many["messages"]] == [200, 800]
    for size in (few, many):
        assert list(size["stages"]) == STAGES
        assert sum(size["stages"].values()) == pytest.approx(size["seconds"], abs=0.01)
        assert size["no_change"]["new_messages"] == 0
        assert size["no_change"]["unchanged_files"] == size["files"]
        assert size["added"]["new_messages"] == scale.ADDED
        assert size["memories"]["merged_exact"] + size["memories"]["merged_near"] > 0
        assert size["peak_rss_mb"] > 20
        assert size["multiply_adds"] == size["vectors"] * (size["vectors"] - 1) // 2 * 256
    assert many["file_mb"] > few["file_mb"]
    assert done.json["product"]["seconds_per_tera"] > 0


def test_the_exponents_are_those_of_the_figures_it_prints(done):
    few, many = done.json["sizes"]
    assert set(done.json["exponents"]) == {
        *STAGES, "seconds", "cpu_seconds", "peak_rss_mb", "file_mb", "no_change", "added"
    }  # fmt: skip
    found = done.json["exponents"]["embed"]
    assert found["all"] == found["last"] == slope([200, 800], [few["stages"]["embed"], many["stages"]["embed"]])


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_the_exponent_is_that_of_the_power(power):
    sizes = [1e4, 1e5, 1e6]
    assert slope(sizes, [3.0 * size**power for size in sizes]) == pytest.approx(power)
    assert slope([1e4], [1.0]) is None
    assert slope(sizes, [0.0, 1.0, 2.0]) is None


def made_up(linear, quadratic):
    return [
        {
            "messages": count, "vectors": count, "multiply_adds": count * count * 128, "seconds": 1.0,
            "cpu_seconds": 1.0, "peak_rss_mb": 1.0, "file_mb": 1.0, "no_change": {"seconds": 1.0},
            "added": {"seconds": 1.0},
            "stages": {"dedup: judge": linear * count, "dedup: scan": quadratic * count * count * 128},
        }
        for count in (10_000, 100_000, 1_000_000)
    ]  # fmt: skip


def test_the_product_has_its_constants_and_its_share_of_dedup():
    found = product(made_up(50e-6, 8e-12), 4.0)
    assert found["seconds_per_tera"] == 4.0
    assert found["tera_multiply_adds"] == 128
    assert found["scan_seconds_per_tera"] == pytest.approx(8)
    assert found["share"] == pytest.approx(1024 / 1074, abs=0.001)


def test_what_is_not_the_product_is_told_from_it_and_has_an_exponent_of_its_own():
    found = exponents(made_up(50e-6, 4e-12))
    assert found["dedup: judge"] == {"all": 1.0, "last": 1.0}
    assert found["dedup: scan"] == {"all": 2.0, "last": 2.0}


def test_what_only_begins_to_grow_faster_shows_in_the_last_step():
    sizes = made_up(50e-6, 4e-12)
    for size in sizes:
        size["stages"] = {"both": sum(size["stages"].values())}
    found = exponents(sizes)["both"]
    assert 1 < found["all"] < found["last"] < 2


def test_the_report_is_plain_lines_of_80_columns_and_marks_what_is_above_linear(home, done, capsys):
    shown = home.run("bench", "scale", "--sizes", "200,400")
    assert shown.code == 0
    assert "\x1b" not in shown.out
    assert "200 messages: ingesting" in shown.err
    document = done.json
    document["exponents"]["commit"]["last"] = 1.9
    show_scale_benchmark(document)
    out = capsys.readouterr().out
    assert next(line for line in out.split("\n") if line.startswith("commit ")).endswith("!")
    assert "commit" in next(line for line in out.split("\n") if line.startswith("! above"))
    assert max(map(len, out.split("\n"))) <= 80


def test_one_size_says_nothing_of_growth(done, capsys):
    sizes = done.json["sizes"][:1]
    show_scale_benchmark(done.json | {"sizes": sizes, "exponents": exponents(sizes)})
    out = capsys.readouterr().out
    assert "one size tells nothing of growth" in out
    assert "faster than linearly" not in out


def _command_of(process):
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_interrupted_it_leaves_neither_files_nor_a_process_behind(home, tmp_path):
    with home.start("bench", "scale", "--sizes", "20000", env=home.env | {"TMPDIR": str(tmp_path)}) as process:
        wait_for(lambda: list(tmp_path.glob("*/memory.db")), process)
        folder = next(tmp_path.iterdir()).name
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 130
    assert list(tmp_path.iterdir()) == []
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if folder in _command_of(pid)]


@pytest.mark.parametrize(("sizes", "said"), [("ten", "not whole numbers"), ("5", "fewer than 10"),
                                             ("99999999999", "are free")])  # fmt: skip
def test_sizes_that_cannot_be_are_refused(home, sizes, said):
    found = home.run("bench", "scale", "--sizes", sizes)
    assert found.code == 2
    assert said in found.err


def test_generating_more_takes_no_more_memory(monkeypatch):
    whole = list(corpus.generate(400, 7))
    monkeypatch.setattr(corpus, "REMEMBERED", 50)
    held = []
    original = corpus._text
    monkeypatch.setattr(corpus, "_text", lambda draw, said: (held.append(len(said)), original(draw, said))[1])
    messages = list(corpus.generate(400, 7))
    assert max(held) <= 50
    assert messages[:50] == whole[:50]
    assert len({json.dumps(each) for each in messages}) == 400

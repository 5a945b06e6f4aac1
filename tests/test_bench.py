"""`memcli bench ingest` measures what it says, on messages that are the same for the same seed."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support_cli import Home

from memcli.bench import corpus, measure
from memcli.bench.compare import LEAST_NOISE, UNKNOWN_NOISE, compare, read_baseline
from memcli.bench.corpus import generate
from memcli.bench.ingest import Benchmark, Plan, Run, Sample
from memcli.errors import UsageError

RUNS = ["first run", "no change", "1 % growth", "a tenth"]
STAGES = ["read", "filter", "extract", "embed", "dedup", "commit", "outside stages"]
KEYS = {"benchmark", "versions", "machine", "timed", "messages", "files", "seed", "repeat", "corpus", "runs",
        "memory_growth"}  # fmt: skip
RUN_KEYS = {"name", "messages", "files", "seconds", "cpu_seconds", "messages_per_second", "peak_rss_mb", "matrix_mb",
            "stages", "samples", "report"}  # fmt: skip
PLAN = ("--messages", "300", "--files", "5")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def done(home):
    """One real measurement; the settings around it must not reach what is measured."""
    (home.folder / "config/memcli").mkdir(parents=True)
    (home.folder / "config/memcli/memcli.toml").write_text("batch_size = 7")
    return home.run("bench", "ingest", *PLAN, "--repeat", "2", "--json", env={"MEMCLI_BATCH_SIZE": "7"})


def test_the_document_has_the_documented_keys(done):
    document = done.json
    assert done.code == 0, done.err
    assert set(document) == KEYS
    assert [run["name"] for run in document["runs"]] == RUNS
    for run in document["runs"]:
        assert set(run) == RUN_KEYS
        assert list(run["stages"]) == STAGES
        assert len(run["samples"]) == 2
    assert {"memcli", "python", "sqlite", "numpy", "onnxruntime"} <= set(document["versions"])
    assert {"processor", "cores", "memory_bytes", "system"} == set(document["machine"])
    assert set(document["memory_growth"]) == {"messages_ratio", "peak_rss_ratio", "without_matrix_ratio"}


def test_each_run_did_what_its_name_says(done):
    first, same, growth, tenth = (run["report"] for run in done.json["runs"])
    assert (first["files"]["read"], first["messages"]["new"]) == (5, 300)
    assert (same["files"]["unchanged"], same["messages"]["read"], same["run_id"]) == (5, 0, None)
    assert (growth["files"]["read"], growth["files"]["unchanged"], growth["messages"]["new"]) == (1, 4, 3)
    assert (tenth["files"]["read"], tenth["messages"]["new"]) == (1, 30)
    assert first["batches"] < 300 / 7, "the user's settings reached the measured run"
    assert [run["messages"] for run in done.json["runs"]] == [300, 0, 3, 30]
    assert [run["files"] for run in done.json["runs"]] == [5, 5, 5, 1]


def test_stages_and_what_is_outside_of_them_make_up_the_process(done):
    for run in done.json["runs"]:
        for sample in run["samples"]:
            assert sum(sample["stages"].values()) == pytest.approx(sample["seconds"], abs=0.01)
            assert sample["stages"]["outside stages"] > 0
        assert run["cpu_seconds"] > 0
        assert 20 < run["peak_rss_mb"] < 2000
    assert done.json["runs"][0]["matrix_mb"] > done.json["runs"][3]["matrix_mb"]


def test_progress_is_on_stderr_and_quiet_leaves_it_out(home, done):
    assert "round 2 of 2: first run" in done.err
    assert home.run("bench", "ingest", "--messages", "10", "--files", "1", "--json", "--quiet").err == ""


def test_the_measured_memory_is_the_commands_own_and_not_the_callers(tmp_path):
    ballast = bytearray(400_000_000)
    command = [sys.executable, "-I", "-S", measure.__file__, tmp_path / "out", sys.executable, "-S", "-c", "print(1)"]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert found["peak_rss"] < len(ballast) / 4
    assert found["code"] == 0
    assert (tmp_path / "out").read_text() == "1\n"


def test_the_measured_memory_and_time_are_those_of_the_command(tmp_path):
    work = "import time; b = bytearray(300_000_000); time.sleep(0.3); raise SystemExit(3)"
    command = [sys.executable, "-I", "-S", measure.__file__, tmp_path / "out", sys.executable, "-S", "-c", work]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert 300_000_000 < found["peak_rss"] < 400_000_000
    assert 0.3 < found["seconds"] < 30
    assert found["code"] == 3


# --- the corpus ------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_messages_and_a_longer_corpus_begins_with_the_shorter():
    assert list(generate(200, 5)) == list(generate(300, 5))[:200]
    assert list(generate(200, 5)) != list(generate(200, 6))


def test_duplicates_of_each_kind_have_their_share():
    texts = [message["content"] for message in generate(20_000, 3)]
    seen, shapes = set(), set()
    found = dict.fromkeys(("exact", "reformatted", "trap", "noise"), 0)
    for text in texts:
        shape = corpus._NUMBER.sub("#", text, count=1)
        if text in corpus._NOISE:
            found["noise"] += 1
        elif text in seen:
            found["exact"] += 1
        elif text.startswith("- **"):
            found["reformatted"] += 1
        elif shape in shapes:
            found["trap"] += 1
        seen.add(text)
        shapes.add(shape)
    for kind, share in (("noise", corpus.NOISE_SHARE), ("exact", corpus.EXACT_SHARE), ("trap", corpus.TRAP_SHARE),
                        ("reformatted", corpus.REFORMATTED_SHARE)):  # fmt: skip
        assert found[kind] / len(texts) == pytest.approx(share, rel=0.2), kind


# --- comparing -------------------------------------------------------------------------------------------------------


def faster(document, factor):
    """A made-up document of the same plan in which everything took less time."""
    made = copy.deepcopy(document)
    for run in made["runs"]:
        for part in (run, *run["samples"]):
            part["seconds"] /= factor
            part["stages"] = {stage: seconds / factor for stage, seconds in part["stages"].items()}
    return made


def by_figure(comparisons):
    return {(each.run, each.figure): each for each in comparisons}


@pytest.fixture
def document():
    """A document as it would be, of two samples that differ by 10 %."""
    runs = []
    for name in RUNS:
        samples = [
            Sample(2.0 * times, 1.0, 100.0, 1.0, {"timings": dict.fromkeys(STAGES[:6], 0.3 * times), "messages": {}})
            for times in (1.0, 1.1)
        ]
        runs.append(Run(name, 300, 5, samples))
    return Benchmark(Plan(300, 5, 7, 2), "abc", runs).to_json()


def test_a_baseline_that_was_much_faster_marks_what_became_worse(document):
    found = by_figure(compare(faster(document, 3), document))
    assert found["first run", "seconds"].ratio == pytest.approx(3)
    assert found["first run", "seconds"].worse
    assert found["no change", "embed"].worse
    assert not found["first run", "peak_rss_mb"].worse
    assert found["first run", "peak_rss_mb"].ratio == 1
    assert len(found) == len(RUNS) * (len(STAGES) + 3)


def test_a_baseline_that_was_slower_marks_nothing(document):
    assert not [each for each in compare(faster(document, 0.3), document) if each.worse]


def test_a_difference_within_the_spread_of_the_samples_is_noise(document):
    spread = 0.2 / 2.1
    found = by_figure(compare(faster(document, 1.08), document))["first run", "seconds"]
    assert found.noise == pytest.approx(spread, rel=0.01)
    assert not found.worse
    assert by_figure(compare(faster(document, 1.12), document))["first run", "seconds"].worse


def test_steady_samples_still_have_the_least_noise_and_a_single_one_much(document):
    steady = copy.deepcopy(document)
    for run in steady["runs"]:
        run["samples"] = [{**run["samples"][0], "seconds": run["seconds"]}] * 2
    assert by_figure(compare(steady, steady))["first run", "seconds"].noise == LEAST_NOISE
    single = copy.deepcopy(document)
    for run in single["runs"]:
        del run["samples"][1]
    assert by_figure(compare(single, document))["first run", "seconds"].noise == UNKNOWN_NOISE


def test_hundredths_of_a_second_are_never_worse(document):
    small, large = faster(document, 100), faster(document, 50)
    assert not [each for each in compare(small, large) if each.worse and each.figure != "cpu_seconds"]


def test_compare_on_the_command_line_marks_a_made_up_faster_baseline(home, done, tmp_path):
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(faster(done.json, 20)))
    shown = home.on_terminal("bench", "ingest", *PLAN, "--compare", baseline, "--quiet")
    assert shown.code == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.out).split("\n")
    assert max(map(len, lines)) <= 80
    line = next(line for line in lines if line.startswith("seconds  "))
    assert line.count("!") == len(RUNS)
    assert not [line for line in lines if line.endswith("worse by more than the noise: 0 of 40 figures")]
    told = home.run("bench", "ingest", *PLAN, "--compare", baseline, "--json", "--quiet").json
    assert set(told) == KEYS | {"comparison"}
    assert set(told["comparison"][0]) == {"run", "figure", "before", "now", "noise", "worse", "ratio"}
    assert any(each["worse"] for each in told["comparison"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ('"text"', "no ingest benchmark"),
        ('{"benchmark": "ingest", "runs": [], "messages": 1, "files": 5, "seed": 7}', "--messages 1"),
        ('{"benchmark": "ingest", "runs": [], "messages": 300, "files": 6, "seed": 7}', "--files 6"),
    ],
)
def test_a_baseline_that_cannot_be_compared_is_refused_before_anything_runs(tmp_path, content, message):
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_baseline(path, Plan(300, 5, 7))


def test_other_messages_are_not_compared(document):
    with pytest.raises(UsageError, match="other messages"):
        compare({**document, "corpus": "other"}, document)


def test_the_program_that_measures_imports_next_to_nothing():
    source = Path(measure.__file__).read_text()
    assert [line for line in source.split("\n") if line.startswith(("import", "from"))] == [
        "import json",
        "import os",
        "import signal",
        "import sys",
        "import time",
    ]

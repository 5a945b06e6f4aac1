"""`memcli bench` measures everything beside the naive way in one run, judges the targets, marks what became worse."""

import json
import re

import pytest
from support_cli import Done, Home

from memcli.bench.contests import PARTS, Part, Round, Sample
from memcli.bench.report import Plan, shown, worst
from memcli.bench.report_compare import compare, read_report
from memcli.bench.targets import Counted, of_statements
from memcli.commands.bench_report import Section
from memcli.errors import UsageError
from memcli.render import report_markdown

NAMES = ["ingest", "embed", "quality", "scan", "search", "cache", "parallel"]
TARGETS = [
    "embedding calls", "texts embedded twice", "embedding in batches", "transactions", "calls of SQLite per batch",
    "look-ups of session tags", "cache hit rate", "index memory, accuracy kept", "two workers, no race",
    "extraction cost, windows", "extraction cost, and rate",
]  # fmt: skip
BARS = re.compile("[█▏▎▍▌▋▊▉]")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


def made_up(rates, name="made", *, less=False, machine="one", size=1.0):
    """A report with one part: memcli's samples, and a rival that never changes."""
    rounds = [Round("about", [Sample("memcli", "own", rate), Sample("naive", "naive", 10.0)]) for rate in rates]
    made = Part(name, "Made", "s", lambda _: rounds[0], less=less)
    return {
        "benchmark": "report", "size": size, "seed": 7, "machine": machine, "versions": {"memcli": "1"},
        "parts": [shown(made, rounds)], "facts": {"false_merges": 0, "hit_rate": 0.1},
        "targets": [{"name": "counted", "met": True, "timed": False}, {"name": "timed", "met": True, "timed": True}],
    }  # fmt: skip


@pytest.fixture(scope="module")
def done(home):
    """One real measurement, two rounds of a twentieth; the settings around it must not reach what is measured."""
    (home.folder / "notes.md").write_text("before\n<!-- begin benchmark -->\nold\n<!-- end benchmark -->\nbehind\n")
    (home.folder / "before.json").write_text(json.dumps(made_up([1e9, 1.1e9], "embed", size=0.05)))
    command = ("bench", "--quick", "--rounds", "2", "--json", "report.json", "--markdown", "notes.md")
    with home.start(*command, "--compare", "before.json", env=home.env | {"MEMCLI_BATCH_SIZE": "7"}) as process:
        out, err = process.communicate(timeout=900)
    return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture(scope="module")
def document(home, done):
    assert done.code == 0, done.err
    return json.loads((home.folder / "report.json").read_text())


def part(document, name):
    return next(each for each in document["parts"] if each["name"] == name)


def ways(document, name):
    return {way["way"]: way for way in part(document, name)["ways"]}


def target(document, name):
    return next(each for each in document["targets"] if each["name"] == name)


# --- what is measured ------------------------------------------------------------------------------------------------


def test_every_part_has_memcli_beside_the_naive_way(document):
    assert [each["name"] for each in document["parts"]] == NAMES
    assert (document["rounds"], document["size"]) == (2, 0.05)
    assert {"memcli", "python", "sqlite", "numpy", "onnxruntime"} <= set(document["versions"])
    for name in NAMES[:-1]:
        kinds = [way["kind"] for way in part(document, name)["ways"]]
        assert kinds[0] == "own"
        assert "naive" in kinds
    assert [way["kind"] for way in part(document, "parallel")["ways"]] == ["own"] * 3


def test_each_figure_has_a_sample_of_every_round_and_their_spread(document):
    for each in document["parts"]:
        for way in each["ways"]:
            assert len(way["samples"]) == (1 if each["same_every_round"] else 2)
            assert way["spread"] == [min(way["samples"]), max(way["samples"])]
            assert min(way["samples"]) > 0


def test_ratios_are_those_of_one_round_and_say_how_much_better_memcli_is(document):
    for each in document["parts"][:-1]:
        own, *others = each["ways"]
        for other in others:
            pairs = list(zip(own["samples"], other["samples"], strict=True))
            expected = [b / a if each["less_is_better"] else a / b for a, b in pairs]
            assert other["ratio_samples"] == pytest.approx(expected, rel=0.01, abs=0.01)
            assert min(expected) - 0.01 <= other["ratio"] <= max(expected) + 0.01


def test_what_is_not_installed_is_said_with_how_to_install_it(document):
    notes = " ".join(note for each in document["parts"] for note in each["notes"])
    for name in document["peers"]["absent"]:
        assert name.lower() in notes.lower()
        assert "pip install 'memcli[bench]'" in notes
    found = {way["way"].lower() for each in document["parts"] for way in each["ways"] if way["kind"] == "peer"}
    assert not found & {name.lower() for name in document["peers"]["absent"]}


def test_each_target_has_its_line(document):
    assert [each["name"] for each in document["targets"]] == TARGETS
    for each in document["targets"]:
        assert set(each) == {"name", "target", "measured", "met", "how", "timed"}
        assert each["measured"]


def test_targets_that_are_counted_are_met(document):
    met = {each["name"] for each in document["targets"] if each["met"]}
    assert met >= {"embedding calls", "texts embedded twice", "transactions", "calls of SQLite per batch",
                   "look-ups of session tags", "cache hit rate", "index memory, accuracy kept"}  # fmt: skip


def test_targets_that_are_timed_say_what_the_parts_say(document):
    ratio = ways(document, "embed")["one text at a time"]["ratio"]
    batches = target(document, "embedding in batches")
    assert batches["measured"] == f"{ratio:.1f} times"
    assert batches["met"] == (ratio >= 10)
    faster = [way["value"] for way in part(document, "parallel")["ways"]]
    workers = target(document, "two workers, no race")
    assert workers["measured"] == f"{min(faster):.2f} to {max(faster):.2f} times"
    assert workers["met"] == (min(faster) >= 2)


def test_quality_is_that_of_pairs_in_the_package(document):
    assert ways(document, "quality")["memcli"]["value"] == 1
    assert document["facts"]["false_merges"] == 0
    assert "237 labelled pairs" in part(document, "quality")["about"]


def test_bench_dedup_takes_the_pairs_of_the_package_where_none_are_named(home, document):
    found = home.run("bench", "dedup", "--json").json
    assert (found["pairs"], found["precision"]) == (237, ways(document, "quality")["memcli"]["value"])


# --- what is counted -------------------------------------------------------------------------------------------------


def counted(home, *flags):
    (home.folder / "counted.jsonl").write_text(
        "".join(json.dumps({"id": f"m{n}", "session_id": f"s{n // 8}", "role": "user", "cwd": f"/srv/{n // 8}",
                            "content": f"The crate {n} stands in row {n * 7} of the hall."}) + "\n" for n in range(60))
    )  # fmt: skip
    code = (
        "import sys, runpy\n"
        "sys.argv[1:1] = ['counts.json', 'ingest', 'counted.jsonl', '--quiet', '--json']\n"
        "runpy.run_module('memcli.cli.bench_traced', run_name='__main__')"
    )
    found = home.python(code, *flags)
    assert found.code == 0, found.err
    return json.loads((home.folder / "counts.json").read_text()), found.json


def test_counts_are_what_sqlite_and_the_model_were_really_asked(tmp_path):
    home = Home(tmp_path)
    counts, report = counted(home, "--batch-size", "20", "--flush")
    batches = [each for each in counts["stretches"] if each["batches"]]
    assert len(batches) == report["batches"] == home.rows("SELECT count(*) FROM batches")[0][0] > 2
    assert counts["texts"] == counts["different_texts"] == report["embedded"] > 0
    assert 0 < counts["graph_runs"] <= counts["texts"]
    # SQLite runs one statement for each row of an executemany; the program called it once for all of them.
    assert all(each["statements"] > each["calls"] + 10 for each in batches[:2])


def test_a_statement_per_message_would_show(tmp_path):
    one, _ = counted(Home(tmp_path / "a"), "--batch-size", "1", "--flush")
    many, _ = counted(Home(tmp_path / "b"), "--batch-size", "60", "--flush")
    calls = [sum(each["calls"] for each in counts["stretches"]) for counts in (one, many)]
    assert calls[0] > calls[1] + 60 * 20


@pytest.mark.parametrize(("strays", "tags", "lost"), [(1, 1, set()), (2, 1, {"transactions"}), (1, 0, {TARGETS[5]})])
def test_rows_committed_one_at_a_time_and_look_ups_that_nobody_saw_lose_their_target(strays, tags, lost):
    batch = {"calls": 50, "statements": 100, "batches": 1, "tag_queries": tags}
    counts = {"stretches": [batch] * 3, "stray_writes": strays}
    targets = of_statements([Counted(size, counts, {"batches": 3}, 0) for size in (20, 80)])
    assert {each.name for each in targets if not each.met} == lost


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_the_report_is_plain_lines_of_80_columns_with_bars_when_piped(done, document):
    lines = done.out.split("\n")
    assert "\x1b" not in done.out
    assert max(map(len, lines)) <= 80
    for each in document["parts"]:
        assert any(line.startswith(f"{each['title']}: {each['unit']}") for line in lines)
    assert sum(bool(BARS.search(line)) for line in lines) == sum(len(each["ways"]) for each in document["parts"])
    for name in TARGETS:
        assert any(re.match(rf" (met   |missed) {name}", line) for line in lines), name


def test_the_longest_bar_is_that_of_the_largest_figure(done, document):
    for each in document["parts"]:
        top = max(each["ways"], key=lambda way: way["value"])
        _, _, rest = done.out.partition(f"{each['title']}: ")
        lines = [line for line in rest.split("\n\n")[0].split("\n") if BARS.search(line)]
        longest = max(lines, key=lambda line: len(BARS.findall(line)))
        lengths = [len(BARS.findall(line)) for line in lines]
        assert longest.strip().startswith(top["way"]) or lengths.count(max(lengths)) > 1


def test_progress_is_on_stderr(done):
    assert "round 2 of 2: dedup scan" in done.err
    assert "round" not in done.out.split("\n\n")[-1]


def test_markdown_goes_between_the_marks_and_nowhere_else(home, document):
    text = (home.folder / "notes.md").read_text()
    assert text.startswith("before\n<!-- begin benchmark -->\n`memcli bench`")
    assert text.endswith("<!-- end benchmark -->\nbehind\n")
    assert "old" not in text.split("behind")[0].split("begin benchmark")[1].split("\n")
    for said in (document["date"], document["machine"]["processor"], document["versions"]["onnxruntime"], *TARGETS):
        assert said in text


def test_a_file_without_marks_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "text.md").write_text("my notes\n")
    with pytest.raises(UsageError, match="no place for the report"):
        Section.of(str(tmp_path / "text.md"))
    Section.of(str(tmp_path / "new.md")).write("table\n")
    Section.of(str(tmp_path / "new.md")).write("other table\n")
    assert (tmp_path / "new.md").read_text() == "<!-- begin benchmark -->\nother table\n<!-- end benchmark -->\n"


def test_the_rest_of_the_file_keeps_its_line_ends_and_its_mode(tmp_path):
    path = tmp_path / "text.md"
    path.write_bytes(b"one\r\n<!-- begin benchmark -->\r\nold\r\n<!-- end benchmark -->\r\ntwo\n")
    path.chmod(0o640)
    Section.of(str(path)).write("a\nb\n")
    marked = b"one\r\n<!-- begin benchmark -->\r\na\r\nb\r\n<!-- end benchmark -->\r\ntwo\n"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (marked, 0o640)


def test_a_file_that_changes_its_marks_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "text.md"
    section = Section.of(str(path))
    path.write_text("somebody else's\n")
    with pytest.raises(UsageError, match="no place for the report"):
        section.write("table\n")
    assert path.read_text() == "somebody else's\n"


def test_what_stands_between_two_places_for_the_report_is_not_lost(tmp_path):
    (tmp_path / "text.md").write_text(2 * "<!-- begin benchmark -->\nkept\n<!-- end benchmark -->\n")
    with pytest.raises(UsageError, match="more than one place"):
        Section.of(str(tmp_path / "text.md"))


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(UsageError, match="cannot write"):
        Section.of(str(tmp_path / "absent" / "text.md"))
    with pytest.raises(UsageError, match="no regular file"):
        Section.of(str(tmp_path))


def test_flags_of_the_report_before_another_benchmark_are_refused(home):
    found = home.run("bench", "--rounds", "2", "ingest")
    assert found.code == 2
    assert "--rounds stands before ingest" in found.err
    assert home.run("bench", "--json", "-", "--markdown", "-").code == 2


# --- comparing -------------------------------------------------------------------------------------------------------


def worse(before, now):
    return [(each.part, each.figure) for each in compare(before, now).worse]


def test_a_regression_beyond_both_spreads_is_marked():
    assert worse(made_up([100, 104, 98]), made_up([80, 78, 82])) == [("made", "memcli")]
    assert worse(made_up([1.0, 1.04, 0.98], less=True), made_up([1.2, 1.25, 1.22], less=True)) == [("made", "memcli")]


def test_what_lies_within_the_spreads_is_noise_and_not_marked():
    # The medians are a fifth apart, but the best round now is as good as the worst one before.
    assert worse(made_up([100, 110, 84]), made_up([80, 78, 85])) == []
    # Apart, but by less than any two runs of the same program.
    assert worse(made_up([100, 101, 100]), made_up([98, 97, 98])) == []
    # One round says nothing of its noise.
    assert worse(made_up([100]), made_up([85])) == []
    assert worse(made_up([100]), made_up([70])) == [("made", "memcli")]


def test_what_became_better_is_not_marked():
    assert worse(made_up([100, 104, 98]), made_up([200, 210, 190])) == []
    assert worse(made_up([1.2, 1.25], less=True), made_up([1.0, 1.04], less=True)) == []


def test_counts_and_lost_targets_are_marked_without_noise():
    before, now = made_up([100, 104]), made_up([100, 104])
    now["facts"] = {"false_merges": 1, "hit_rate": 0.2}
    now["targets"] = [{**each, "met": False} for each in now["targets"]]
    assert worse(before, now) == [("facts", "false_merges"), ("targets", "counted")]


def test_a_target_is_judged_by_the_worst_round():
    facts = [{"same_result": 0.0, "pairs_missed": 0.0}, {"same_result": 1.0, "pairs_missed": 2.0}, {"recall": 0.9}]
    found = worst([Round("about", [], facts=each) for each in facts])
    assert found == {"same_result": 0.0, "pairs_missed": 2.0, "recall": 0.9}


def test_rivals_tell_how_much_the_machine_itself_changed():
    before, now = made_up([100, 104]), made_up([50, 52], machine="other")
    for each in now["parts"][0]["ways"]:
        if each["kind"] == "naive":
            each["value"] = 5.0
    found = compare(before, now)
    assert (found.machine_ratio, found.is_same_machine) == (0.5, False)


def test_memcli_done_in_another_way_does_not_tell_how_much_the_machine_changed():
    before, now = made_up([100, 100], "ingest"), made_up([100, 100], "ingest")
    assert compare(before, now).machine_ratio is None
    assert compare(made_up([100, 100], "scan"), made_up([100, 100], "scan")).machine_ratio == 1


def test_a_ratio_is_of_one_round_where_a_peer_failed_in_another():
    own = [Sample("memcli", "own", 10.0), Sample("memcli", "own", 40.0)]
    part_ = Part("made", "Made", "s", lambda _: None)
    found = shown(part_, [Round("about", [own[0]]), Round("about", [own[1], Sample("peer", "peer", 20.0)])])
    assert found["ways"][1]["ratio_samples"] == [2.0]


def test_compare_on_the_command_line_marks_what_a_made_up_report_had_better(done, document):
    line = next(line for line in done.out.split("\n") if line.startswith(" embed: memcli"))
    assert "!" in line
    assert document["comparison"]["regressions"] == 1
    assert {each["figure"] for each in document["comparison"]["changes"] if each["worse"]} == {"memcli"}
    assert not document["comparison"]["is_same_machine"]
    assert "the earlier one was measured on another machine" in done.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ('{"benchmark": "ingest", "runs": []}', "no benchmark report"),
        ('{"benchmark": "report", "parts": [], "size": 0.05, "seed": 7}', "the size 0.05"),
        ('{"benchmark": "report", "parts": [{}], "size": 1, "seed": 7}', "no whole benchmark report"),
        ('{"benchmark": "report", "parts": 5, "size": 1, "seed": 7}', "no whole benchmark report"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_report_that_cannot_be_compared_is_refused_before_anything_runs(tmp_path, content, message):
    path = tmp_path / "before.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_report(path, Plan())


def test_markdown_needs_no_terminal_and_has_a_row_for_each_way(document):
    rows = [line for line in report_markdown(document).split("\n") if line.startswith("|")]
    assert len(rows) == 4 + sum(len(each["ways"]) for each in document["parts"]) + len(TARGETS)
    assert len(PARTS) == len(NAMES)

"""The targets of the design, each with what a run of this very benchmark measured, and whether it is met."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memcli.bench.child import run_python
from memcli.bench.contests import OWN, Subject, write_messages
from memcli.store.db import Store
from memcli.store.metrics import matrix_bytes

_LARGE, _SMALLER, _BATCHES = 1024, 4, 5
_PROFILE, _MODEL = "balanced", "gpt-4.1-mini"
# Every window, where the profile leaves some out.
_EVERY_WINDOW = f"[profiles.{_PROFILE}]\nrate = 1.0\n"
# A batch more or less finds something to do for a statement or two.
_ABOUT = 1.1
_FLOAT32_BYTES = 4
_LEAST_SAVED, _LEAST_HITS, _LEAST_FASTER, _LEAST_CHEAPER, _LEAST_BATCHED = 0.5, 0.3, 2.0, 5.0, 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """A promise of the design: what was wanted, what was measured and how, whether it is met.

    What was `timed` varies from run to run, what was counted does not.
    """

    name: str
    target: str
    measured: str
    met: bool
    how: str
    timed: bool = False

    def to_json(self) -> dict[str, object]:
        """The target as part of the JSON document."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Counted:
    """An ingest whose calls were counted, in batches of `batch_size` messages; `matrix` are bytes to scan in memory."""

    batch_size: int
    counts: Mapping[str, Any]
    report: Mapping[str, Any]
    matrix: int

    @property
    def batches(self) -> list[Mapping[str, int]]:
        """What was asked until each commit of a batch."""
        return [each for each in self.counts["stretches"] if each["batches"]]

    def calls(self) -> list[int]:
        """Calls of SQLite for each batch but the first, which looks more up, and the last, which closes windows."""
        return [each["calls"] for each in self.batches[1:-1]] or [each["calls"] for each in self.batches]


def measured(subject: Subject, parts: Sequence[Mapping[str, Any]], facts: Mapping[str, float]) -> list[Target]:
    """Count what two runs of ingest ask for, work out what extraction costs, and judge these and the report's parts.

    Raises:
        MemcliError: a measured process failed.
    """
    with tempfile.TemporaryDirectory(prefix="memcli-bench-") as name:
        folder = Path(name)
        subject.announce("counting what ingest asks of SQLite and of the model")
        large = subject.count(_LARGE)
        write_messages(folder / "messages.jsonl", large * _BATCHES, subject.seed)
        counted = [_counted(folder, size) for size in (large // _SMALLER, large)]
        subject.announce("working out what extraction by a model would cost")
        saved = _costs(folder)
    return [
        *_of_embedding(counted[-1], _ratio(parts, "embed")),
        *of_statements(counted),
        *_of_search(facts, counted[-1], subject.files.dim),
        _of_workers(parts, facts),
        *_of_extraction(saved),
    ]


def _counted(folder: Path, batch_size: int) -> Counted:
    counts = folder / "counts.json"
    command = ["-m", "memcli.cli.bench_traced", str(counts), "ingest", "messages.jsonl", "--json", "--quiet"]
    report = run_python([*command, "--batch-size", str(batch_size)], folder).document
    with Store.open(folder / "memory.db") as store:
        matrix = matrix_bytes(store)
    for path in folder.glob("memory.db*"):
        path.unlink()
    return Counted(batch_size, json.loads(counts.read_text(encoding="utf-8")), report, matrix)


@dataclass(frozen=True, slots=True)
class _Costs:
    """Dollars with a call for every message, with one for those that are sent, and as memcli asks; those messages."""

    every: float
    sent: float
    asked: float
    share: float


def _costs(folder: Path) -> _Costs:
    command = ["-m", "memcli", "cost", "estimate", "messages.jsonl", "--model", f"small={_MODEL}", "--json", "--quiet"]
    command += ["--profile", _PROFILE]
    some = run_python(command, folder).document
    (folder / "memcli.toml").write_text(_EVERY_WINDOW, encoding="utf-8")
    every = run_python(command, folder).document
    share = some["messages_sent"] / max(every["messages_sent"], 1)
    return _Costs(every["one_call_per_message"]["usd"], some["one_call_per_message"]["usd"], some["usd"], share)


def _of_embedding(counted: Counted, batched: float) -> list[Target]:
    counts, report = counted.counts, counted.report
    texts = report["embedded"] + report["embed_reused"]
    saved = 1 - counts["graph_runs"] / texts
    again = counts["texts"] - counts["different_texts"]
    return [
        Target(
            "embedding calls",
            f"-{_LEAST_SAVED:.0%} of one per text",
            f"-{saved:.1%}",
            saved >= _LEAST_SAVED,
            f"{counts['graph_runs']:,} runs of the model for {texts:,} texts, {report['embed_reused']:,} of them known",
        ),
        Target("texts embedded twice", "none", f"{again:,}", not again, f"of {counts['texts']:,} texts embedded"),
        Target(
            "embedding in batches",
            f"{_LEAST_BATCHED:g} times one at a time",
            f"{batched:.1f} times",
            batched >= _LEAST_BATCHED,
            "the part Embedding above",
            timed=True,
        ),
    ]


def of_statements(counted: Sequence[Counted]) -> list[Target]:
    """What runs with batches of two sizes asked of SQLite."""
    few, many = (each.calls() for each in counted)
    sizes = " and ".join(f"{each.batch_size:,}" for each in counted)
    batches = [batch for each in counted for batch in each.batches]
    reported = sum(each.report["batches"] for each in counted)
    # A new database is bound to its model before the first batch; any more would be rows committed one at a time.
    strays = sum(each.counts["stray_writes"] for each in counted)
    once = len(batches) == reported and all(batch["batches"] == 1 for batch in batches) and strays <= len(counted)
    tags = sum(stretch["tag_queries"] for each in counted for stretch in each.counts["stretches"])
    middle = [statistics.median(each) for each in (few, many)]
    return [
        Target(
            "transactions",
            "one per batch",
            f"{len(batches):,} for {reported:,}",
            once,
            f"commits that SQLite's trace saw, batches of {sizes} messages; {strays} writes outside of any",
        ),
        Target(
            "calls of SQLite per batch",
            "the same at any size",
            f"{middle[0]:g} and {middle[1]:g}",
            middle[1] <= middle[0] * _ABOUT,
            f"medians in batches of {sizes} messages; at most {max(few)} and {max(many)}",
        ),
        Target(
            "look-ups of session tags",
            "one per batch",
            f"{tags:,} for {len(batches):,}",
            0 < tags <= len(batches),
            "statements that SQLite's trace saw; added up, since batches overlap",
        ),
    ]


def _of_search(facts: Mapping[str, float], counted: Counted, dim: int) -> list[Target]:
    whole = counted.counts["texts"] * dim * _FLOAT32_BYTES
    saved = 1 - counted.matrix / whole
    return [
        Target(
            "cache hit rate",
            f"over {_LEAST_HITS:.0%}",
            f"{facts['hit_rate']:.1%}",
            facts["hit_rate"] > _LEAST_HITS,
            "the part Query cache above",
        ),
        Target(
            "index memory, accuracy kept",
            f"-{_LEAST_SAVED:.0%} of float32",
            f"-{saved:.1%}, recall {facts['recall']:g}",
            saved >= _LEAST_SAVED and facts["recall"] >= 1,
            f"{counted.matrix:,} bytes for {counted.counts['texts']:,} vectors; recall of the part Vector search",
        ),
    ]


def _of_workers(parts: Sequence[Mapping[str, Any]], facts: Mapping[str, float]) -> Target:
    part = next(part for part in parts if part["name"] == "parallel")
    faster = {way["way"]: way["value"] for way in part["ways"]}
    best = max(faster, key=lambda way: faster[way])
    same = bool(facts["same_result"])
    return Target(
        "two workers, no race",
        f"{_LEAST_FASTER:g} times as fast",
        f"{min(faster.values()):.2f} to {faster[best]:.2f} times",
        min(faster.values()) >= _LEAST_FASTER and same,
        f"best: {best}; results {'the same' if same else 'DIFFER'}; the part Parallel above",
        timed=True,
    )


def _of_extraction(costs: _Costs) -> list[Target]:
    asked = costs.asked
    if not asked:
        return []
    return [
        Target(
            "extraction cost, windows",
            f"{_LEAST_CHEAPER:g} times lower",
            f"{costs.sent / asked:.1f} times",
            costs.sent / asked >= _LEAST_CHEAPER,
            f"${asked:.4f}, not ${costs.sent:.4f}: the same messages, a call each; prices of {_MODEL}",
        ),
        Target(
            "extraction cost, and rate",
            f"{_LEAST_CHEAPER:g} times lower",
            f"{costs.every / asked:.1f} times",
            costs.every / asked >= _LEAST_CHEAPER,
            f"not ${costs.every:.4f}, a call for every message: {_PROFILE} sends {costs.share:.0%} of them",
        ),
    ]


def _ratio(parts: Sequence[Mapping[str, Any]], name: str) -> float:
    """How many times as good as the naive way memcli is in a part."""
    part = next(part for part in parts if part["name"] == name)
    return float(next(way["ratio"] for way in part["ways"] if way["kind"] == "naive" and way["way"] != OWN))

"""A benchmark beside an earlier one: ratios, and which of them are more than noise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memcli.bench.ingest import Plan
from memcli.errors import UsageError

# What a figure may differ by between two runs of the same program: at least this share, this much more where only one
# sample was taken, and never less than these absolute amounts, below which schedulers and allocators decide.
LEAST_NOISE = 0.05
UNKNOWN_NOISE = 0.25
LEAST_SECONDS = 0.05
_WHOLE = ("seconds", "cpu_seconds", "peak_rss_mb")
LEAST_MEGABYTES = 5.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one run, before and now; `noise` is the relative difference that samples show by themselves."""

    run: str
    figure: str
    before: float
    now: float
    noise: float
    worse: bool

    @property
    def ratio(self) -> float | None:
        """Now by before: above 1 is slower or larger."""
        return self.now / self.before if self.before else None

    def to_json(self) -> dict[str, object]:
        """The comparison as part of the JSON document."""
        rounded = {"noise": round(self.noise, 3), "ratio": None if self.ratio is None else round(self.ratio, 3)}
        return asdict(self) | rounded


def read_baseline(path: Path, plan: Plan) -> dict[str, Any]:
    """The document of an earlier `memcli bench ingest --json` of the same plan.

    Raises:
        UsageError: the file cannot be read, is something else, or measured something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", "name a file made with: memcli bench ingest --json"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON", "name a file made with: memcli bench ingest --json") from error
    if not isinstance(document, dict) or document.get("benchmark") != "ingest" or "runs" not in document:
        raise UsageError(f"{path} holds no ingest benchmark", "name a file made with: memcli bench ingest --json")
    for name in ("messages", "files", "seed"):
        if document.get(name) != getattr(plan, name):
            raise UsageError(
                f"{path} was measured with --{name} {document.get(name)}, this run has {getattr(plan, name)}",
                f"add --{name} {document.get(name)}",
            )
    return document


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Comparison]:
    """Every figure of the runs of two documents that both have.

    Raises:
        UsageError: the two measured different messages.
    """
    if before["corpus"] != now["corpus"]:
        raise UsageError(
            "the baseline was measured on other messages: its memcli generates another corpus",
            "measure it again: memcli bench ingest --json > FILE",
        )
    earlier = {run["name"]: run for run in before["runs"]}
    return [
        comparison
        for run in now["runs"]
        if run["name"] in earlier
        for comparison in _compared(run["name"], _figures(earlier[run["name"]]), _figures(run))
    ]


def _figures(run: Mapping[str, Any]) -> dict[str, tuple[float, list[float]]]:
    """(median, samples) by figure: the whole process, its memory, its stages."""
    samples = run["samples"]
    figures = {name: (run[name], [sample[name] for sample in samples]) for name in _WHOLE}
    return figures | {
        stage: (seconds, [sample["stages"][stage] for sample in samples]) for stage, seconds in run["stages"].items()
    }


def _compared(
    run: str, before: Mapping[str, tuple[float, list[float]]], now: Mapping[str, tuple[float, list[float]]]
) -> list[Comparison]:
    found = []
    for figure, (median, samples) in now.items():
        if figure not in before:
            continue
        earlier, earlier_samples = before[figure]
        noise = max(_noise(earlier, earlier_samples), _noise(median, samples))
        least = LEAST_MEGABYTES if figure == "peak_rss_mb" else LEAST_SECONDS
        worse = median > earlier * (1 + noise) and median - earlier > least
        found.append(Comparison(run, figure, earlier, median, noise, worse))
    return found


def _noise(median: float, samples: list[float]) -> float:
    if len(samples) == 1:
        return UNKNOWN_NOISE
    return max((max(samples) - min(samples)) / median if median else 0.0, LEAST_NOISE)

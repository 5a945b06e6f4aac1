"""A benchmark report beside an earlier one: what became worse by more than both have shown to vary by themselves."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memcli.bench.compare import LEAST_NOISE, UNKNOWN_NOISE
from memcli.bench.contests import FACTS
from memcli.bench.report import Plan
from memcli.errors import UsageError
from memcli.files import read_small

# Parts whose naive way is memcli itself, asked to do it that way: it tells nothing of the machine.
_OWN_WAYS = frozenset({"ingest", "embed", "cache"})
_HINT = "name a file made with: memcli bench --json FILE"


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of memcli's before and now. `better` is how many times as good it is now; None where it has no ratio.

    `noise` is the relative difference that it must exceed to count.
    """

    part: str
    figure: str
    before: float
    now: float
    better: float | None
    noise: float
    worse: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed, and the machine as the rivals saw it: how many times as fast the same programs are now."""

    changes: list[Change]
    machine_ratio: float | None
    is_same_machine: bool
    other_versions: dict[str, tuple[str, str]]

    @property
    def worse(self) -> list[Change]:
        """The regressions."""
        return [change for change in self.changes if change.worse]

    def to_json(self) -> dict[str, object]:
        """The comparison as part of the JSON document."""
        return {
            "regressions": len(self.worse),
            "machine_ratio": self.machine_ratio,
            "is_same_machine": self.is_same_machine,
            "other_versions": {name: list(pair) for name, pair in self.other_versions.items()},
            "changes": [asdict(change) for change in self.changes],
        }


def read_report(path: Path, plan: Plan) -> dict[str, Any]:
    """The document of an earlier `memcli bench --json` of the same size.

    Raises:
        UsageError: the file cannot be read, is something else, or measured something else.
    """
    try:
        document = json.loads(read_small(path, pipes=True))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", _HINT) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON", _HINT) from error
    if not isinstance(document, dict) or document.get("benchmark") != "report" or "parts" not in document:
        raise UsageError(f"{path} holds no benchmark report", _HINT)
    for name in ("size", "seed"):
        if document.get(name) != getattr(plan, name):
            raise UsageError(
                f"{path} was measured with the {name} {document.get(name)}, this run has {getattr(plan, name)}",
                "give both runs the same --quick and --seed",
            )
    try:
        compare(document, document)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"{path} holds no whole benchmark report", _HINT) from error
    return document


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> Comparison:
    """Set every figure of memcli's beside the earlier one.

    A timed figure is worse when its best round now is worse than its worst round before, by LEAST_NOISE at least; where
    there was one round only, UNKNOWN_NOISE is taken for its spread. A figure that does not vary is worse when it is
    worse at all.
    """
    earlier = {(part["name"], way["way"]): way for part in before["parts"] for way in part["ways"]}
    changes, rivals = [], []
    for part in now["parts"]:
        for way in part["ways"]:
            known = earlier.get((part["name"], way["way"]))
            if known is None:
                continue
            change = _timed(part, way, known)
            if way["kind"] == "own":
                changes.append(change)
            elif change.better is not None and not part["same_every_round"] and part["name"] not in _OWN_WAYS:
                rivals.append(change.better)
    changes += _facts(before.get("facts", {}), now.get("facts", {}))
    changes += _targets(before.get("targets", ()), now["targets"])
    versions = {
        name: (str(before["versions"].get(name, "?")), str(number))
        for name, number in now["versions"].items()
        if before["versions"].get(name) != number
    }
    ratio = round(statistics.median(rivals), 3) if rivals else None
    return Comparison(changes, ratio, before.get("machine") == now["machine"], versions)


def _timed(part: Mapping[str, Any], way: Mapping[str, Any], known: Mapping[str, Any]) -> Change:
    less, now, before = part["less_is_better"], float(way["value"]), float(known["value"])
    better = None if not now or not before else round(before / now if less else now / before, 3)
    if part["same_every_round"]:
        return Change(part["name"], way["way"], before, now, better, 0.0, now > before if less else now < before)
    noise = _between(way["samples"], known["samples"])
    worst_before, best_now = _worst(known["samples"], less=less), _best(way["samples"], less=less)
    if len(way["samples"]) == 1 or len(known["samples"]) == 1:
        apart = better is not None and better < 1 / (1 + UNKNOWN_NOISE)
    else:
        apart = best_now > worst_before if less else best_now < worst_before
    worse = apart and better is not None and better < 1 / (1 + LEAST_NOISE)
    return Change(part["name"], way["way"], before, now, better, noise, worse)


def _between(now: Sequence[float], before: Sequence[float]) -> float:
    """The larger of both relative spreads."""
    if len(now) == 1 or len(before) == 1:
        return UNKNOWN_NOISE
    spreads = [(max(each) - min(each)) / statistics.median(each) for each in (now, before) if statistics.median(each)]
    return round(max([LEAST_NOISE, *spreads]), 3)


def _best(samples: Sequence[float], *, less: bool) -> float:
    return min(samples) if less else max(samples)


def _worst(samples: Sequence[float], *, less: bool) -> float:
    return max(samples) if less else min(samples)


def _facts(before: Mapping[str, float], now: Mapping[str, float]) -> list[Change]:
    found = []
    for name, less in FACTS.items():
        if name in before and name in now:
            worse = now[name] > before[name] if less else now[name] < before[name]
            found.append(Change("facts", name, before[name], now[name], None, 0.0, worse))
    return found


def _targets(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Targets that were met and no longer are; those that were timed have their parts, with spreads."""
    met = {target["name"] for target in before if target["met"] and not target["timed"]}
    lost = [target["name"] for target in now if target["name"] in met and not target["met"]]
    return [Change("targets", name, 1.0, 0.0, None, 0.0, worse=True) for name in lost]

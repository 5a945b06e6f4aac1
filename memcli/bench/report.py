"""The one benchmark report: every part in several rounds, in turns, and the design's targets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from memcli.bench.contests import FACTS, PARTS, Part, Round, Subject
from memcli.bench.machine import machine, versions
from memcli.bench.targets import measured

# The whole is to take no longer; a round is only begun when it should end before.
MOST_SECONDS = 300.0
PEERS = {"SemHash": "semhash", "sqlite-vec": "sqlite-vec", "USearch": "usearch", "faiss": "faiss-cpu"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: at most `rounds` rounds over all parts; `size` 1 is the usual size of everything."""

    rounds: int = 3
    size: float = 1.0
    seed: int = 7


def bench_report(plan: Plan, subject: Subject, announce: Callable[[str], None]) -> dict[str, Any]:
    """Measure all parts and targets; the document of `memcli bench --json`.

    The parts follow each other and that is repeated, so that what slows the machine for a while does not fall on one of
    them, nor on one way of a part. Values are medians over the rounds, ratios medians of those within a round.

    Raises:
        MemcliError: a measured process failed.
    """
    began = time.monotonic()
    rounds: dict[str, list[Round]] = {part.name: [] for part in PARTS}
    done, longest = 0, 0.0
    # The targets come behind the rounds and take less than one.
    while done < plan.rounds and time.monotonic() - began + 2 * longest < MOST_SECONDS:
        round_began = time.monotonic()
        for part in PARTS:
            if not (part.once and rounds[part.name]):
                announce(f"round {done + 1} of {plan.rounds}: {part.title.lower()}")
                rounds[part.name].append(part.measure(subject))
        longest, done = max(longest, time.monotonic() - round_began), done + 1
    parts = [shown(part, rounds[part.name]) for part in PARTS]
    facts = worst([each for found in rounds.values() for each in found])
    targets = measured(subject, parts, facts)
    installed = _installed()
    return {
        "benchmark": "report",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions() | installed,
        "machine": machine(),
        "seed": plan.seed,
        "size": plan.size,
        "rounds": done,
        "rounds_wanted": plan.rounds,
        "seconds": round(time.monotonic() - began, 1),
        "model": {"name": subject.files.name, "model_id": subject.files.model_id},
        "parts": parts,
        "facts": facts,
        "targets": [target.to_json() for target in targets],
        "peers": {"installed": sorted(installed), "absent": [name for name in PEERS if name not in installed]},
    }


def worst(rounds: Sequence[Round]) -> dict[str, float]:
    """The figures that targets are judged by, each from the round that had the worst: one that fails is enough."""
    values: dict[str, list[float]] = {}
    for each in rounds:
        for name, value in each.facts.items():
            values.setdefault(name, []).append(value)
    return {name: max(found) if FACTS.get(name) else min(found) for name, found in values.items()}


def shown(part: Part, rounds: Sequence[Round]) -> dict[str, Any]:
    """A part as the document has it: each way with its samples, their median, and how far memcli is from it.

    `ratio` says how many times as good as that way memcli is. Both were measured on one input in one round.
    """
    # By way and number of the round: a peer may fail in one.
    found: dict[str, dict[int, float]] = {}
    for number, each in enumerate(rounds):
        for sample in each.samples:
            found.setdefault(sample.way, {})[number] = sample.value
    values = {way: list(by_round.values()) for way, by_round in found.items()}
    last = {sample.way: sample for sample in rounds[-1].samples}
    own = [way for way, sample in last.items() if sample.kind == "own"]
    ways = []
    for way, sample in last.items():
        ratios = [] if sample.kind == "own" else _ratios(found[own[0]], found[way], less=part.less)
        ways.append(
            {
                "way": way,
                "kind": sample.kind,
                "value": _rounded(statistics.median(values[way])),
                "samples": [_rounded(value) for value in values[way]],
                "spread": [_rounded(min(values[way])), _rounded(max(values[way]))],
                "ratio": round(statistics.median(ratios), 2) if ratios else None,
                "ratio_samples": [round(ratio, 2) for ratio in ratios],
                "note": sample.note,
            }
        )
    return {
        "name": part.name,
        "title": part.title,
        "about": rounds[-1].about,
        "unit": part.unit,
        "less_is_better": part.less,
        "same_every_round": part.once,
        "ways": ways,
        "notes": rounds[-1].notes,
    }


def _ratios(own: Mapping[int, float], other: Mapping[int, float], *, less: bool) -> list[float]:
    pairs = [(own[number], there) for number, there in other.items() if number in own]
    return [there / here if less else here / there for here, there in pairs if (here if less else there)]


def _rounded(value: float) -> float:
    """Five digits that count: samples of milliseconds and of thousands stand in one document."""
    return float(f"{value:.5g}")


def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, package in PEERS.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found

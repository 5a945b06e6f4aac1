"""How well dedup decides: labelled pairs through the decision that ingest takes, beside two baselines; calibration."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memcli.dedup.gates import GATE_VERSION
from memcli.dedup.judge import Judge
from memcli.dedup.scan import pairs_within
from memcli.errors import UsageError
from memcli.model import Known
from memcli.protocols import Embedder
from memcli.text import content_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Pairs that nothing was tuned on; in the package, so that an installed one can be measured.
PAIRS = Path(__file__).with_name("dedup_pairs.jsonl")
DUPLICATE, DISTINCT = "duplicate", "distinct"
WANTED_PRECISION = 0.98
SPARED_RECALL = 0.02

_FIELDS = ("id", "a", "b", "label", "kind")
_AGENT = "bench"
# Below it, a scan finds so many candidates that nothing is gained: a threshold of a model is not lowered further.
_LOWEST, _HIGHEST = 60, 99


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two texts and whether they say the same; `kind` names what makes them alike or apart."""

    id: str
    a: str
    b: str
    label: str
    kind: str


@dataclass(frozen=True, slots=True)
class Scores:
    """Counts of pairs and what follows from them; precision is 1 where nothing was merged."""

    merged: int
    false: int
    duplicates: int
    pairs: int

    @property
    def precision(self) -> float:
        """The share of the merged pairs that are duplicates."""
        return (self.merged - self.false) / self.merged if self.merged else 1.0

    @property
    def recall(self) -> float:
        """The share of the duplicates that were merged."""
        return (self.merged - self.false) / self.duplicates if self.duplicates else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def to_json(self) -> dict[str, float]:
        """Return the counts and the three measures."""
        measures = {name: round(getattr(self, name), 4) for name in ("precision", "recall", "f1")}
        return {**asdict(self), **measures}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What became of labelled pairs at one threshold, and the two baselines at the thresholds that suit them best."""

    threshold: float
    scores: Scores
    by_kind: dict[tuple[str, str], Scores]
    false_merges: tuple[LabelledPair, ...]
    baselines: dict[str, tuple[float, Scores]]

    def to_json(self) -> dict[str, Any]:
        """Return the scores, the false merges, the kinds and the baselines."""
        return {
            "threshold": self.threshold,
            "gate_version": GATE_VERSION,
            **self.scores.to_json(),
            "false_merges": [asdict(pair) for pair in self.false_merges],
            "by_kind": [
                {"label": label, "kind": kind, "pairs": each.pairs, "merged": each.merged}
                for (label, kind), each in self.by_kind.items()
            ],
            "baselines": {
                name: {"threshold": round(at, 4), **each.to_json()} for name, (at, each) in self.baselines.items()
            },
        }


@dataclass(frozen=True, slots=True)
class DedupBenchmark:
    """An evaluation and what was evaluated: the file of pairs and the model."""

    pairs: str
    model: str
    model_id: str
    evaluation: Evaluation

    def to_json(self) -> dict[str, Any]:
        """Return the document of `memcli bench dedup --json`."""
        model = {"name": self.model, "model_id": self.model_id}
        return {"pairs_file": self.pairs, "model": model, **self.evaluation.to_json()}


@dataclass(frozen=True, slots=True)
class Calibration:
    """The near threshold of a model and what it was chosen by."""

    model_id: str
    threshold: float
    precision: float
    recall: float
    pairs: int
    gate_version: str = GATE_VERSION

    def to_json(self) -> dict[str, object]:
        """Return what is kept beside the model's card."""
        return asdict(self)


def read_pairs(path: Path) -> list[LabelledPair]:
    """Read pairs from JSON Lines, objects {id, a, b, label: duplicate or distinct, kind}.

    Raises UsageError, with file and line, for what is no such object, and when there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}", "name a file of labelled pairs") from error
    pairs = [_pair(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not pairs:
        raise UsageError(f"{path}: no pairs in it", "one JSON object per line: id, a, b, label, kind")
    return pairs


def _pair(line: str, place: str) -> LabelledPair:
    hint = 'one JSON object per line: {"id": ..., "a": ..., "b": ..., "label": "duplicate" or "distinct", "kind": ...}'
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{place}: not JSON: {error}", hint) from error
    if not isinstance(row, dict):
        raise UsageError(f"{place}: not an object", hint)
    for name in _FIELDS:
        if not isinstance(row.get(name), str):
            raise UsageError(f"{place}: no text in the field {name!r}", hint)
    if row["label"] not in (DUPLICATE, DISTINCT):
        raise UsageError(f"{place}: label {row['label']!r} is neither {DUPLICATE} nor {DISTINCT}", hint)
    return LabelledPair(*(row[name] for name in _FIELDS))


def evaluate(pairs: Sequence[LabelledPair], embedder: Embedder, threshold: float) -> Evaluation:
    """Decide every pair as ingest does, the first text stored and the second one new, at that near threshold."""
    vectors = _vectors(pairs, embedder)
    merged = [merges(pair, vectors[2 * at : 2 * at + 2], threshold) for at, pair in enumerate(pairs)]
    kinds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, pair in enumerate(pairs):
        kinds[pair.label, pair.kind].append(at)
    cosines = [_cosine(vectors, at) for at in range(len(pairs))]
    return Evaluation(
        threshold,
        _scores(pairs, merged),
        {
            key: _scores([pairs[at] for at in places], [merged[at] for at in places])
            for key, places in sorted(kinds.items())
        },
        tuple(pair for pair, yes in zip(pairs, merged, strict=True) if yes and pair.label == DISTINCT),
        {"cosine": _best(pairs, cosines), "jaccard": _best(pairs, [_jaccard(pair) for pair in pairs])},
    )


def calibrate(pairs: Sequence[LabelledPair], embedder: Embedder) -> Calibration:
    """Choose the near threshold of a model, in steps of 0.01 from 0.60 to 0.99.

    Of those with a precision of at least WANTED_PRECISION (where there is none, of those with the highest) the highest
    one that loses no more than SPARED_RECALL of the best recall: each step down finds more candidates to weigh.
    """
    vectors = _vectors(pairs, embedder)
    found: list[tuple[Scores, float]] = []
    for step in range(_LOWEST, _HIGHEST + 1):
        threshold = step / 100
        merged = [merges(pair, vectors[2 * at : 2 * at + 2], threshold) for at, pair in enumerate(pairs)]
        found.append((_scores(pairs, merged), threshold))
    wanted = min(WANTED_PRECISION, max(scores.precision for scores, _ in found))
    precise = [each for each in found if each[0].precision >= wanted]
    best = max(scores.recall for scores, _ in precise)
    chosen, threshold = max(
        (each for each in precise if each[0].recall >= best - SPARED_RECALL), key=lambda each: each[1]
    )
    return Calibration(embedder.model_id, threshold, round(chosen.precision, 4), round(chosen.recall, 4), len(pairs))


def merges(pair: LabelledPair, vectors: NDArray[np.float32], threshold: float) -> bool:
    """Whether the second text of a pair would be merged into the first, by the scan and the judge of ingest."""
    judge = Judge((), threshold)
    judge.take(_known(1, pair.a), ())
    near = [(1, score) for score in pairs_within(vectors, threshold).score.tolist()]
    return judge.take(_known(2, pair.b), near).decision in ("exact", "near")


def _known(memory_id: int, text: str) -> Known:
    return Known(memory_id, _AGENT, "semantic", "rules", text, content_hash(text), embedded=True, link=None)


def _vectors(pairs: Sequence[LabelledPair], embedder: Embedder) -> NDArray[np.float32]:
    return embedder.embed([text for pair in pairs for text in (pair.a, pair.b)])


def _cosine(vectors: NDArray[np.float32], at: int) -> float:
    return float(vectors[2 * at].astype(float) @ vectors[2 * at + 1].astype(float))


def _jaccard(pair: LabelledPair) -> float:
    one, other = (set(text.lower().split()) for text in (pair.a, pair.b))
    return len(one & other) / len(one | other) if one | other else 1.0


def _scores(pairs: Sequence[LabelledPair], merged: Iterable[bool]) -> Scores:
    labels = [pair.label for pair, yes in zip(pairs, merged, strict=True) if yes]
    duplicates = sum(pair.label == DUPLICATE for pair in pairs)
    return Scores(len(labels), labels.count(DISTINCT), duplicates, len(pairs))


def _best(pairs: Sequence[LabelledPair], values: Sequence[float]) -> tuple[float, Scores]:
    """Return the threshold with the best F1, and its scores, when what reaches it is merged."""
    scored: Callable[[float], Scores] = lambda least: _scores(pairs, [value >= least for value in values])  # noqa: E731
    least = max(sorted(set(values)), key=lambda value: scored(value).f1)
    return least, scored(least)

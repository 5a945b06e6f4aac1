"""How good a model is: against its teacher on texts held out of the training, and against human judgement."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memcli.errors import UsageError
from memcli.protocols import Embedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PAIRED = 2000
_COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Judged:
    """Pairs of sentences with a human score each."""

    name: str
    pairs: Sequence[tuple[str, str]]
    scores: NDArray[np.float64]


def read_judged(path: Path) -> Judged:
    """Read a headerless CSV of sentence1,sentence2,score. Raises UsageError naming the line that is none."""
    pairs, scores = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            for number, row in enumerate(csv.reader(lines), start=1):
                if len(row) != _COLUMNS:
                    raise UsageError(f"{path}:{number}: {len(row)} columns", "write sentence1,sentence2,score")
                pairs.append((row[0], row[1]))
                scores.append(float(row[2]))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{path}:{len(pairs)}: {error}", "write sentence1,sentence2,score, in UTF-8") from error
    if not pairs:
        raise UsageError(f"{path} is empty", "write sentence1,sentence2,score")
    return Judged(path.name, pairs, np.array(scores))


def spearman(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; 0 where one side is constant."""
    one, other = _ranks(left), _ranks(right)
    one, other = one - one.mean(), other - other.mean()
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


def score_judged(embedder: Embedder, judged: Judged) -> float:
    """Return Spearman's correlation of the model's cosines with the human scores."""
    left = embedder.embed([pair[0] for pair in judged.pairs])
    right = embedder.embed([pair[1] for pair in judged.pairs])
    return spearman((left * right).sum(axis=1), judged.scores)


def score_teacher(
    embedder: Embedder, texts: Sequence[str], vectors: NDArray[np.float16], axes: NDArray[np.float32]
) -> dict[str, float]:
    """Compare with the teacher's `vectors` of held-out `texts`.

    Returns the mean cosine to the teacher's vector on the model's axes, and Spearman's correlation of the cosines
    between the texts (of the first 2,000 of them).
    """
    mine = embedder.embed(texts).astype(np.float64)
    theirs = vectors.astype(np.float64)
    projected = theirs @ axes
    projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9)
    pairs = np.triu_indices(min(_PAIRED, len(texts)), k=1)
    mine_paired, theirs_paired = mine[:_PAIRED], theirs[:_PAIRED]
    similar = spearman((mine_paired @ mine_paired.T)[pairs], (theirs_paired @ theirs_paired.T)[pairs])
    return {
        "held_out_texts": len(texts),
        "held_out_cosine": round(float((mine * projected).sum(axis=1).mean()), 4),
        "held_out_similarity_spearman": round(similar, 4),
    }


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((2 * last - counts + 1) / 2)[places]
    return ranks

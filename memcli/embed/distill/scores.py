"""How good a model is: against its teacher on texts held out of the training, and against human judgement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memcli.embed.judged import read_sts, spearman
from memcli.protocols import Embedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PAIRED = 2000


@dataclass(frozen=True, slots=True)
class Judged:
    """Pairs of sentences with a human score each."""

    name: str
    pairs: Sequence[tuple[str, str]]
    scores: NDArray[np.float64]


def read_judged(path: Path) -> Judged:
    """Read a headerless CSV of sentence1,sentence2,score. Raises UsageError naming the line that is none."""
    first, second, scores = zip(*read_sts(path), strict=True)
    return Judged(path.name, list(zip(first, second, strict=True)), np.array(scores))


def score_judged(embedder: Embedder, judged: Judged) -> float:
    """Return Spearman's correlation of the model's cosines with the human scores."""
    left = embedder.embed([pair[0] for pair in judged.pairs])
    right = embedder.embed([pair[1] for pair in judged.pairs])
    return _correlation((left * right).sum(axis=1), judged.scores)


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
    similar = _correlation((mine_paired @ mine_paired.T)[pairs], (theirs_paired @ theirs_paired.T)[pairs])
    return {
        "held_out_texts": len(texts),
        "held_out_cosine": round(float((mine * projected).sum(axis=1).mean()), 4),
        "held_out_similarity_spearman": round(similar, 4),
    }


def _correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Spearman's; 0 where one side is constant, since JSON has no NaN."""
    found = spearman(first, second)
    return 0.0 if math.isnan(found) else found

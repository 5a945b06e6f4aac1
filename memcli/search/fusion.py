"""How the parts of a score become one ranking. Pure.

A memory's own score is its BM25, divided by the query's best, plus its cosine similarity times a weight. A conversation
does not say everything in one turn: what the turns around a memory score is added, a share for each. Then come small
additions: it was said by whom the query names, or at the date that the query names; it is no question; it is
important; it is new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weights:
    """What each part counts. `next_to` and `beyond` are the shares of the turns one and two steps away.

    Chosen on five LoCoMo conversations, as `memcli bench search --locomo` does it.
    """

    meaning: float = 0.7
    next_to: float = 0.4
    beyond: float = 0.2
    speaker: float = 0.6
    date: float = 0.8
    question: float = -0.2
    importance: float = 0.1
    recency: float = 0.05
    environment: float = 0.5


WEIGHTS = Weights()
# The age at which half of what recency adds is left.
HALF_LIFE_DAYS = 90


@dataclass(frozen=True, slots=True)
class Own:
    """Words and meaning of memories and of the turns around each, (n, 5): two before, itself in the middle, two behind.

    `words` is BM25 divided by the query's best, `meaning` the cosine similarity; both are 0 where there is no turn.
    """

    words: Floats
    meaning: Floats

    def part(self, rows: NDArray[np.int64]) -> Own:
        """Those of some of the memories."""
        return Own(self.words[rows], self.meaning[rows])


@dataclass(frozen=True, slots=True)
class Facts:
    """What else counts of memories, each (n,) from 0 to 1."""

    speaker: Floats
    date: Floats
    question: Floats
    importance: Floats
    recency: Floats
    environment: Floats


def with_context(own: Own, weights: Weights = WEIGHTS) -> Floats:
    """The score of each memory without the facts, (n,)."""
    return (own.words + weights.meaning * own.meaning) @ _shares(weights)


def parts_of(own: Own, facts: Facts, weights: Weights = WEIGHTS) -> dict[str, Floats]:
    """What each part adds to the scores of memories, each (n,); the score is their sum."""
    here = _shares(weights)
    around = here.copy()
    around[2] = 0
    return {
        "words": own.words[:, 2],
        "meaning": weights.meaning * own.meaning[:, 2],
        "context": (own.words + weights.meaning * own.meaning) @ around,
        "speaker": weights.speaker * facts.speaker,
        "date": weights.date * facts.date,
        "question": weights.question * facts.question,
        "importance": weights.importance * facts.importance,
        "recency": weights.recency * facts.recency,
        "environment": weights.environment * facts.environment,
    }


def _shares(weights: Weights) -> Floats:
    return np.array([weights.beyond, weights.next_to, 1.0, weights.next_to, weights.beyond])

"""Search: cosine similarity and BM25 over the same memories, fused into one ranking."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memcli.store import search as search_rows
from memcli.store.db import Store
from memcli.store.search import Details, Filters
from memcli.store.vectors import Vectors
from memcli.tags import relevance

if TYPE_CHECKING:
    from memcli.protocols import Embedder

# A query's words decide; its meaning breaks ties and finds what shares no word. Weighing both alike ranks worse than
# BM25 alone.
COSINE_WEIGHT = 0.1
CANDIDATES = 200

_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a about am an and any are as at be been but by can could did do does for from had has have he her "
        "him his how i if in into is it its just me my no not of on or our out she should so some than that "
        "the their them then there these they this those to us was we were what when where which while who "
        "whom whose why will with would you your"
    )
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query, best first, as (score, star), and how long they took."""

    query: str
    seconds: float
    hits: tuple[tuple[float, Details], ...]

    def to_json(self) -> dict[str, object]:
        """The answer as part of the JSON document."""
        return {
            "query": self.query,
            "seconds": round(self.seconds, 4),
            "cached": False,
            "hits": [_hit(score, star) for score, star in self.hits],
        }


def search(
    store: Store, embedder: Embedder, vectors: Vectors, queries: Sequence[str], filters: Filters, k: int
) -> list[Answer]:
    """Find the `k` best memories for each query.

    The score is BM25, divided by the query's best, plus a tenth of the cosine similarity's z-score over all memories
    that pass the filters.
    """
    began = time.perf_counter()
    passing = search_rows.filtered_ids(store, filters) if filters.any else None
    ids, cosines = _cosines(vectors, embedder.embed_queries(queries), filters.agent, passing)
    shared = (time.perf_counter() - began) / max(len(queries), 1)
    answers = []
    for query, scores in zip(queries, cosines.T, strict=True):
        began = time.perf_counter()
        ranked = _rank(store, query, ids, scores, passing)[:k]
        stars = search_rows.details(store, [memory_id for memory_id, _ in ranked])
        hits = tuple((score, stars[memory_id]) for memory_id, score in ranked)
        answers.append(Answer(query, shared + time.perf_counter() - began, hits))
    return answers


def _cosines(
    vectors: Vectors, queries: NDArray[np.float32], agent: str | None, passing: set[int] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Memory ids (n,), ascending, and their cosine similarities with the queries (n, q)."""
    found_ids = [np.empty(0, np.int64)]
    found = [np.empty((0, len(queries)), np.float32)]
    wanted = None if passing is None else np.fromiter(passing, np.int64, len(passing))
    for _, segment in vectors.segments(None if agent is None else [agent]):
        kept = slice(None) if wanted is None else np.isin(segment.memory_ids, wanted)
        found_ids.append(segment.memory_ids[kept])
        found.append((segment.whole() @ queries.T)[kept])
    ids, scores = np.concatenate(found_ids), np.concatenate(found)
    order = np.argsort(ids)
    return ids[order], scores[order]


def _rank(
    store: Store, query: str, ids: NDArray[np.int64], cosines: NDArray[np.float32], passing: set[int] | None
) -> list[tuple[int, float]]:
    """Active memories with their fused scores, best first."""
    match = _match(query)
    keyword = search_rows.keyword_scores(store, match, -1 if passing is not None else CANDIDATES) if match else []
    words = {memory_id: score for memory_id, score in keyword if passing is None or memory_id in passing}
    nearest = np.argpartition(-cosines, CANDIDATES)[:CANDIDATES] if len(ids) > CANDIDATES else np.arange(len(ids))
    # Not numpy's union1d: that imports its masked arrays, for 8 ms.
    candidates = np.array(sorted({*ids[nearest].tolist(), *words}), np.int64)
    candidates = candidates[np.isin(candidates, ids)]
    deviation = float(cosines.std()) if len(ids) else 0.0
    z_scores = (cosines - cosines.mean()) / deviation if deviation > 0 else np.zeros_like(cosines)
    best = max(words.values(), default=0.0)
    scores: dict[int, float] = {}
    winners = search_rows.winners(store, candidates.tolist())
    for memory_id, place in zip(candidates.tolist(), np.searchsorted(ids, candidates).tolist(), strict=True):
        score = COSINE_WEIGHT * float(z_scores[place])
        if memory_id in words and best > 0:
            score += words[memory_id] / best
        # A loser's wording finds its star.
        star = winners.get(memory_id, memory_id)
        scores[star] = max(score, scores.get(star, score))
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def _match(query: str) -> str:
    """An FTS5 query that asks for any of the words. Every word is quoted: nothing in it is syntax."""
    words = list(dict.fromkeys(_WORD.findall(query.casefold())))
    telling = [word for word in words if word not in _STOP_WORDS] or words
    return " OR ".join(f'"{word}"' for word in telling)


def _hit(score: float, star: Details) -> dict[str, object]:
    return {
        "memory_id": star.memory_id,
        "content": star.content,
        "type": star.type,
        "importance": star.importance,
        "keywords": list(star.keywords),
        "score": round(score, 4),
        "agent_id": star.agent_id,
        "session_id": star.session_id,
        "timestamp": star.timestamp,
        "tags": relevance(star.sessions, star.tags),
        "sources": star.sources,
    }

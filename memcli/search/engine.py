"""The search engine: one scan of the vectors for all queries, keyword scores, and their fusion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from memcli.search.fusion import WEIGHTS, Weights, parts_of
from memcli.search.matrix import Matrix, Scan
from memcli.search.pool import ENOUGH, SEEDS, Mask, Pool, keywords, pool
from memcli.search.postings import Ids, Postings, Scored
from memcli.search.report import Ranked, Request
from memcli.search.words import telling, words_of
from memcli.store import search as search_rows
from memcli.store.db import Store

Vectors32 = NDArray[np.float32]

# Scores of all rows that are held at once.
_SCORES_AT_ONCE = 1 << 24
_QUERIES_AT_ONCE = 32
# The share of the memory that the scores of words may take.
_OF_POSTINGS = 8


class Engine:
    """Ranks the memories of one database. The vectors and words that it has read stay in memory for the next query."""

    def __init__(self, store: Store, model_id: str, max_memory: int) -> None:
        self._store = store
        self._postings = Postings(store, max_memory // _OF_POSTINGS)
        self._matrix = Matrix(store, model_id, max_memory - max_memory // _OF_POSTINGS)

    def rank(self, queries: Sequence[str], embedded: Vectors32 | None, request: Request) -> list[list[Ranked]]:
        """The best stars for each query, in the order of the queries.

        `embedded` are the vectors of the queries, float32 (b, dim); keyword search needs none.
        """
        if embedded is None:
            listed = search_rows.filtered_ids(self._store, request.filters) if request.filters.any else None
            allowed = None if listed is None else np.array(listed, dtype=np.int64)
            return [self._by_words(query, request, allowed) for query in queries]
        found = []
        for at, scanned, passing in self._scans(embedded, request):
            for number in range(scanned.queries):
                if request.mode == "vector":
                    found.append(self._by_meaning(scanned, number, request.k, passing))
                else:
                    found.append(self._by_both(scanned, number, queries[at + number], passing, request))
        return found

    def pools(self, queries: Sequence[str], embedded: Vectors32, request: Request) -> Iterator[Pool]:
        """The contenders of each query, for whoever wants to weigh them in other ways."""
        for at, scanned, passing in self._scans(embedded, request):
            for number in range(scanned.queries):
                query = queries[at + number]
                yield pool(self._store, self._postings, query, scanned, number, passing, request.k)

    def _scans(self, embedded: Vectors32, request: Request) -> Iterator[tuple[int, Scan, Mask | None]]:
        """Scan for so many queries at once as the scores of all rows leave room for."""
        filters = request.filters
        listed = search_rows.filtered_ids(self._store, filters) if filters.beyond_agent else None
        rows = self._store.next_id("memories")
        size = min(_QUERIES_AT_ONCE, max(_SCORES_AT_ONCE // rows, 1))
        for at in range(0, len(embedded), size):
            scanned = self._matrix.scan(embedded[at : at + size], filters.agent)
            passing = None
            if listed is not None:
                passing = np.zeros(len(scanned), dtype=np.bool_)
                places = scanned.place(np.array(listed, dtype=np.int64))
                passing[places[places >= 0]] = True
            yield at, scanned, passing

    def _by_meaning(self, scanned: Scan, number: int, k: int, passing: Mask | None) -> list[Ranked]:
        """The nearest stars. A star is as near as its nearest member, so more rows than stars may be needed."""
        rows = k
        while True:
            near = scanned.nearest(number, rows, passing)
            links = search_rows.winners(self._store, [memory_id for memory_id, _ in near])
            stars: dict[int, float] = {}
            for memory_id, cosine in near:
                stars.setdefault(links.get(memory_id, memory_id), cosine)
            if len(stars) >= k or len(near) < rows:
                return [Ranked(star, cosine, {"meaning": cosine}) for star, cosine in list(stars.items())[:k]]
            rows *= 2

    def _by_both(self, scanned: Scan, number: int, query: str, passing: Mask | None, request: Request) -> list[Ranked]:
        """The best stars by words and meaning. Where one star has most contenders, more of them are needed."""
        wanted, rows = request.k, len(scanned) if passing is None else int(passing.sum())
        while True:
            contenders = pool(self._store, self._postings, query, scanned, number, passing, wanted, request.environment)
            best = fused(contenders, request.k)
            if len(best) >= request.k or wanted >= rows:
                return best
            wanted = 4 * max(wanted, SEEDS)

    def _by_words(self, query: str, request: Request, allowed: Ids | None) -> list[Ranked]:
        def passes(ids: Ids) -> Mask:
            return np.ones(len(ids), dtype=np.bool_) if allowed is None else np.isin(ids, allowed)

        words, enough = telling(words_of(query)), max(ENOUGH, 4 * request.k)
        while True:
            found = keywords(self._postings, words, passes, enough)
            found = found.those(passes(found.ids))
            best = self._stars(found, request.k)
            if len(best) >= request.k or len(found.ids) < enough:
                return [Ranked(star, score, {"words": score}) for star, score in best]
            # They are members of few stars.
            enough *= 4

    def _stars(self, found: Scored, k: int) -> list[tuple[int, float]]:
        """The best `k` stars with the score of the best member of each, the lower id first among equal ones."""
        rows = 2 * k
        while True:
            # Who is not among these scores less than all that are.
            least = np.partition(found.scores, -rows)[-rows] if rows < len(found.ids) else -np.inf
            best = found.those(found.scores >= least)
            links = search_rows.winners(self._store, best.ids.tolist())
            stars: dict[int, float] = {}
            for memory_id, score in zip(best.ids.tolist(), best.scores.tolist(), strict=True):
                star = links.get(memory_id, memory_id)
                stars[star] = max(score, stars.get(star, score))
            if len(stars) >= k or len(best.ids) == len(found.ids):
                return sorted(stars.items(), key=lambda each: (-each[1], each[0]))[:k]
            rows *= 4


def fused(contenders: Pool, k: int, weights: Weights = WEIGHTS) -> list[Ranked]:
    """The best `k` stars of a pool: a star scores what its best member does, since a loser's wording finds its star."""
    parts = parts_of(contenders.own, contenders.facts, weights)
    scores = np.sum(list(parts.values()), axis=0)
    order = np.lexsort((contenders.stars, -scores))
    _, first = np.unique(contenders.stars[order], return_index=True)
    rows = order[np.sort(first)][:k]
    return [
        Ranked(int(contenders.stars[row]), float(scores[row]), {name: float(part[row]) for name, part in parts.items()})
        for row in rows
    ]

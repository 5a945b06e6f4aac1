"""BM25 of single words over all memories, kept in the process: for the next query they are one look into an array.

FTS5's own bm25() looks up the length of every memory that it scores, and counts a word's memories anew for every query:
nine tenths of its time. Here each word's memories come from the index in one string, lengths are looked up once, and
the sum is FTS5's to the last bit: the same terms in the same order.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcli.search.words import any_of
from memcli.store import search as search_rows
from memcli.store.db import Store
from memcli.store.search import Word

Ids = NDArray[np.int64]

# FTS5's: of the weight of a word that stands more than once, and of the length of a memory.
_K1, _B = 1.2, 0.75
_LEAST_IDF = 1e-6
# An occurrence is up to 20 digits in the string, then an id, while it is read.
_BYTES_PER_TIME = 40
_BYTES_PER_SCORE = 16
# Where more than one memory in so many must be looked up, the lengths of all are read: that costs no more.
_ALL_FROM = 8
_CONTINUED = 0x80
_MOST_KNOWN = 1 << 16


@dataclass(frozen=True, slots=True)
class Scored:
    """Memories, `ids` int64 (m,) ascending, and what a query or a word of it scores in each, `scores` (m,)."""

    ids: Ids
    scores: NDArray[np.float64]

    def plus(self, other: Scored) -> Scored:
        """The memories of both; where one is in both, its scores are added up."""
        sums = self.also(other)
        at = np.searchsorted(self.ids, other.ids)
        new = ~_held(self.ids, at, other.ids)
        return Scored(np.insert(self.ids, at[new], other.ids[new]), np.insert(sums.scores, at[new], other.scores[new]))

    def also(self, other: Scored) -> Scored:
        """These memories, with what `other` scores in them added."""
        return Scored(self.ids, self.scores + other.of(self.ids))

    def those(self, passing: NDArray[np.bool_]) -> Scored:
        """What of it passes, (m,)."""
        return Scored(self.ids[passing], self.scores[passing])

    def of(self, memory_ids: Ids) -> NDArray[np.float64]:
        """The scores of memories, 0 for those that are not among these."""
        at = np.searchsorted(self.ids, memory_ids)
        held = _held(self.ids, at, memory_ids)
        if not len(self.ids):
            return np.zeros(memory_ids.shape)
        return np.where(held, self.scores[np.minimum(at, len(self.ids) - 1)], 0.0)


NOTHING = Scored(np.empty(0, np.int64), np.empty(0, np.float64))


class Postings:
    """The memories that hold a word, with its BM25 in each, of one state of the corpus; at most `max_bytes` are kept.

    To be asked within a snapshot.
    """

    def __init__(self, store: Store, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._generation = -1
        self._words: dict[str, Word | None] = {}
        self._scored: OrderedDict[str, Scored] = OrderedDict()
        self._scored_bytes = 0
        # Of each memory id, -1: not known yet.
        self._lengths = np.empty(0, np.int32)
        self._rows, self._mean_length = 0, 0.0

    def known(self, words: Sequence[str]) -> dict[str, Word]:
        """Those of the words that some memory holds."""
        self._see_state()
        if len(self._words) > _MOST_KNOWN:
            self._words.clear()
        missing = [word for word in words if word not in self._words]
        if missing:
            self._words.update(dict.fromkeys(missing) | search_rows.indexed(self._store, missing))
        return {word: found for word in words if (found := self._words[word]) is not None}

    def holds(self, words: Sequence[Word]) -> bool:
        """Whether there is room to score words here; only the largest databases have so common ones."""
        most = max((word.times for word in words), default=0)
        return _BYTES_PER_TIME * most <= self._max_bytes and self._lengths.nbytes <= self._max_bytes

    def scores(self, word: str) -> Scored:
        """The memories that hold a word that is `known`, and its BM25 in each."""
        found = self._scored.pop(word, None)
        if found is None:
            entry = self._words[word]
            term = None if entry is None else entry.term
            # Where several terms stand in a row, FTS5 itself knows.
            found = self.found_by_fts5(any_of([word])) if term is None else self._read(term)
            self._scored_bytes += _BYTES_PER_SCORE * len(found.ids)
        self._scored[word] = found
        while self._scored_bytes > self._max_bytes and len(self._scored) > 1:
            self._scored_bytes -= _BYTES_PER_SCORE * len(self._scored.popitem(last=False)[1].ids)
        return found

    @property
    def kept_bytes(self) -> int:
        """What the scores of words take."""
        return sum(_BYTES_PER_SCORE * len(found.ids) for found in self._scored.values())

    def _see_state(self) -> None:
        """Forget what was of another state of the corpus."""
        generation = self._store.generation()
        if generation == self._generation:
            return
        self._generation = generation
        self._words.clear()
        self._scored.clear()
        self._scored_bytes = 0
        highest, record = search_rows.totals(self._store)
        self._lengths = np.full(highest + 1, -1, np.int32)
        rows, words = (*numbers(record).tolist(), 0, 0)[:2]
        self._rows, self._mean_length = rows, words / max(rows, 1)

    def found_by_fts5(self, match: str) -> Scored:
        """The memories that an FTS5 query finds, with its own bm25()."""
        rows = search_rows.keyword_scores(self._store, match)
        ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        scores = np.fromiter((row[1] for row in rows), np.float64, len(rows))
        order = np.argsort(ids)
        return Scored(ids[order], scores[order])

    def _read(self, term: str) -> Scored:
        listed = np.fromstring(search_rows.memories_with(self._store, term), dtype=np.int64, sep=",")
        first = np.flatnonzero(np.concatenate([[True], listed[1:] != listed[:-1]]))
        ids, times = listed[first], np.diff(first, append=len(listed)).astype(np.float64)
        idf = math.log((self._rows - len(ids) + 0.5) / (len(ids) + 0.5))
        lengths = self._lengths_of(ids).astype(np.float64)
        scores = times * (_K1 + 1.0) / (times + _K1 * (1 - _B + _B * lengths / self._mean_length))
        return Scored(ids, (idf if idf > 0 else _LEAST_IDF) * scores)

    def _lengths_of(self, ids: Ids) -> NDArray[np.int32]:
        missing = ids[self._lengths[ids] < 0]
        if len(missing):
            wanted = None if len(missing) * _ALL_FROM > self._rows else missing.tolist()
            found, digits = search_rows.lengths(self._store, wanted)
            self._lengths[np.fromstring(found, dtype=np.int64, sep=",")] = numbers(bytes.fromhex(digits))
        return self._lengths[ids]


def numbers(varints: bytes) -> Ids:
    """What SQLite's varints stand for, int64 (n,): seven bits a byte, the high ones first, the last byte below 128.

    Only below 2^56: the ninth byte of a longer one has eight.
    """
    raw = np.frombuffer(varints, dtype=np.uint8)
    ends = np.flatnonzero(raw < _CONTINUED)
    widths = np.diff(ends, prepend=-1)
    found = np.zeros(len(ends), dtype=np.int64)
    for back in range(int(widths.max(initial=0))):
        there = widths > back
        found[there] |= (raw[ends[there] - back] & (_CONTINUED - 1)).astype(np.int64) << (7 * back)
    return found


def _held(ids: Ids, at: NDArray[np.intp], wanted: Ids) -> NDArray[np.bool_]:
    """Whether `wanted` are among the ascending `ids`, where `at` is their place among these."""
    if not len(ids):
        return np.zeros(wanted.shape, np.bool_)
    found: NDArray[np.bool_] = ids[np.minimum(at, len(ids) - 1)] == wanted
    return found

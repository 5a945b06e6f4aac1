"""What is kept of a flood: of thousands of templated texts that are all near one another, with pairs past counting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Pairs per query, on average, from which it is a flood; what is kept of a flood per query, with its key and without.
FLOOD_PAIRS, SAME_KEY, STRONGEST = 64, 64, 8

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
Floors = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(slots=True)
class Flood:
    """What a search does in a flood, and what it left out.

    Once a thousand queries have more than FLOOD_PAIRS pairs each, on average, a query gets of what follows only its
    SAME_KEY strongest pairs with its own merge key, since others cannot merge, and its STRONGEST other ones.
    `make_keys` gives the keys of the queries, int64 (b,), and is called at most once, in a flood; `left_out` int64 (b,)
    counts the rest.
    """

    make_keys: Callable[[], NDArray[np.int64]]
    left_out: NDArray[np.int64]
    made_keys: NDArray[np.int64] | None = None

    def keys(self) -> NDArray[np.int64]:
        """The merge keys of the queries."""
        if self.made_keys is None:
            self.made_keys = self.make_keys()
        return self.made_keys


@dataclass(frozen=True, slots=True)
class Kept:
    """What one search in a flood gives: pairs with equal keys, the strongest others, and per query how many in all."""

    same: Found
    others: Found
    total: NDArray[np.int64]


class _Strongest:
    """The `limit` strongest pairs of each of some queries, of equal ones those with the lowest ids."""

    def __init__(self, limit: int, first: int, queries: int) -> None:
        self.pairs: Found = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
        self.floor = np.full(queries, -np.inf)
        self._limit = limit
        self._first = first

    def add(self, found: Found) -> None:
        if not len(found[0]):
            return
        query, ids, score = (np.concatenate(parts) for parts in zip(self.pairs, found, strict=True))
        order = np.lexsort((ids, -score, query))
        query = query[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        kept, last = order[rank < self._limit], order[rank == self._limit - 1]
        self.pairs = (query[rank < self._limit], ids[kept], score[kept])
        self.floor[query[rank == self._limit - 1] - self._first] = score[last]


@dataclass(slots=True)
class Dam:
    """Collects the pairs of `queries` queries, the first of which is `first`; in a flood the strongest ones only."""

    flood: Flood | None
    first: int
    queries: int
    is_flooded: bool = False
    _calm: list[Found] = field(default_factory=list)
    _calm_pairs: int = 0
    _same: _Strongest = field(init=False)
    _others: _Strongest = field(init=False)

    def __post_init__(self) -> None:
        self._same = _Strongest(SAME_KEY, self.first, self.queries)
        self._others = _Strongest(STRONGEST, self.first, self.queries)

    @property
    def floors(self) -> Floors:
        """The scores below which pairs of a query are not kept any more: with its key, and without."""
        return self._same.floor, self._others.floor

    @property
    def most(self) -> int | None:
        """How many pairs are no flood yet; None where there is no damming."""
        return None if self.flood is None else FLOOD_PAIRS * self.queries

    def keys(self) -> NDArray[np.int64]:
        """The merge keys of the queries."""
        if self.flood is None:
            raise ValueError("without damming there are no keys")
        return self.flood.keys()[self.first : self.first + self.queries]

    def take(self, found: Found | Kept | None) -> bool:
        """Take what a search found; None are too many pairs. False says that it has to search anew, as in a flood."""
        if isinstance(found, Kept):
            self._keep(found)
            return True
        if self.is_flooded or found is None or (self.most is not None and self._calm_pairs + len(found[0]) > self.most):
            self.is_flooded = True
            return False
        self._calm.append(found)
        self._calm_pairs += len(found[0])
        return True

    def _keep(self, kept: Kept) -> None:
        self._count(np.arange(self.first, self.first + self.queries), kept.total)
        self._same.add(kept.same)
        self._others.add(kept.others)

    def pairs(self) -> list[Found]:
        """All that is kept. To be called once."""
        kept = [self._same.pairs, self._others.pairs]
        for query, _, _ in kept:
            self._count(query, np.full(len(query), -1))
        return [*self._calm, *kept]

    def _count(self, queries: NDArray[np.int64], pairs: NDArray[np.int64]) -> None:
        if self.flood is not None:
            np.add.at(self.flood.left_out, queries, pairs)


def top(scores: NDArray[np.float32], among: NDArray[np.bool_], limit: int) -> NDArray[np.bool_]:
    """Of the entries `among` (n, b), mark at most `limit` per column: the largest scores, of equal ones the first."""
    if among.sum(axis=0).max(initial=0) <= limit:
        return among
    shown = np.where(among, scores, -np.inf).T
    least = np.partition(shown, -limit, axis=1)[:, -limit, None]
    larger, equal = shown > least, (shown == least) & among.T
    kept: NDArray[np.bool_] = larger | (equal & (np.cumsum(equal, axis=1) <= limit - larger.sum(axis=1)[:, None]))
    return kept.T

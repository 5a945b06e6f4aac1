"""Which memories contend for a place among the hits of a query, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

from memcli.search.fusion import HALF_LIFE_DAYS, Facts, Own, with_context
from memcli.search.matrix import Scan
from memcli.search.names import names_in
from memcli.search.postings import NOTHING, Ids, Postings, Scored
from memcli.search.words import Day, any_of, closeness, dates_of
from memcli.store import search as search_rows
from memcli.store.db import Store
from memcli.store.search import Fact
from memcli.tags import relevance

Mask = NDArray[np.bool_]

# Memories that words, and as many that meaning brings into the ranking; with them come the turns around them.
SEEDS = 32
# Of these so many are looked at more closely, beginning with the best by words, meaning and context.
CONTENDERS = 100
# Common words are looked up only among what the rarer ones have found, once these have found so many.
ENOUGH = 100
# The rarest words of a query that count: somebody may ask with a page of text.
_MOST_WORDS = 32
_REACH = 2


@dataclass(frozen=True, slots=True)
class Pool:
    """Memories that contend for a place: what their scores are made of, and the star of each, int64 (n,)."""

    stars: Ids
    own: Own
    facts: Facts


def keywords(
    postings: Postings,
    words: Sequence[str],
    passes: Callable[[Ids], Mask],
    enough: int = ENOUGH,
    most: int = _MOST_WORDS,
) -> Scored:
    """BM25 (FTS5's) of the memories that hold any of the words.

    BM25 is a sum over the words. The rarest are looked up first; once `enough` memories that pass have been found, the
    common ones count only where they stand beside a rarer one: a memory that holds nothing else scores little, and to
    find all of them would take most of the time (after MaxScore: Turtle and Flood, Query Evaluation, 1995).
    """
    known = postings.known(words)
    rarest = sorted(known, key=lambda word: (known[word].memories, word))[:most]
    is_here = postings.holds([known[word] for word in rarest])
    found = NOTHING
    for number, word in enumerate(rarest):
        if number and int(passes(found.ids).sum()) >= enough:
            if not is_here:
                both = postings.found_by_fts5(f"({any_of(rarest[:number])}) AND ({any_of(rarest[number:])})")
                return Scored(found.ids, np.maximum(found.scores, both.of(found.ids)))
            for common in rarest[number:]:
                found = found.also(postings.scores(common))
            break
        found = found.plus(postings.scores(word) if is_here else postings.found_by_fts5(any_of([word])))
    return found


def pool(
    store: Store,
    postings: Postings,
    query: str,
    scan: Scan,
    number: int,
    passing: Mask | None,
    k: int,
    environment: Sequence[str] = (),
) -> Pool:
    """The contenders for the best `k` of query `number` of a scan.

    `passing` (rows of the scan,) says which memories may be found; the turns around them count in any case.
    """
    names, telling_words = names_in(store, query)

    def passes(ids: Ids) -> Mask:
        places = scan.place(ids)
        there = places >= 0
        if passing is not None:
            # Not passing[places]: where nothing was scanned, not even the last row can be asked for.
            there[there] = passing[places[there]]
        return there

    words = keywords(postings, telling_words, passes, max(ENOUGH, k))
    mine = words.those(passes(words.ids))
    seeds = max(SEEDS, k)
    top = mine.ids[np.argsort(-mine.scores, kind="stable")[:seeds]]
    near = search_rows.surroundings(store, sorted(top.tolist()), 2 * _REACH)
    # Not sooner: until here other threads scan the vectors, and this one does what they have left of it.
    more = set(scan.best(number, seeds, passing).tolist()) - near.keys()
    near |= search_rows.surroundings(store, sorted(more), 2 * _REACH)
    ids, around = _turns(dict(sorted(near.items())))
    kept = passes(ids)
    ids, around = ids[kept], around[kept]
    best = float(mine.scores.max(initial=0.0))
    by_words = words.of(around) / best if best > 0 else np.zeros(around.shape)
    own = Own(by_words, scan.cosines(number, _with_rows(store, scan, around)))
    order = np.lexsort((ids, -with_context(own)))[: max(CONTENDERS, 2 * k)]
    facts = search_rows.facts(store, ids[order].tolist())
    stars = np.array([fact.star for fact in facts], dtype=np.int64)
    return Pool(stars, own.part(order), _facts(store, facts, names, dates_of(query), environment))


def _turns(near: Mapping[int, tuple[list[int], list[int]]]) -> tuple[Ids, NDArray[np.int64]]:
    """Memories and the turns around them, ids (n,), and each with the turns around it, (n, 5).

    There are two before, itself, and two behind, -1 where there is none. `near` are the turns before and behind some.
    """
    lines = np.full((len(near), 4 * _REACH + 1), -1, dtype=np.int64)
    for row, (memory_id, (before, behind)) in enumerate(near.items()):
        lines[row, 2 * _REACH - len(before) : 2 * _REACH] = before[::-1]
        lines[row, 2 * _REACH : 2 * _REACH + 1 + len(behind)] = [memory_id, *behind]
    windows = np.lib.stride_tricks.sliding_window_view(lines, 2 * _REACH + 1, axis=1).reshape(-1, 2 * _REACH + 1)
    ids, first = np.unique(windows[:, _REACH], return_index=True)
    there = ids >= 0
    return ids[there], windows[first[there]]


def _with_rows(store: Store, scan: Scan, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """`ids`, where a memory that has no vector since it is a copy of another is that other one."""
    without = ids[(scan.place(ids) < 0) & (ids >= 0)]
    if not len(without):
        return ids
    links = search_rows.winners(store, sorted(set(without.tolist())))
    replaced = ids.copy()
    for copy, original in links.items():
        replaced[ids == copy] = original
    return replaced


def _facts(
    store: Store, facts: Sequence[Fact], names: Sequence[str], dates: Sequence[Day], environment: Sequence[str]
) -> Facts:
    ids = [fact.memory_id for fact in facts]
    said = search_rows.said_by(store, ids, names) if names else set()
    shares = {}
    if environment:
        stars = search_rows.sessions_by_tag(store, sorted({fact.star for fact in facts}), environment)
        shares = {star: sum(relevance(*each).values()) / len(environment) for star, each in stars.items()}
    today = datetime.now(UTC).date()
    rows = [
        (
            float(fact.memory_id in said),
            closeness(dates, fact.timestamp) if dates else 0.0,
            float(fact.is_question),
            fact.importance,
            _recency(fact.timestamp, today),
            shares.get(fact.star, 0.0),
        )
        for fact in facts
    ]
    return Facts(*np.array(rows, dtype=np.float64).reshape(-1, 6).T)


def _recency(timestamp: str | None, today: date) -> float:
    """1 for what is of today, half of it for each HALF_LIFE_DAYS more."""
    if timestamp is None:
        return 0.0
    try:
        age = (today - date.fromisoformat(timestamp[:10])).days
    except ValueError:
        return 0.0
    return float(0.5 ** (max(age, 0) / HALF_LIFE_DAYS))

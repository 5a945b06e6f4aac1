"""What becomes of the candidates of a batch: exact duplicates, near duplicates, pairs for review, new memories.

The candidates are judged one after another in their order, each against the active memories before it, stored or of
the same batch; so the result does not depend on how the stream is cut into batches.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from memcli.dedup.blocks import Block, make_block
from memcli.dedup.flood import Flood
from memcli.dedup.gates import GATE_VERSION, merge_key
from memcli.dedup.judge import REVIEWED_COSINE, VERBATIM, Judge, Verdict
from memcli.dedup.scan import Pairs, pairs_above, pairs_within
from memcli.dedup.standing import Standing, mark_of
from memcli.model import Candidate, Known, Link, NewReview, Ruling
from memcli.protocols import Embedder
from memcli.store import dedup as dedup_rows
from memcli.store import memories as memory_rows
from memcli.store.db import Store
from memcli.store.memories import Evidence, NewMemory
from memcli.store.vectors import NewRows, Segment, Vectors
from memcli.text import content_hash
from memcli.workers import workers


@dataclass(frozen=True, slots=True)
class Extracted:
    """A candidate with the window it was taken from."""

    candidate: Candidate
    window_id: int
    session_id: int
    agent: str
    timestamp: str | None


@dataclass(slots=True)
class Resolved:
    """What a batch adds to the memories."""

    memories: list[NewMemory] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    relinked: list[int] = field(default_factory=list)
    reviews: list[NewReview] = field(default_factory=list)
    blocks: dict[str, NewRows] = field(default_factory=dict)
    embedded: int = 0
    scan_seconds: float = 0.0

    def add(self, plan: Plan, place: int, judged: Verdict) -> None:
        """Add a candidate as a memory, with its verdict."""
        item = plan.items[place]
        self.reviews.extend(judged.reviews)
        self.memories.append(
            NewMemory(
                id=plan.first_id + place,
                agent=item.agent,
                session_id=item.session_id,
                window_id=item.window_id,
                candidate=item.candidate,
                content_hash=plan.hashes[place],
                timestamp=item.timestamp,
                verdict=judged.decision,
                embedded=not plan.exact[place],
                review_pairs=judged.review_pairs,
            )
        )

    def lost(self) -> Counter[str]:
        """How many memories became losers, by the kind of their first merge: so much less the active ones grow."""
        followed = set(self.relinked)
        verdicts = {memory.id: memory.verdict for memory in self.memories if memory.verdict in {"exact", "near"}}
        return Counter(verdicts.get(link.loser, link.kind) for link in self.links if link.loser not in followed)


@dataclass(frozen=True, slots=True)
class Plan:
    """Candidates with their future ids and hashes, which of them need no vector, and what the store knows of them."""

    items: Sequence[Extracted]
    first_id: int
    hashes: list[bytes]
    exact: list[bool]
    known: list[Known]

    def as_known(self, place: int) -> Known:
        """A candidate as the judge knows a memory."""
        item, memory_id = self.items[place], self.first_id + place
        candidate = item.candidate
        return Known(
            memory_id,
            item.agent,
            candidate.type,
            candidate.method,
            candidate.content,
            self.hashes[place],
            not self.exact[place],
            None,
        )


@dataclass(slots=True)
class Near:
    """What is near the candidates of a batch.

    `pairs` has by future memory id the earlier memories (id ascending, cosine) of its agent above the threshold,
    `left_out` counts those that were left out since there are too many of them, or since they can neither merge nor be
    asked about; `blocks` are the vectors by agent, `seconds` is how long the search for pairs took.
    """

    pairs: dict[int, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    left_out: dict[int, int] = field(default_factory=dict)
    blocks: dict[str, NewRows] = field(default_factory=dict)
    seconds: float = 0.0


class Resolver:
    """Decides with one embedding model and one threshold."""

    def __init__(self, store: Store, embedder: Embedder, vectors: Vectors, threshold: float) -> None:
        self.evidence = Evidence(embedder.model_id, threshold, GATE_VERSION)
        self._store = store
        self._embedder = embedder
        self._vectors = vectors
        self._threshold = threshold
        self._standing = Standing()
        self._judge: Judge | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embed-ahead")
        self._coming: Callable[[], dict[bytes, NDArray[np.float32]]] = dict

    def plan(self, items: Sequence[Extracted]) -> Plan:
        """Look up which texts are known: one query for all content hashes."""
        hashes = [content_hash(item.candidate.content) for item in items]
        known = memory_rows.by_content(self._store, dict.fromkeys(hashes))
        taken = {exact_scope(each.agent, each.type, each.method, each.content_hash) for each in known}
        spoken = {(each.agent, each.content_hash) for each in known if each.method != VERBATIM}
        exact = []
        for item, found in zip(items, hashes, strict=True):
            method = item.candidate.method
            scope = exact_scope(item.agent, item.candidate.type, method, found)
            exact.append(scope in taken or (method == VERBATIM and (item.agent, found) in spoken))
            taken.add(scope)
            if method != VERBATIM:
                spoken.add((item.agent, found))
        return Plan(items, self._store.next_id("memories"), hashes, exact, known)

    def embed(self, plan: Plan) -> tuple[dict[bytes, NDArray[np.float32]], int]:
        """Vectors by content hash of all candidates that need one, and how many had to be embedded for it.

        A text that any memory of the database holds already is not embedded again.
        """
        wanted = {
            found: item.candidate.content
            for item, found, exact in zip(plan.items, plan.hashes, plan.exact, strict=True)
            if not exact
        }
        stored = {each.content_hash: each.id for each in plan.known if each.embedded and each.content_hash in wanted}
        rows = self._vectors.rows(list(stored.values()))
        vectors = {found: rows[memory_id] for found, memory_id in stored.items() if memory_id in rows}
        missing = [found for found in wanted if found not in vectors]
        coming, self._coming = self._coming, dict
        vectors.update(coming())
        vectors.update(self._embedded({found: wanted[found] for found in missing if found not in vectors}))
        return vectors, len(missing)

    def embed_ahead(self, items: Sequence[Extracted], before: Plan) -> None:
        """Begin to embed those texts of the next batch that neither the store nor `before`, the batch at hand, has.

        They will need a vector, whatever becomes of the batch at hand. With one worker they get it when it is needed.
        """
        texts = {content_hash(item.candidate.content): item.candidate.content for item in items}
        known = {each.content_hash for each in memory_rows.by_content(self._store, texts)}.union(before.hashes)
        embed = partial(self._embedded, {found: text for found, text in texts.items() if found not in known})
        self._coming = self._pool.submit(embed).result if workers() > 1 else embed

    def _embedded(self, texts: dict[bytes, str]) -> dict[bytes, NDArray[np.float32]]:
        return dict(zip(texts, self._embedder.embed(list(texts.values())), strict=True)) if texts else {}

    def decide(self, plan: Plan, vectors: dict[bytes, NDArray[np.float32]]) -> Resolved:
        """Judge all candidates in order."""
        near, judge = self.survey(plan, vectors, sifted=True)
        result = Resolved(blocks=near.blocks, scan_seconds=near.seconds)
        for place in range(len(plan.items)):
            memory_id = plan.first_id + place
            pairs, left_out = near.pairs.get(memory_id, ()), near.left_out.get(memory_id, 0)
            result.add(plan, place, judge.take(plan.as_known(place), pairs, left_out=left_out))
        result.links, result.relinked = judge.links()
        return result

    def survey(
        self,
        plan: Plan,
        vectors: dict[bytes, NDArray[np.float32]],
        more: Sequence[Ruling] = (),
        *,
        sifted: bool = False,
    ) -> tuple[Near, Judge]:
        """What is near the candidates, and a judge who knows all of that.

        `more` are rulings beside the stored ones. `sifted`: without pairs that can neither merge nor be asked about.
        """
        if self._judge is not None:
            self._standing.forget(link.loser for link in self._judge.links()[0])
        rulings = [*dedup_rows.rulings(self._store, [each.id for each in plan.known]), *more]
        near = self._near(plan, vectors, rulings if sifted else None)
        stored = {memory_id for found in near.pairs.values() for memory_id, _ in found if memory_id < plan.first_id}
        known = {each.id: each for each in plan.known}
        known |= {each.id: each for each in memory_rows.by_id(self._store, sorted(stored - known.keys()))}
        followers = memory_rows.losers(self._store, _may_be_replaced(plan))
        self._judge = Judge([*known.values(), *followers], self._threshold, rulings)
        return near, self._judge

    def _near(self, plan: Plan, vectors: dict[bytes, NDArray[np.float32]], rulings: Sequence[Ruling] | None) -> Near:
        """All that is near; with `rulings` it is sifted."""
        near = Near()

        def add(ids: NDArray[np.int64], pairs: Pairs, others: NDArray[np.int64]) -> None:
            later = ids[pairs.query]
            for memory_id, other, score in zip(later.tolist(), others.tolist(), pairs.score.tolist(), strict=True):
                near.pairs[memory_id].append((other, score))

        queries: dict[str, NewRows] = {}
        floods: dict[str, Flood] = {}
        for agent, places in _by_agent(plan).items():
            rows = np.stack([vectors[plan.hashes[place]] for place in places])
            queries[agent] = NewRows(np.array(places, dtype=np.int64) + plan.first_id, rows)
            texts = [plan.items[place].candidate.content for place in places]
            floods[agent] = Flood(partial(_keys, texts), np.zeros(len(places), dtype=np.int64))
        for agent, listed in groupby(self._vectors.segments(list(queries)), key=itemgetter(0)):
            blocks = (self._block(segment) for _, segment in listed)
            began = time.perf_counter()
            stored = pairs_above(queries[agent].vectors, blocks, self._threshold, floods[agent])
            near.seconds += time.perf_counter() - began
            if rulings is not None:
                stored, sifted = self._sifted(plan, queries[agent].ids, stored, rulings)
                floods[agent].left_out += sifted
            add(queries[agent].ids, stored, stored.id)
        for agent, new in queries.items():
            flood = floods[agent]
            began = time.perf_counter()
            within = pairs_within(new.vectors, self._threshold, flood)
            near.seconds += time.perf_counter() - began
            add(new.ids, within, new.ids[within.id])
            near.left_out.update(zip(new.ids.tolist(), flood.left_out.tolist(), strict=True))
            near.blocks[agent] = replace(new, keys=flood.made_keys)
        return near

    def _sifted(
        self, plan: Plan, ids: NDArray[np.int64], pairs: Pairs, rulings: Sequence[Ruling]
    ) -> tuple[Pairs, NDArray[np.int64]]:
        """The pairs that may merge or be asked about, and how many others that matter each query (b,) has.

        The others are most pairs where many memories resemble each other. The result is that of judging them all: what
        is ruled about, and what may become a loser in this very batch, is left to the judge.
        """
        standing = self._standing
        standing.learn(memory_rows.by_id(self._store, standing.unknown(pairs.id)))
        ruled = {side[1:] for ruling in rulings for side in (ruling.one, ruling.other)}
        marks, kinds = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
        is_ruled = np.zeros(len(ids), np.bool_)
        for query in np.unique(pairs.query).tolist():
            place = int(ids[query]) - plan.first_id
            item = plan.items[place]
            marks[query], kinds[query] = mark_of(item.candidate.content), standing.kind(item.candidate.type)
            is_ruled[query] = (item.agent, plan.hashes[place]) in ruled
        counts, may_merge = standing.compared(pairs.id, marks[pairs.query], kinds[pairs.query])
        known = np.array([each.id for each in plan.known], dtype=np.int64)
        kept = (
            counts & (may_merge | (pairs.score >= REVIEWED_COSINE)) | is_ruled[pairs.query] | np.isin(pairs.id, known)
        )
        left_out = np.bincount(pairs.query[counts & ~kept], minlength=len(ids))
        return Pairs(pairs.query[kept], pairs.id[kept], pairs.score[kept]), left_out

    def _block(self, segment: Segment) -> Block:
        return make_block(
            segment.memory_ids, segment.vectors, partial(self._vectors.keys, segment), codes=segment.codes
        )


def _keys(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.array([merge_key(text) for text in texts], dtype=np.int64)


def exact_scope(agent: str, kind: str, method: str, found: bytes) -> tuple[str, str, bool, bytes]:
    """Within this a second memory of one text is an exact duplicate: verbatim memories only repeat verbatim ones."""
    return agent, kind, method == VERBATIM, found


def _by_agent(plan: Plan) -> dict[str, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, (item, exact) in enumerate(zip(plan.items, plan.exact, strict=True)):
        if not exact:
            places[item.agent].append(place)
    return places


def _may_be_replaced(plan: Plan) -> list[int]:
    """Stored verbatim memories with the text of a new memory of a rule or a model."""
    spoken = {
        (item.agent, found)
        for item, found in zip(plan.items, plan.hashes, strict=True)
        if item.candidate.method != VERBATIM
    }
    return [each.id for each in plan.known if each.method == VERBATIM and (each.agent, each.content_hash) in spoken]

"""What becomes of the candidates of a batch: exact duplicates, near duplicates, pairs for review, new memories.

The candidates are judged one after another in their order, each against the active memories before it, stored or of
the same batch; so the result does not depend on how the stream is cut into batches.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import groupby
from operator import itemgetter
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from memcli.dedup.gates import GATE_VERSION, merge_key
from memcli.dedup.judge import VERBATIM, Judge, Verdict
from memcli.dedup.scan import Block, Flood, Pairs, make_block, pairs_above, pairs_within
from memcli.model import Candidate, Known, Link, NewReview
from memcli.protocols import Embedder
from memcli.store import dedup as dedup_rows
from memcli.store import memories as memory_rows
from memcli.store.db import Store
from memcli.store.memories import Evidence, NewMemory
from memcli.store.vectors import Segment, Vectors
from memcli.text import content_hash


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
    blocks: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]] = field(default_factory=dict)
    embedded: int = 0

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


class Resolver:
    """Decides with one embedding model and one threshold."""

    def __init__(self, store: Store, embedder: Embedder, vectors: Vectors, threshold: float) -> None:
        self.evidence = Evidence(embedder.model_id, threshold, GATE_VERSION)
        self._store = store
        self._embedder = embedder
        self._vectors = vectors
        self._threshold = threshold
        self._blocks: WeakKeyDictionary[Segment, Block] = WeakKeyDictionary()
        self._keys: dict[int, int] = {}

    def plan(self, items: Sequence[Extracted]) -> Plan:
        """Look up which texts are known: one query for all content hashes."""
        hashes = [content_hash(item.candidate.content) for item in items]
        known = memory_rows.by_content(self._store, dict.fromkeys(hashes))
        taken = {_scope(each.agent, each.type, each.method, each.content_hash) for each in known}
        spoken = {(each.agent, each.content_hash) for each in known if each.method != VERBATIM}
        exact = []
        for item, found in zip(items, hashes, strict=True):
            method = item.candidate.method
            scope = _scope(item.agent, item.candidate.type, method, found)
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
        if missing:
            vectors.update(zip(missing, self._embedder.embed([wanted[found] for found in missing]), strict=True))
        return vectors, len(missing)

    def decide(self, plan: Plan, vectors: dict[bytes, NDArray[np.float32]]) -> Resolved:
        """Judge all candidates in order."""
        pairs, left_out = self._pairs(plan, vectors)
        stored = {memory_id for found in pairs.values() for memory_id, _ in found if memory_id < plan.first_id}
        known = {each.id: each for each in plan.known}
        known |= {each.id: each for each in memory_rows.by_id(self._store, sorted(stored - known.keys()))}
        followers = memory_rows.losers(self._store, _may_be_replaced(plan))
        rulings = dedup_rows.rulings(self._store, [each.id for each in plan.known])
        judge = Judge([*known.values(), *followers], self._threshold, rulings)
        result = Resolved()
        for place, item in enumerate(plan.items):
            memory_id = plan.first_id + place
            candidate = item.candidate
            new = Known(
                memory_id,
                item.agent,
                candidate.type,
                candidate.method,
                candidate.content,
                plan.hashes[place],
                embedded=not plan.exact[place],
                link=None,
            )
            judged = judge.take(new, pairs.get(memory_id, ()), left_out=left_out.get(memory_id, 0))
            result.reviews.extend(judged.reviews)
            result.memories.append(_row(item, memory_id, plan, place, judged))
        result.links, result.relinked = judge.links()
        self._collect_vectors(plan, vectors, result)
        return result

    def _pairs(
        self, plan: Plan, vectors: dict[bytes, NDArray[np.float32]]
    ) -> tuple[dict[int, list[tuple[int, float]]], dict[int, int]]:
        """For each future memory id the earlier memories (id ascending, cosine) of its agent above the threshold.

        The second value counts those that were left out, since they cannot be merged and there are too many of them.
        """
        left_out: dict[int, int] = {}
        found: dict[int, list[tuple[int, float]]] = defaultdict(list)

        def add(ids: NDArray[np.int64], pairs: Pairs, others: NDArray[np.int64]) -> None:
            later = ids[pairs.query]
            for memory_id, other, score in zip(later.tolist(), others.tolist(), pairs.score.tolist(), strict=True):
                found[memory_id].append((other, score))

        places = _by_agent(plan)
        ids = {agent: np.array(mine, dtype=np.int64) + plan.first_id for agent, mine in places.items()}
        queries = {agent: np.stack([vectors[plan.hashes[place]] for place in mine]) for agent, mine in places.items()}
        floods = {agent: self._flood(plan, mine) for agent, mine in places.items()}
        for agent, listed in groupby(self._vectors.segments(list(places)), key=itemgetter(0)):
            blocks = (self._block(segment) for _, segment in listed)
            stored = pairs_above(queries[agent], blocks, self._threshold, floods[agent])
            add(ids[agent], stored, stored.id)
        for agent, mine in ids.items():
            own = floods[agent]
            flood = Flood(own.keys, partial(_taken, own.keys), own.left_out)
            within = pairs_within(queries[agent], self._threshold, flood)
            add(mine, within, mine[within.id])
            left_out.update(zip(mine.tolist(), own.left_out.tolist(), strict=True))
        return found, left_out

    def _flood(self, plan: Plan, places: Sequence[int]) -> Flood:
        """The merge keys of new memories, and of stored ones where they are asked for."""

        @cache
        def keys() -> NDArray[np.int64]:
            return np.array([merge_key(plan.items[place].candidate.content) for place in places], dtype=np.int64)

        def keys_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
            missing = [memory_id for memory_id in ids.tolist() if memory_id not in self._keys]
            for each in memory_rows.by_id(self._store, missing):
                self._keys[each.id] = merge_key(each.content)
            return np.array([self._keys[memory_id] for memory_id in ids.tolist()], dtype=np.int64)

        return Flood(keys, keys_of, np.zeros(len(places), dtype=np.int64))

    def _block(self, segment: Segment) -> Block:
        """A segment made ready to be searched, once while it stays in memory."""
        block = self._blocks.get(segment)
        if block is None:
            block = self._blocks[segment] = make_block(segment.memory_ids, segment.vectors)
        return block

    def _collect_vectors(self, plan: Plan, vectors: dict[bytes, NDArray[np.float32]], result: Resolved) -> None:
        for agent, places in _by_agent(plan).items():
            ids = np.array(places, dtype=np.int64) + plan.first_id
            result.blocks[agent] = (ids, np.stack([vectors[plan.hashes[place]] for place in places]))


def _taken(keys: Callable[[], NDArray[np.int64]], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return keys()[rows]


def _scope(agent: str, kind: str, method: str, found: bytes) -> tuple[str, str, bool, bytes]:
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


def _row(item: Extracted, memory_id: int, plan: Plan, place: int, judged: Verdict) -> NewMemory:
    return NewMemory(
        id=memory_id,
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

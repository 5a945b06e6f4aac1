"""Why a memory is merged with others, and why it is not merged with those next to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memcli.dedup.gates import judge, signature
from memcli.errors import UsageError
from memcli.model import Known, as_cosine
from memcli.store import memories as memory_rows
from memcli.store import review as review_rows
from memcli.store import search as search_rows
from memcli.store.db import Store
from memcli.store.review import Member
from memcli.store.vectors import Vectors

NEAREST = 5
_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An active memory that was not merged with the explained star, and why: by gate, or by another reason."""

    memory: Known
    cosine: float
    overlap: float
    reasons: dict[str, str]

    def to_json(self) -> dict[str, object]:
        """The neighbour as part of the JSON document."""
        return {
            "memory_id": self.memory.id,
            "type": self.memory.type,
            "agent_id": self.memory.agent,
            "content": self.memory.content,
            "cosine": round(self.cosine, 6),
            "overlap": round(self.overlap, 6),
            "reasons": self.reasons,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The star that the memory `asked` belongs to, around `centre`, and its `nearest` outside, nearest first."""

    asked: int
    threshold: float
    centre: Known
    created_at: str
    members: list[Member]
    nearest: list[Neighbour]

    def to_json(self) -> dict[str, object]:
        """The explanation as one JSON document."""
        centre = self.centre
        return {
            "asked": self.asked,
            "threshold": self.threshold,
            "memory_id": centre.id,
            "type": centre.type,
            "agent_id": centre.agent,
            "content": centre.content,
            "created_at": self.created_at,
            "merged": [each.to_json() for each in self.members],
            "not_merged": [each.to_json() for each in self.nearest],
        }


def explain(store: Store, vectors: Vectors, threshold: float, memory_id: int) -> Explanation:
    """Explain the star of a memory; what is not in it is judged now, from the stored vectors.

    Raises:
        UsageError: there is no such memory.
    """
    found = memory_rows.by_id(store, [memory_id])
    if not found:
        raise UsageError(f"there is no memory {memory_id}", "memcli search QUERY --json shows the ids of memories")
    (asked,) = found
    centre = memory_rows.by_id(store, [asked.link.winner])[0] if asked.link is not None else asked
    return Explanation(
        memory_id,
        threshold,
        centre,
        review_rows.created(store, [centre.id])[centre.id],
        review_rows.members(store, centre.id),
        _nearest(store, vectors, threshold, centre),
    )


def _nearest(store: Store, vectors: Vectors, threshold: float, centre: Known) -> list[Neighbour]:
    row = vectors.rows([centre.id]).get(centre.id)
    if row is None:
        return []
    query = row.astype(np.float64)
    ids, cosines = [np.empty(0, np.int64)], [np.empty(0)]
    for _, segment in vectors.segments([centre.agent]):
        rows = segment.whole()
        scores = rows @ row
        best = np.argsort(-scores)[:_LOOKED_AT]
        ids.append(segment.memory_ids[best])
        cosines.append(rows[best].astype(np.float64) @ query)
    every, scores = np.concatenate(ids), np.concatenate(cosines)
    order = np.lexsort((every, -scores))[:_LOOKED_AT]
    cosine = dict(zip(every[order].tolist(), map(as_cosine, scores[order].tolist()), strict=True))
    losers = search_rows.winners(store, list(cosine))
    near = [memory_id for memory_id in cosine if memory_id != centre.id and memory_id not in losers][:NEAREST]
    parted = review_rows.rulings_by_run(store, centre.id, near)
    known = {each.id: each for each in memory_rows.by_id(store, near)}
    return [
        _neighbour(centre, known[memory_id], cosine[memory_id], threshold, parted.get(memory_id)) for memory_id in near
    ]


def _neighbour(centre: Known, other: Known, cosine: float, threshold: float, parted: int | None) -> Neighbour:
    judgement = judge(other.content, centre.content, cosine, threshold)
    reasons: dict[str, str] = {}
    if parted is not None:
        reasons["decided"] = f"you parted them in run {parted}"
    if other.type != centre.type:
        reasons["type"] = f"{centre.type} | {other.type}"
    if cosine < threshold:
        reasons["cosine"] = f"below the threshold {threshold:g}"
    reasons |= {gate: judgement.differences.get(gate, "") for gate in judgement.failed}
    if not judgement.failed and signature(other.content) != signature(centre.content):
        reasons["signature"] = "their numbers, identifiers or negations differ"
    return Neighbour(other, cosine, judgement.overlap, reasons)

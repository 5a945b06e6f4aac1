"""What the user looks at: pairs to decide, and a memory's star with its evidence."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memcli.store.db import Store, now


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair whose evidence failed: `memory` is the later one. `status` is open, accepted or rejected."""

    id: int
    memory: int
    other: int
    agent: str
    type: str
    content: str
    other_content: str
    cosine: float
    overlap: float
    gates_failed: tuple[str, ...]
    differences: dict[str, str]
    status: str
    run_id: int
    created_at: str

    def to_json(self) -> dict[str, object]:
        """The pair as part of the JSON document."""
        return {
            "review_id": self.id,
            "memory_id": self.memory,
            "other_id": self.other,
            "agent_id": self.agent,
            "type": self.type,
            "content": self.content,
            "other_content": self.other_content,
            "cosine": round(self.cosine, 6),
            "overlap": round(self.overlap, 6),
            "gates_failed": list(self.gates_failed),
            "differences": self.differences,
            "status": self.status,
            "run_id": self.run_id,
            "created_at": self.created_at,
        }


@dataclass(frozen=True, slots=True)
class Member:
    """A memory that was merged into another, with the evidence for it."""

    merge_id: int
    memory_id: int
    type: str
    agent: str
    content: str
    kind: str
    cosine: float
    overlap: float
    gates_passed: tuple[str, ...]
    threshold: float | None
    run_id: int
    command: str
    created_at: str

    def to_json(self) -> dict[str, object]:
        """The member as part of the JSON document."""
        return {
            "merge_id": self.merge_id,
            "memory_id": self.memory_id,
            "type": self.type,
            "agent_id": self.agent,
            "content": self.content,
            "kind": self.kind,
            "cosine": round(self.cosine, 6),
            "overlap": round(self.overlap, 6),
            "gates_passed": list(self.gates_passed),
            "threshold": self.threshold,
            "run_id": self.run_id,
            "command": self.command,
            "created_at": self.created_at,
        }


_PAIRS = (
    "SELECT r.id, r.memory_id, r.other_id, m.agent_id, m.type, m.content, o.content, r.cosine, r.overlap,"
    " r.gates_failed, r.differences, r.status, r.run_id, r.created_at FROM review_pairs AS r"
    " JOIN memories AS m ON m.id = r.memory_id JOIN memories AS o ON o.id = r.other_id"
)
_OPEN = (
    " WHERE r.status = 'open' AND (:agent IS NULL OR m.agent_id = :agent) AND NOT EXISTS (SELECT 1 FROM merges AS g"
    " WHERE g.ended_at IS NULL AND g.loser_id IN (r.memory_id, r.other_id))"
)


def open_pairs(store: Store, agent: str | None) -> list[Pair]:
    """All pairs of active memories that the user has not decided, strongest first."""
    rows = store.conn.execute(f"{_PAIRS}{_OPEN} ORDER BY r.cosine DESC, r.id", {"agent": agent})
    return [_pair(row) for row in rows]


def pair(store: Store, review_id: int) -> Pair | None:
    """One pair."""
    row = store.conn.execute(f"{_PAIRS} WHERE r.id = ?", (review_id,)).fetchone()
    return _pair(row) if row else None


def _pair(row: tuple[Any, ...]) -> Pair:
    values: list[Any] = [*row[:9], tuple(json.loads(row[9])), json.loads(row[10]), *row[11:]]
    return Pair(*values)


def decide(conn: sqlite3.Connection, review_id: int, status: str, run_id: int) -> None:
    """Keep what the user decided of a pair."""
    conn.execute(
        "UPDATE review_pairs SET status = ?, decided_run_id = ?, decided_at = ? WHERE id = ?",
        (status, run_id, now(), review_id),
    )


def members(store: Store, memory_id: int) -> list[Member]:
    """The losers of a star, in the order of their ids."""
    rows = store.conn.execute(
        "SELECT g.id, m.id, m.type, m.agent_id, m.content, g.kind, g.cosine, g.overlap, g.gates_passed, g.threshold,"
        " g.run_id, r.command, g.created_at FROM merges AS g JOIN memories AS m ON m.id = g.loser_id"
        " JOIN runs AS r ON r.id = g.run_id WHERE g.winner_id = ? AND g.ended_at IS NULL ORDER BY m.id",
        (memory_id,),
    )
    return [_member(row) for row in rows]


def _member(row: tuple[Any, ...]) -> Member:
    values: list[Any] = [*row[:8], tuple(json.loads(row[8])), *row[9:]]
    return Member(*values)


def created(store: Store, memory_ids: Sequence[int]) -> dict[int, str]:
    """When memories were made."""
    return dict(
        store.by_ids("SELECT id, created_at FROM memories WHERE id IN (SELECT value FROM json_each(:ids))", memory_ids)
    )


def rulings_by_run(store: Store, memory_id: int, others: Sequence[int]) -> dict[int, int]:
    """By which run the user parted a memory from some others, by review or by undoing a merge."""
    return dict(
        store.by_ids(
            "WITH wanted (id) AS (SELECT value FROM json_each(:ids))"
            f" SELECT other_id, decided_run_id FROM review_pairs WHERE memory_id = {memory_id:d}"
            " AND other_id IN wanted AND status = 'rejected'"
            f" UNION SELECT memory_id, decided_run_id FROM review_pairs WHERE other_id = {memory_id:d}"
            " AND memory_id IN wanted AND status = 'rejected'"
            f" UNION SELECT winner_id, ended_run_id FROM merges WHERE loser_id = {memory_id:d}"
            " AND winner_id IN wanted AND ended_at IS NOT NULL AND ended_reason = 'undone'"
            f" UNION SELECT loser_id, ended_run_id FROM merges WHERE winner_id = {memory_id:d}"
            " AND loser_id IN wanted AND ended_reason = 'undone' ORDER BY 2",
            others,
        )
    )

"""Memories, their provenance and tags, merges and review pairs: what dedup asks for and what a batch adds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from memcli.model import Candidate, Known, Link, NewReview
from memcli.store.db import Store, now
from memcli.store.hashes import row_hash


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A memory as it will be stored; it never changes afterwards.

    `imported` are its sources that no transcript holds; `created_at` is None for now.
    """

    id: int
    agent: str
    session_id: int
    window_id: int
    candidate: Candidate
    content_hash: bytes
    timestamp: str | None
    verdict: str
    embedded: bool
    review_pairs: int
    imported: frozenset[int] = frozenset()
    created_at: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the merges of a batch were decided with."""

    model_id: str
    threshold: float
    gate_version: str


KNOWN_COLUMNS = (
    "SELECT m.id, m.agent_id, m.type, m.extraction_method, m.content, m.content_hash, m.embedded,"
    " g.winner_id, g.kind, g.cosine, g.overlap, g.gates_passed FROM"
)
_WITH_LINK = "LEFT JOIN merges AS g ON g.loser_id = m.id AND g.ended_at IS NULL ORDER BY m.id"


def by_content(store: Store, hashes: Iterable[bytes]) -> list[Known]:
    """Every memory whose text has one of the content hashes, lowest id first."""
    source = "hashes JOIN memories AS m ON m.content_hash = hashes.hash"
    return [known_of(row) for row in store.by_hashes(f"{KNOWN_COLUMNS} {source} {_WITH_LINK}", hashes)]


def by_id(store: Store, ids: Sequence[int]) -> list[Known]:
    """The memories `ids`, lowest id first."""
    source = "json_each(:ids) AS wanted JOIN memories AS m ON m.id = wanted.value"
    return [known_of(row) for row in store.by_ids(f"{KNOWN_COLUMNS} {source} {_WITH_LINK}", ids)]


def all_contents(store: Store) -> list[str]:
    """The text of every memory, merged ones too, oldest first."""
    return [row[0] for row in store.conn.execute("SELECT content FROM memories ORDER BY id")]


def losers(store: Store, winners: Sequence[int]) -> list[Known]:
    """All memories with a live link to one of `winners`, lowest id first."""
    source = (
        "json_each(:ids) AS wanted JOIN merges AS g ON g.winner_id = wanted.value AND g.ended_at IS NULL"
        " JOIN memories AS m ON m.id = g.loser_id ORDER BY m.id"
    )
    return [known_of(row) for row in store.by_ids(f"{KNOWN_COLUMNS} {source}", winners)]


def known_of(row: tuple[Any, ...]) -> Known:
    """A row of KNOWN_COLUMNS as a value."""
    memory_id, agent, kind, method, content, content_hash, embedded, winner, *evidence = row
    link = None
    if winner is not None:
        link = Link(memory_id, winner, evidence[0], evidence[1], evidence[2], tuple(json.loads(evidence[3])))
    return Known(memory_id, agent, kind, method, content, content_hash, bool(embedded), link)


def recalled(store: Store, hashes: Iterable[bytes]) -> set[tuple[str, bytes, int | None]]:
    """Which (agent, content hash, window id) are memories of a run that was completed before this one began.

    The window is None where a memory was imported.
    """
    return set(
        store.by_hashes(
            "SELECT m.agent_id, m.content_hash, m.window_id FROM hashes"
            " JOIN memories AS m ON m.content_hash = hashes.hash"
            " WHERE m.id <= (SELECT value FROM meta WHERE key = 'recall_horizon')",
            hashes,
        )
    )


def write_memories(
    conn: sqlite3.Connection, memories: Sequence[NewMemory], tags: Iterable[tuple[int, str]], run_id: int
) -> None:
    """Insert memories with provenance and keyword index; `tags` are (memory id, tag) of their sessions."""
    created = now()
    conn.executemany(
        "INSERT INTO memories VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [_row(memory, run_id, memory.created_at or created) for memory in memories],
    )
    conn.executemany(
        'INSERT OR IGNORE INTO provenance (memory_id, message_id, start, "end", kind) VALUES (?, ?, ?, ?, ?)',
        [
            (
                memory.id,
                source.message_id,
                source.start,
                source.end,
                "import" if source.message_id in memory.imported else "message",
            )
            for memory in memories
            for source in memory.candidate.sources
        ],
    )
    conn.executemany("INSERT INTO memory_tags VALUES (?, ?, 1.0)", tags)
    # An exact duplicate has the words of its winner: neither a vector nor an entry in the keyword index of its own.
    conn.executemany(
        "INSERT INTO memories_fts (rowid, content) VALUES (?, ?)",
        [(memory.id, memory.candidate.content) for memory in memories if memory.embedded],
    )


def _row(memory: NewMemory, run_id: int, created_at: str) -> tuple[str | float | bytes | None, ...]:
    candidate = memory.candidate
    before = (
        memory.id,
        memory.agent,
        memory.session_id,
        memory.window_id,
        candidate.type,
        candidate.content,
        memory.content_hash,
        float(candidate.importance),
        json.dumps(candidate.keywords) if candidate.keywords else "[]",
        candidate.method,
        memory.timestamp,
        memory.verdict,
    )
    behind = (memory.review_pairs, run_id, created_at)
    return (*before, memory.embedded, *behind, row_hash(*before, *behind))


def write_merges(
    conn: sqlite3.Connection,
    merges: Iterable[Link],
    relinked: Sequence[int],
    reviews: Iterable[NewReview],
    evidence: Evidence,
    run_id: int,
) -> None:
    """End the live links of the losers `relinked`, then add links and review pairs with their evidence."""
    created = now()
    conn.execute(
        "UPDATE merges SET ended_at = ?, ended_run_id = ?, ended_reason = 'relinked'"
        " WHERE ended_at IS NULL AND loser_id IN (SELECT value FROM json_each(?))",
        (created, run_id, json.dumps(relinked)),
    )
    conn.executemany(
        "INSERT INTO merges (loser_id, winner_id, kind, cosine, overlap, gates_passed, gate_version, threshold,"
        " model_id, run_id, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                merge.loser,
                merge.winner,
                merge.kind,
                merge.cosine,
                merge.overlap,
                json.dumps(merge.gates_passed),
                evidence.gate_version,
                evidence.threshold,
                evidence.model_id,
                run_id,
                created,
            )
            for merge in merges
        ],
    )
    add_reviews(conn, reviews, evidence, run_id)


def add_reviews(conn: sqlite3.Connection, reviews: Iterable[NewReview], evidence: Evidence, run_id: int) -> int:
    """Add review pairs that are not there yet, whatever was decided of them; how many were."""
    at = now()
    before = conn.total_changes
    conn.executemany(
        "INSERT INTO review_pairs (memory_id, other_id, cosine, overlap, gates_failed, differences,"
        " gate_version, run_id, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (memory_id, other_id) DO NOTHING",
        [
            (
                review.memory,
                review.other,
                review.cosine,
                review.judgement.overlap,
                json.dumps(review.judgement.failed),
                json.dumps(review.judgement.differences, ensure_ascii=False),
                evidence.gate_version,
                run_id,
                at,
            )
            for review in reviews
        ],
    )
    return conn.total_changes - before

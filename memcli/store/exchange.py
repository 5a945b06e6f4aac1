"""What export and import ask of the database and write to it."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from memcli.store.db import Store
from memcli.store.files import IMPORT
from memcli.store.windows import KnownStatement, Span


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message that memories were taken from; `records` are the hex identities of its transcript records."""

    id: int
    identity: bytes
    agent: str
    session: str
    role: str
    text: str
    file: str
    start: int
    end: int
    external_id: str | None
    speaker: str | None
    timestamp: str | None
    model: str | None
    records: str | None


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A memory with the active one that it belongs to (itself, where it is active) and the evidence for that."""

    star: int
    id: int
    agent: str
    session: str
    type: str
    content: str
    content_hash: bytes
    importance: float
    keywords: str
    method: str
    timestamp: str | None
    created_at: str
    embedded: int
    kind: str | None
    cosine: float | None
    overlap: float | None
    gates_passed: str | None


# A star belongs to the agent of its active memory.
_STARS = (
    "FROM memories AS w WHERE NOT EXISTS (SELECT 1 FROM merges AS g WHERE g.loser_id = w.id AND g.ended_at IS NULL)"
    " AND (:agent IS NULL OR w.agent_id = :agent)"
)
_MEMBERS = (
    f"SELECT w.id {_STARS} UNION ALL SELECT l.loser_id FROM merges AS l WHERE l.ended_at IS NULL"
    f" AND (:agent IS NULL OR l.winner_id IN (SELECT w.id {_STARS}))"
)


def counts(store: Store, agent: str | None) -> tuple[int, int]:
    """How many active memories there are of an agent (None: of all), and how many messages they were taken from."""
    memories = store.conn.execute(f"SELECT count(*) {_STARS}", {"agent": agent}).fetchone()[0]
    messages = store.conn.execute(
        f"SELECT count(DISTINCT message_id) FROM provenance WHERE memory_id IN ({_MEMBERS})", {"agent": agent}
    ).fetchone()[0]
    return memories, messages


def source_messages(store: Store, agent: str | None) -> Iterator[MessageRow]:
    """Yield the messages that memories of an agent (None: of all) were taken from, by id."""
    rows = store.conn.execute(
        'SELECT x.id, x.identity, s.agent_id, s.key, x.role, x.text, f.path, x.start, x."end", x.external_id,'
        " x.speaker, x.timestamp, x.model, r.records FROM messages AS x"
        " CROSS JOIN sessions AS s ON s.id = x.session_id CROSS JOIN files AS f ON f.id = x.file_id"
        " LEFT JOIN (SELECT message_id, group_concat(hex(identity)) AS records FROM message_records"
        " GROUP BY message_id) AS r ON r.message_id = x.id"
        f" WHERE x.id IN (SELECT message_id FROM provenance WHERE memory_id IN ({_MEMBERS})) ORDER BY x.id",
        {"agent": agent},
    )
    return (MessageRow(*row) for row in rows)


def stars_after(store: Store, memory_id: int, limit: int, agent: str | None) -> list[int]:
    """The next active memories of an agent (None: of all) behind an id, ascending."""
    rows = store.conn.execute(
        f"SELECT w.id {_STARS} AND w.id > :after ORDER BY w.id LIMIT :limit",
        {"agent": agent, "after": memory_id, "limit": limit},
    )
    return [row[0] for row in rows]


_OF_STARS = (
    "WITH members (star, id, kind, cosine, overlap, gates) AS ("
    " SELECT value, value, NULL, NULL, NULL, NULL FROM json_each(:ids) UNION ALL"
    " SELECT g.winner_id, g.loser_id, g.kind, g.cosine, g.overlap, g.gates_passed FROM json_each(:ids) AS wanted"
    " JOIN merges AS g ON g.winner_id = wanted.value AND g.ended_at IS NULL) "
)


def members(store: Store, stars: Sequence[int]) -> list[MemberRow]:
    """The memories of stars, each star's active one first, then its losers by id."""
    rows = store.by_ids(
        _OF_STARS + "SELECT star, m.id, m.agent_id, s.key, m.type, m.content, m.content_hash, m.importance,"
        " m.keywords, m.extraction_method, m.timestamp, m.created_at, m.embedded, kind, cosine, overlap, gates"
        " FROM members JOIN memories AS m ON m.id = members.id JOIN sessions AS s ON s.id = m.session_id"
        " ORDER BY star, m.id <> star, m.id",
        stars,
    )
    return [MemberRow(*row) for row in rows]


def member_sources(store: Store, stars: Sequence[int]) -> dict[int, list[tuple[bytes, int, int, str]]]:
    """The provenance of the memories of stars as (message identity, start, end, kind), by memory id."""
    found: dict[int, list[tuple[bytes, int, int, str]]] = defaultdict(list)
    for memory_id, *source in store.by_ids(
        _OF_STARS + 'SELECT members.id, x.identity, p.start, p."end", p.kind FROM members'
        " JOIN provenance AS p ON p.memory_id = members.id JOIN messages AS x ON x.id = p.message_id"
        " ORDER BY members.id, p.message_id, p.start",
        stars,
    ):
        found[memory_id].append((source[0], source[1], source[2], source[3]))
    return found


def member_tags(store: Store, stars: Sequence[int]) -> dict[int, list[str]]:
    """The environment tags of the memories of stars, by memory id."""
    found: dict[int, list[str]] = defaultdict(list)
    for memory_id, tag in store.by_ids(
        _OF_STARS + "SELECT members.id, t.tag FROM members JOIN memory_tags AS t ON t.memory_id = members.id"
        " ORDER BY members.id, t.tag",
        stars,
    ):
        found[memory_id].append(tag)
    return found


def parted(store: Store, agent: str | None) -> Iterator[tuple[str, bytes, str, bytes, float, float, str]]:
    """Yield the pairs that the user has parted, by review or by undoing a merge.

    As (agent, content hash, agent, content hash, cosine, overlap, gates failed as JSON).
    """
    return iter(
        store.conn.execute(
            "SELECT m.agent_id, m.content_hash, o.agent_id, o.content_hash, p.cosine, p.overlap, p.gates FROM ("
            " SELECT memory_id AS one, other_id AS other, cosine, overlap, gates_failed AS gates FROM review_pairs"
            " WHERE status = 'rejected' UNION ALL"
            " SELECT loser_id, winner_id, cosine, overlap, '[]' FROM merges"
            " WHERE ended_reason = 'undone' AND ended_at IS NOT NULL) AS p"
            " JOIN memories AS m ON m.id = p.one JOIN memories AS o ON o.id = p.other"
            " WHERE :agent IS NULL OR (m.agent_id = :agent AND o.agent_id = :agent)"
            " GROUP BY m.agent_id, m.content_hash, o.agent_id, o.content_hash ORDER BY m.id, o.id",
            {"agent": agent},
        )
    )


def undecided(store: Store, agent: str | None) -> Iterator[tuple[str, bytes, str, bytes, float, float, str, str]]:
    """Yield the pairs of active memories that the user is still to decide.

    As (agent, content hash, agent, content hash, cosine, overlap, gates failed as JSON, differences as JSON).
    """
    return iter(
        store.conn.execute(
            "SELECT m.agent_id, m.content_hash, o.agent_id, o.content_hash, r.cosine, r.overlap, r.gates_failed,"
            " r.differences FROM review_pairs AS r"
            " JOIN memories AS m ON m.id = r.memory_id JOIN memories AS o ON o.id = r.other_id"
            " WHERE r.status = 'open' AND (:agent IS NULL OR (m.agent_id = :agent AND o.agent_id = :agent))"
            " AND NOT EXISTS (SELECT 1 FROM merges AS g WHERE g.ended_at IS NULL"
            " AND g.loser_id IN (r.memory_id, r.other_id)) ORDER BY r.id",
            {"agent": agent},
        )
    )


def embedded_texts(store: Store, agent: str | None, after: int, limit: int) -> list[tuple[int, bytes]]:
    """The next memories (id, content hash) with a vector of their own behind an id, ascending."""
    return store.conn.execute(
        "SELECT id, content_hash FROM memories WHERE id > :after AND embedded AND (:agent IS NULL OR"
        f" id IN ({_MEMBERS})) ORDER BY id LIMIT :limit",
        {"agent": agent, "after": after, "limit": limit},
    ).fetchall()


def embedded_with(store: Store, hashes: Iterable[bytes]) -> dict[bytes, int]:
    """For each content hash a memory with that text that has a vector of its own."""
    return dict(
        store.by_hashes(
            "SELECT m.content_hash, min(m.id) FROM hashes JOIN memories AS m ON m.content_hash = hashes.hash"
            " WHERE m.embedded GROUP BY m.content_hash",
            hashes,
        )
    )


# --- import ----------------------------------------------------------------------------------------------------------


def statements(store: Store, message_ids: Sequence[int]) -> dict[KnownStatement, int]:
    """Every statement that was taken from the messages before, with the first memory of it."""
    spans: dict[tuple[int, str, str, bytes], list[Span]] = defaultdict(list)
    for memory_id, method, kind, content_hash, *span in store.by_ids(
        'SELECT m.id, m.extraction_method, m.type, m.content_hash, p.message_id, p.start, p."end" FROM ('
        " SELECT DISTINCT memory_id FROM provenance WHERE message_id IN (SELECT value FROM json_each(:ids))) AS found"
        " JOIN memories AS m ON m.id = found.memory_id JOIN provenance AS p ON p.memory_id = m.id ORDER BY m.id",
        message_ids,
    ):
        spans[memory_id, method.partition(":")[0], kind, content_hash].append((span[0], span[1], span[2]))
    known: dict[KnownStatement, int] = {}
    for (memory_id, tier, kind, content_hash), found in spans.items():
        known.setdefault(KnownStatement(tier, kind, content_hash, tuple(sorted(found))), memory_id)
    return known


def stored_texts(store: Store, identities: Iterable[bytes]) -> dict[bytes, tuple[int, str]]:
    """The messages (id, text) that are stored under some identities."""
    return {
        identity: (message_id, text)
        for identity, message_id, text in store.by_hashes(
            "SELECT m.identity, m.id, m.text FROM hashes JOIN messages AS m ON m.identity = hashes.hash", identities
        )
    }


def message_lengths(store: Store, identities: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
    """The messages (id, characters of its text) that are stored under some identities."""
    return {
        identity: (message_id, length)
        for identity, message_id, length in store.by_hashes(
            "SELECT m.identity, m.id, length(m.text) FROM hashes JOIN messages AS m ON m.identity = hashes.hash",
            identities,
        )
    }


def file_ids(store: Store, paths: Sequence[str]) -> dict[str, int]:
    """The ids of the transcripts among `paths` that are known, each the latest of its name."""
    return dict(
        store.conn.execute(
            "SELECT f.path, max(f.id) FROM json_each(?) AS wanted JOIN files AS f ON f.path = wanted.value"
            " WHERE f.format <> ? GROUP BY f.path",
            (json.dumps(paths), IMPORT),
        ).fetchall()
    )


def write_parted(
    conn: sqlite3.Connection, pairs: Iterable[tuple[int, int, float, float, str]], gate_version: str, run_id: int
) -> int:
    """Keep that pairs of memories (id, id, cosine, overlap, gates failed as JSON) are parted; how many are new."""
    before = conn.total_changes
    conn.executemany(
        "INSERT INTO review_pairs (memory_id, other_id, cosine, overlap, gates_failed, differences, gate_version,"
        " status, run_id, created_at, decided_run_id, decided_at)"
        " SELECT ?1, ?2, ?3, ?4, ?5, '{}', ?6, 'rejected', ?7, r.started_at, ?7, r.started_at FROM runs AS r"
        " WHERE r.id = ?7 AND NOT EXISTS (SELECT 1 FROM merges WHERE loser_id = ?1 AND winner_id = ?2"
        " AND ended_at IS NULL) ON CONFLICT (memory_id, other_id) DO UPDATE SET status = 'rejected',"
        " decided_run_id = excluded.decided_run_id, decided_at = excluded.decided_at WHERE status = 'open'",
        [(*pair, gate_version, run_id) for pair in pairs],
    )
    return conn.total_changes - before

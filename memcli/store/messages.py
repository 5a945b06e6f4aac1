"""Sessions and messages: which are known, what waits for its window, what a batch adds."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from memcli.model import Part
from memcli.store.db import Store
from memcli.store.hashes import MESSAGE_COLUMNS, row_hash
from memcli.text import digest


@dataclass(slots=True)
class NewMessage:
    """A message as it will be stored. `text` may still grow while its batch is put together."""

    id: int
    session_id: int
    identity: bytes
    external_id: str | None
    role: str
    speaker: str | None
    text: str
    timestamp: str | None
    model: str | None
    filter_reason: str | None
    file_id: int
    start: int
    end: int


def session_ids(store: Store, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Ids of the sessions among `keys` (agent, session key) that are known."""
    rows = store.conn.execute(
        "SELECT s.agent_id, s.key, s.id FROM json_each(?) AS wanted JOIN sessions AS s"
        " ON s.agent_id = json_extract(wanted.value, '$[0]') AND s.key = json_extract(wanted.value, '$[1]')",
        (json.dumps(keys),),
    )
    return {(agent, key): session_id for agent, key, session_id in rows}


def session_tags(store: Store, ids: Sequence[int]) -> dict[int, set[str]]:
    """Environment tags of the sessions `ids`: one query per batch."""
    tags: dict[int, set[str]] = defaultdict(set)
    for session_id, tag in store.by_ids(
        "SELECT session_id, tag FROM session_tags WHERE session_id IN (SELECT value FROM json_each(:ids))", ids
    ):
        tags[session_id].add(tag)
    return tags


def known_messages(store: Store, identities: Iterable[bytes]) -> dict[bytes, int]:
    """Ids of the messages that are stored already, by identity."""
    return dict(
        store.by_hashes(
            "SELECT m.identity, m.id FROM hashes JOIN messages AS m ON m.identity = hashes.hash", identities
        )
    )


def known_records(store: Store, identities: Iterable[bytes]) -> set[bytes]:
    """Those of the transcript records `identities` that a stored message holds already."""
    return {
        row[0]
        for row in store.by_hashes(
            "SELECT r.identity FROM hashes JOIN message_records AS r ON r.identity = hashes.hash", identities
        )
    }


def occurrences(store: Store, digests: Iterable[bytes]) -> dict[tuple[int, bytes], int]:
    """How often messages without an id, known by (file id, digest), have been seen in their file."""
    return {
        (file_id, found): count
        for file_id, found, count in store.by_hashes(
            "SELECT o.file_id, o.digest, o.count FROM hashes JOIN message_occurrences AS o ON o.digest = hashes.hash",
            digests,
        )
    }


def texts(store: Store, ids: Sequence[int]) -> dict[int, str]:
    """Stored texts of the messages `ids`."""
    return dict(store.by_ids("SELECT id, text FROM messages WHERE id IN (SELECT value FROM json_each(:ids))", ids))


def known_system_prompts(store: Store, hashes: Iterable[bytes]) -> set[tuple[str, bytes]]:
    """Which (agent, text hash) of system messages are stored already."""
    return set(
        store.by_hashes(
            "SELECT DISTINCT s.agent_id, m.text_hash FROM hashes JOIN messages AS m ON m.text_hash = hashes.hash"
            " AND m.role = 'system' JOIN sessions AS s ON s.id = m.session_id",
            hashes,
        )
    )


def pending_parts(store: Store, sessions: Sequence[int]) -> dict[int, list[Part]]:
    """Parts that wait for their window, in order, by session."""
    parts: dict[int, list[Part]] = defaultdict(list)
    for session_id, message_id, role, text, start, speaker, timestamp in store.by_ids(
        'SELECT p.session_id, p.message_id, m.role, substr(m.text, p.start + 1, p."end" - p.start), p.start,'
        " m.speaker, m.timestamp FROM pending_messages AS p JOIN messages AS m ON m.id = p.message_id"
        " WHERE p.session_id IN (SELECT value FROM json_each(:ids)) ORDER BY p.id",
        sessions,
    ):
        parts[session_id].append(Part(message_id, role, text, start, speaker, timestamp))
    return parts


def pending_sessions(store: Store) -> list[tuple[int, str, int, str | None]]:
    """Sessions with pending parts, in the order they began to wait: (id, agent, parts, newest message's time)."""
    return store.conn.execute(
        "SELECT p.session_id, s.agent_id, count(*), coalesce(max(m.timestamp), max(b.ended_at))"
        " FROM pending_messages AS p JOIN messages AS m ON m.id = p.message_id"
        " JOIN sessions AS s ON s.id = p.session_id JOIN batches AS b ON b.id = m.batch_id"
        # Ids of pending rows are used again; those of messages are not, whatever the batches were.
        " GROUP BY p.session_id ORDER BY min(p.message_id), min(p.start)"
    ).fetchall()


def pending_count(store: Store) -> int:
    """Number of messages that wait for their window."""
    return int(store.conn.execute("SELECT count(DISTINCT message_id) FROM pending_messages").fetchone()[0])


def write_sessions(
    conn: sqlite3.Connection,
    sessions: Iterable[tuple[int, str, str]],
    tags: Collection[tuple[int, str]],
) -> None:
    """Add sessions (id, agent, key) and session tags; memories of sessions whose tags grew get the new ones."""
    conn.executemany(
        "INSERT INTO sessions VALUES (?, ?, ?, ?)", [(*session, row_hash(*session)) for session in sessions]
    )
    conn.executemany("INSERT OR IGNORE INTO session_tags VALUES (?, ?)", tags)
    if tags:
        conn.execute(
            "INSERT OR IGNORE INTO memory_tags SELECT m.id, json_extract(grown.value, '$[1]'), 1.0"
            " FROM json_each(?) AS grown JOIN memories AS m ON m.session_id = json_extract(grown.value, '$[0]')",
            (json.dumps(list(tags)),),
        )


def write_messages(conn: sqlite3.Connection, messages: Iterable[NewMessage], batch_id: int) -> None:
    """Insert messages."""
    conn.executemany(
        "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                message.id,
                message.session_id,
                message.identity,
                message.external_id,
                message.role,
                message.speaker,
                message.text,
                digest(message.text),
                message.timestamp,
                message.model,
                message.filter_reason,
                message.file_id,
                message.start,
                message.end,
                batch_id,
                row_hash(
                    message.id,
                    message.session_id,
                    message.identity,
                    message.external_id,
                    message.role,
                    message.speaker,
                    message.timestamp,
                    message.model,
                    message.filter_reason,
                    message.file_id,
                    message.start,
                    message.end,
                    batch_id,
                ),
            )
            for message in messages
        ],
    )


def write_grown(conn: sqlite3.Connection, grown: dict[int, str]) -> None:
    """Store the longer text of messages to which records were added; such a message counts as kept."""
    conn.executemany(
        "UPDATE messages SET text = ?, text_hash = ?, filter_reason = NULL WHERE id = ?",
        [(text, digest(text), message_id) for message_id, text in grown.items()],
    )
    kept = conn.execute(
        f"SELECT {', '.join(MESSAGE_COLUMNS)} FROM messages WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(grown)),),
    ).fetchall()
    conn.executemany("UPDATE messages SET row_hash = ? WHERE id = ?", [(row_hash(*row), row[0]) for row in kept])


def write_identities(
    conn: sqlite3.Connection,
    records: Iterable[tuple[bytes, int]],
    counts: dict[tuple[int, bytes], int],
    restarted: Collection[int],
) -> None:
    """Remember records (identity, message id) and, for messages without an id, how often each was seen in its file."""
    conn.executemany("INSERT OR IGNORE INTO message_records VALUES (?, ?)", records)
    conn.executemany("DELETE FROM message_occurrences WHERE file_id = ?", [(file_id,) for file_id in restarted])
    conn.executemany(
        "INSERT INTO message_occurrences VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = excluded.count",
        [(found, file_id, count) for (file_id, found), count in counts.items()],
    )


def write_pending(conn: sqlite3.Connection, windowed: Sequence[int], waiting: Iterable[tuple[int, Part]]) -> None:
    """Forget what waited in the sessions `windowed`, then add what waits now as (session id, part)."""
    conn.execute(
        "DELETE FROM pending_messages WHERE session_id IN (SELECT value FROM json_each(?))", (json.dumps(windowed),)
    )
    conn.executemany(
        'INSERT INTO pending_messages (session_id, message_id, start, "end") VALUES (?, ?, ?, ?)',
        [(session_id, part.message_id, part.start, part.start + len(part.text)) for session_id, part in waiting],
    )

"""Runs, batches and windows: what was done when, and how long each stage took."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from memcli.store.db import Store, now


@dataclass(frozen=True, slots=True)
class TierRow:
    """What one tier made of a window; `attempts` are those of this run."""

    tier: str
    version: str
    status: str
    attempts: int = 1
    error: str | None = None


@dataclass(slots=True)
class WindowRow:
    """A window that was processed: source parts (message id, start, end), tiers and what came of them.

    `asked` are the hashes of the questions that models were asked about it; `rejected` are statements that were not
    taken: (tier, version, reason, number).
    """

    id: int
    session_id: int
    parts: list[tuple[int, int, int]]
    started_at: str | None
    ended_at: str | None
    methods: list[str] = field(default_factory=list)
    tiers: list[TierRow] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)
    rejected: list[tuple[str, str, str, int]] = field(default_factory=list)
    memories_created: int = 0
    memories_merged: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True)
class BatchRow:
    """A committed batch. Of its `tokens` and `cost_usd`, the provider of embeddings took those of `embed_...`."""

    id: int
    started_at: str
    message_ids: list[int]
    lines_read: int
    lines_skipped: Mapping[str, int]
    messages_in: int
    messages_duplicate: int
    messages_kept: int
    messages_filtered: Mapping[str, int]
    memories_created: int
    memories_merged: int
    methods: Sequence[str]
    timings: Mapping[str, float]
    tokens: int = 0
    cost_usd: float = 0.0
    embed_calls: int = 0
    embed_tokens: int = 0
    embed_usd: float = 0.0


def write_run(conn: sqlite3.Connection, run_id: int, command: str, version: str, started_at: str) -> None:
    """Record that a run has begun; with its first batch, so that a run that changes nothing writes nothing."""
    conn.execute(
        "INSERT OR IGNORE INTO runs (id, command, version, status, started_at) VALUES (?, ?, ?, 'running', ?)",
        (run_id, command, version, started_at),
    )


def unfinished(store: Store, command: str) -> bool:
    """Whether an earlier run of the command was killed or interrupted and no later one has completed its work."""
    return bool(
        store.conn.execute(
            "SELECT EXISTS (SELECT 1 FROM runs WHERE command = ?1"
            " AND id > (SELECT coalesce(max(id), 0) FROM runs WHERE command = ?1 AND status = 'done'))",
            (command,),
        ).fetchone()[0]
    )


def record_run(conn: sqlite3.Connection, run_id: int, command: str, version: str, report: Mapping[str, object]) -> None:
    """Record a run that is one transaction: begun and done."""
    at = now()
    conn.execute(
        "INSERT INTO runs VALUES (?, ?, ?, 'done', ?, ?, ?)", (run_id, command, version, at, at, json.dumps(report))
    )


def finish_run(
    conn: sqlite3.Connection, run_id: int, report: Mapping[str, object], *, complete: bool, settles: bool
) -> None:
    """Close a run; `complete` says that it did all its work, `settles` that this settles what earlier runs left open.

    From then on the memories made so far count as known when they come back through a prompt. Drawing the line
    here, rather than at each batch, keeps the result independent of batch sizes and of where a run was killed.
    """
    conn.execute("UPDATE runs SET status = 'interrupted' WHERE status = 'running' AND id <> ?", (run_id,))
    conn.execute(
        "UPDATE runs SET status = ?, finished_at = ?, report = ? WHERE id = ?",
        ("done" if complete else "interrupted", now(), json.dumps(report), run_id),
    )
    if settles:
        conn.execute("UPDATE meta SET value = (SELECT coalesce(max(id), 0) FROM memories) WHERE key = 'recall_horizon'")


def write_batch(conn: sqlite3.Connection, batch: BatchRow, run_id: int) -> None:
    """Insert a batch; its commit time is filled in by `write_batch_timings` once it is known."""
    conn.execute(
        "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?)",
        (
            batch.id,
            run_id,
            json.dumps(batch.message_ids),
            batch.started_at,
            now(),
            batch.lines_read,
            json.dumps(batch.lines_skipped),
            batch.messages_in,
            batch.messages_duplicate,
            batch.messages_kept,
            json.dumps(batch.messages_filtered),
            batch.memories_created,
            batch.memories_merged,
            json.dumps(batch.methods),
            batch.tokens,
            batch.cost_usd,
            json.dumps(batch.timings),
            batch.embed_calls,
            batch.embed_tokens,
            batch.embed_usd,
        ),
    )


def write_batch_timings(conn: sqlite3.Connection, batch_id: int, timings: Mapping[str, float]) -> None:
    """Complete a batch's timings inside its transaction: only then is it known how long the writing took."""
    conn.execute("UPDATE batches SET timings = ?, ended_at = ? WHERE id = ?", (json.dumps(timings), now(), batch_id))


def write_windows(conn: sqlite3.Connection, windows: Sequence[WindowRow], batch_id: int) -> None:
    """Insert windows and the state of their tiers.

    Their messages must be inserted before: the dropped ones between a window's first and last are counted there.
    """
    dropped = (
        "(SELECT count(*) FROM messages AS m WHERE m.session_id = :session AND m.filter_reason IS NOT NULL"
        " AND m.id BETWEEN :first AND :last)"
    )
    conn.executemany(
        f"INSERT INTO windows VALUES (:id, :session, :batch, :ids, :spans, :started, :ended, :kept + {dropped}, :kept,"
        f" {dropped}, :created, :merged, :methods, :tokens, :cost, NULL, :timings)",
        [_window_values(window, batch_id) for window in windows],
    )
    _write_tiers(conn, windows)


def write_revisited(conn: sqlite3.Connection, windows: Sequence[WindowRow]) -> None:
    """Add to stored windows what further tiers, or other versions of them, made of them."""
    conn.executemany(
        "UPDATE windows SET memories_created = memories_created + :created,"
        " memories_merged = memories_merged + :merged, tokens = tokens + :tokens, cost_usd = cost_usd + :cost,"
        " methods = (SELECT replace(json_group_array(value), ',', ', ') FROM"
        " (SELECT value FROM json_each(methods) UNION SELECT value FROM json_each(:methods))),"
        " timings = json_set(timings, '$.extract', coalesce(json_extract(timings, '$.extract'), 0) + :seconds)"
        " WHERE id = :id",
        [
            {
                "id": window.id,
                "created": window.memories_created,
                "merged": window.memories_merged,
                "tokens": window.tokens,
                "cost": window.cost_usd,
                "methods": json.dumps(window.methods),
                "seconds": window.seconds,
            }
            for window in windows
        ],
    )
    # Another version of a tier that has failed will not be tried again.
    conn.executemany(
        "DELETE FROM window_tiers WHERE window_id = ? AND tier = ? AND version <> ?"
        " AND status IN ('failed', 'waiting')",
        [(window.id, row.tier, row.version) for window in windows for row in window.tiers],
    )
    _write_tiers(conn, windows)


def _write_tiers(conn: sqlite3.Connection, windows: Sequence[WindowRow]) -> None:
    conn.executemany(
        "INSERT INTO window_tiers VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (window_id, tier, version) DO UPDATE"
        " SET status = excluded.status, attempts = attempts + excluded.attempts, error = excluded.error",
        [
            (window.id, row.tier, row.version, row.status, row.attempts, row.error)
            for window in windows
            for row in window.tiers
        ],
    )


def _window_values(window: WindowRow, batch_id: int) -> dict[str, object]:
    # The part that a later record added to an earlier message says nothing of what lies between.
    whole = [message_id for message_id, start, _ in window.parts if start == 0]
    return {
        "id": window.id,
        "session": window.session_id,
        "batch": batch_id,
        "ids": json.dumps([message_id for message_id, _, _ in window.parts]),
        "spans": json.dumps([[start, end] for _, start, end in window.parts]),
        "first": min(whole, default=None),
        "last": max(whole, default=None),
        "started": window.started_at,
        "ended": window.ended_at,
        "kept": len(window.parts),
        "created": window.memories_created,
        "merged": window.memories_merged,
        "methods": json.dumps(window.methods),
        "tokens": window.tokens,
        "cost": window.cost_usd,
        "timings": json.dumps({"extract": window.seconds}),
    }

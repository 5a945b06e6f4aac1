"""What undoing asks of the links and does to them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memcli.store.db import Store, now

UNDONE, REVERTED = "undone", "reverted"


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A merge, live or ended, with the hashes of its two texts."""

    id: int
    loser: int
    winner: int
    kind: str
    run_id: int
    ended_run_id: int | None
    ended_reason: str | None
    loser_hash: bytes
    winner_hash: bytes

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.ended_reason is None

    @property
    def same_text(self) -> bool:
        """Whether both sides have one text."""
        return self.loser_hash == self.winner_hash


_ROWS = (
    "SELECT g.id, g.loser_id, g.winner_id, g.kind, g.run_id, g.ended_run_id, g.ended_reason, l.content_hash,"
    " w.content_hash FROM merges AS g JOIN memories AS l ON l.id = g.loser_id JOIN memories AS w ON w.id = g.winner_id"
)


def made_by(store: Store, run_id: int) -> list[LinkRow]:
    """The merges that a run has made, live or not."""
    return [LinkRow(*row) for row in store.conn.execute(f"{_ROWS} WHERE g.run_id = ? ORDER BY g.id", (run_id,))]


def ended_by(store: Store, run_id: int) -> list[LinkRow]:
    """The merges that a run has ended, but not undone; newest first."""
    return [
        LinkRow(*row)
        for row in store.conn.execute(
            f"{_ROWS} WHERE g.ended_run_id = ? AND g.ended_at IS NOT NULL AND g.ended_reason NOT IN (?, ?)"
            " ORDER BY g.id DESC",
            (run_id, UNDONE, REVERTED),
        )
    ]


def by_id(store: Store, merge_id: int) -> LinkRow | None:
    """One merge."""
    row = store.conn.execute(f"{_ROWS} WHERE g.id = ?", (merge_id,)).fetchone()
    return LinkRow(*row) if row else None


def live_of(store: Store, memory_ids: Sequence[int]) -> list[LinkRow]:
    """The live merges in which one of the memories is the loser or the winner."""
    rows = store.by_ids(
        f"{_ROWS} WHERE g.ended_at IS NULL AND g.loser_id IN (SELECT value FROM json_each(:ids))"
        f" UNION {_ROWS} WHERE g.ended_at IS NULL AND g.winner_id IN (SELECT value FROM json_each(:ids)) ORDER BY 1",
        memory_ids,
    )
    return [LinkRow(*row) for row in rows]


def end(conn: sqlite3.Connection, rows: Iterable[tuple[int, str]], run_id: int) -> None:
    """End merges (id, reason), or give those that have ended another reason."""
    at = now()
    conn.executemany(
        "UPDATE merges SET ended_at = coalesce(ended_at, ?), ended_run_id = ?, ended_reason = ? WHERE id = ?",
        [(at, run_id, reason, merge_id) for merge_id, reason in rows],
    )


def revive(conn: sqlite3.Connection, merge_ids: Iterable[int]) -> None:
    """Let merges live again."""
    conn.executemany(
        "UPDATE merges SET ended_at = NULL, ended_run_id = NULL, ended_reason = NULL WHERE id = ?",
        [(merge_id,) for merge_id in merge_ids],
    )


def hand_over(conn: sqlite3.Connection, waiting: Iterable[tuple[int, int]]) -> None:
    """Name the run (merge id, run id) whose merges are in the way of one that is to live again."""
    conn.executemany(
        "UPDATE merges SET ended_run_id = ? WHERE id = ?", [(run_id, merge_id) for merge_id, run_id in waiting]
    )


def move(conn: sqlite3.Connection, moved: Iterable[tuple[int, int, int | None]], run_id: int) -> None:
    """Link losers to another winner, on the account of the run that merged them.

    `moved` are (live merge, new winner, live merge whose evidence holds for the new one; None: it has one text).
    """
    at = now()
    for merge_id, winner, model in moved:
        conn.execute(
            "UPDATE merges SET ended_at = ?, ended_run_id = ?, ended_reason = 'relinked' WHERE id = ?",
            (at, run_id, merge_id),
        )
        conn.execute(
            "INSERT INTO merges (loser_id, winner_id, kind, cosine, overlap, gates_passed, gate_version, threshold,"
            " model_id, run_id, created_at) SELECT g.loser_id, ?1, 'exact', coalesce(e.cosine, 1.0),"
            " coalesce(e.overlap, 1.0), coalesce(e.gates_passed, ?2), g.gate_version, g.threshold, g.model_id,"
            " g.run_id, ?3 FROM merges AS g LEFT JOIN merges AS e ON e.id = ?4 WHERE g.id = ?5",
            (winner, json.dumps(["content"]), at, model, merge_id),
        )


def drop_reviews(conn: sqlite3.Connection, run_id: int) -> int:
    """Take back the pairs that a run listed for review and the user has not decided; how many."""
    return conn.execute(
        "DELETE FROM review_pairs WHERE run_id = ? AND decided_run_id IS NULL AND status = 'open'", (run_id,)
    ).rowcount


def reopen_reviews(conn: sqlite3.Connection, run_id: int, undo: str) -> int:
    """Put pairs that a run rejected back on the list; how many. One whose own run was undone by `undo` goes away."""
    conn.execute(
        "DELETE FROM review_pairs WHERE decided_run_id = ? AND status = 'rejected' AND run_id IN"
        " (SELECT json_extract(report, '$.of.run') FROM runs WHERE command = ?)",
        (run_id, undo),
    )
    return conn.execute(
        "UPDATE review_pairs SET status = 'open', decided_run_id = NULL, decided_at = NULL"
        " WHERE decided_run_id = ? AND status = 'rejected'",
        (run_id,),
    ).rowcount


def reject_accepted(conn: sqlite3.Connection, pairs: Iterable[tuple[int, int]], run_id: int) -> None:
    """A merge that the user accepted and undid is a rejected pair."""
    at = now()
    conn.executemany(
        "UPDATE review_pairs SET status = 'rejected', decided_run_id = ?, decided_at = ?"
        " WHERE memory_id = ? AND other_id = ? AND status = 'accepted'",
        [(run_id, at, loser, winner) for loser, winner in pairs],
    )


def without_index(store: Store, memory_ids: Sequence[int]) -> list[int]:
    """Those of the memories that have neither vector nor words of their own, since they were exact duplicates."""
    return [
        row[0]
        for row in store.by_ids(
            "SELECT id FROM memories WHERE embedded = 0 AND id IN (SELECT value FROM json_each(:ids)) ORDER BY id",
            memory_ids,
        )
    ]


def write_words(conn: sqlite3.Connection, memory_ids: Sequence[int]) -> None:
    """Give exact duplicates that stand alone now words of their own in the keyword index."""
    conn.execute(
        "INSERT INTO memories_fts (rowid, content) SELECT id, content FROM memories"
        " WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(memory_ids),),
    )
    conn.execute(
        "UPDATE memories SET embedded = 1 WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(memory_ids),)
    )


def run_of(store: Store, run_id: int) -> tuple[str, str] | None:
    """The command of a run, and when it started."""
    row = store.conn.execute("SELECT command, started_at FROM runs WHERE id = ?", (run_id,)).fetchone()
    return (row[0], row[1]) if row else None

"""Calls of models: what they may cost and did cost, what they answered; written at once, apart from any batch."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from memcli.store.db import Store, now
from memcli.store.hashes import row_hash

# Rows that cost something, or may have.
_SPENT = "status IN ('done', 'lost', 'reserved')"


@dataclass(frozen=True, slots=True)
class NewCall:
    """A request that is about to go out, about the window whose question has the hash `key`.

    `messages` is how many the window holds; the tokens are the worst case, `cost_usd` what they cost (None: no price).
    """

    agent: str
    tier: str
    model: str
    key: bytes
    messages: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls with their tokens, read and written, and US dollars (where prices are known)."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0


class Ledger:
    """Where every request is written down before it goes out and settled when it has ended. For any thread.

    It has a connection of its own, whose commits wait for the disk: a batch may be lost and read again, an answer costs
    money. `write_run` is called once, with the first call: every call belongs to a run.
    """

    def __init__(self, store: Store, run_id: int, write_run: Callable[[sqlite3.Connection], None]) -> None:
        self._conn = store.durable_connection()
        self._lock = threading.Lock()
        self._run_id = run_id
        self._write_run: Callable[[sqlite3.Connection], None] | None = write_run

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._conn.close()

    def begin(self, call: NewCall) -> int:
        """Reserve the worst case; the id of the call."""
        with self._lock:
            if self._write_run is not None:
                self._write_run(self._conn)
                self._write_run = None
            cursor = self._conn.execute(
                "INSERT INTO model_calls (run_id, agent_id, tier, model, key, messages, status, tokens_in, tokens_out,"
                " cost_usd, started_at) VALUES (?, ?, ?, ?, ?, ?, 'reserved', ?, ?, ?, ?)",
                (
                    self._run_id,
                    call.agent,
                    call.tier,
                    call.model,
                    call.key,
                    call.messages,
                    call.tokens_in,
                    call.tokens_out,
                    call.cost_usd,
                    now(),
                ),
            )
            return int(cursor.lastrowid or 0)

    def refused(self, call_id: int, seconds: float, error: str) -> None:
        """The call cost nothing."""
        with self._lock:
            self._conn.execute(
                "UPDATE model_calls SET status = 'failed', tokens_in = 0, tokens_out = 0,"
                " cost_usd = iif(cost_usd IS NULL, NULL, 0.0), seconds = ?, error = ? WHERE id = ?",
                (seconds, error, call_id),
            )

    def lost(self, call_id: int, seconds: float, error: str) -> None:
        """Nobody knows what became of the call: the worst case stays."""
        with self._lock:
            self._conn.execute(
                "UPDATE model_calls SET status = 'lost', seconds = ?, error = ? WHERE id = ?",
                (seconds, error, call_id),
            )

    def answered(
        self, call_id: int, seconds: float, tokens: tuple[int, int], cost_usd: float | None, answer: str | None
    ) -> None:
        """The call took so many tokens (in, out); its answer is kept, where there is one, in the same transaction."""
        with self._lock:
            self._conn.execute("BEGIN IMMEDIATE")
            try:
                self._conn.execute(
                    "UPDATE model_calls SET status = 'done', tokens_in = ?, tokens_out = ?, cost_usd = ?, seconds = ?"
                    " WHERE id = ?",
                    (*tokens, cost_usd, seconds, call_id),
                )
                if answer is not None:
                    (key,) = self._conn.execute("SELECT key FROM model_calls WHERE id = ?", (call_id,)).fetchone()
                    self._conn.execute(
                        "INSERT OR REPLACE INTO model_answers VALUES (?, ?, ?, ?)",
                        (key, call_id, answer, row_hash(key, call_id, answer)),
                    )
                self._conn.execute("COMMIT")
            except BaseException:
                if self._conn.in_transaction:
                    self._conn.execute("ROLLBACK")
                raise


def write_off(store: Store) -> None:
    """Calls that were in flight when their run was killed may have been charged: their worst case stays."""
    store.conn.execute(
        "UPDATE model_calls SET status = 'lost', error = 'the run ended before the answer' WHERE status = 'reserved'"
    )


def spent_since(store: Store, at: str) -> Spent:
    """What was spent, or reserved, from that time on."""
    row = store.conn.execute(
        "SELECT count(*), coalesce(sum(tokens_in + tokens_out), 0), coalesce(sum(cost_usd), 0.0) FROM model_calls"
        f" WHERE started_at >= ? AND {_SPENT}",
        (at,),
    ).fetchone()
    return Spent(*row)


def answers(store: Store, keys: Iterable[bytes]) -> dict[bytes, str]:
    """The answers that are known, by the hash of their question."""
    return dict(
        store.by_hashes("SELECT a.key, a.answer FROM hashes JOIN model_answers AS a ON a.key = hashes.hash", keys)
    )


def unbooked(store: Store, keys: Iterable[bytes]) -> dict[bytes, Spent]:
    """What the questions cost so far that is not put down to a window yet."""
    rows = store.by_hashes(
        "SELECT c.key, count(*), sum(c.tokens_in + c.tokens_out), coalesce(sum(c.cost_usd), 0.0) FROM hashes"
        f" JOIN model_calls AS c ON c.key = hashes.hash WHERE c.window_id IS NULL AND c.{_SPENT} GROUP BY c.key",
        keys,
    )
    return {key: Spent(*spent) for key, *spent in rows}


def book(conn: sqlite3.Connection, windows: Sequence[tuple[int, bytes]]) -> None:
    """Put calls down to windows (id, hash of the question); part of the transaction that stores the windows."""
    conn.executemany(
        "UPDATE model_calls SET window_id = ? WHERE key = ? AND window_id IS NULL AND status <> 'reserved'", windows
    )


def write_rejected_statements(conn: sqlite3.Connection, rows: Iterable[tuple[int, str, str, str, int]]) -> None:
    """Count statements that were not taken: (window id, tier, version, reason, number)."""
    conn.executemany("INSERT OR REPLACE INTO rejected_statements VALUES (?, ?, ?, ?, ?)", rows)


def write_links(conn: sqlite3.Connection, links: Iterable[tuple[int, int]], run_id: int) -> None:
    """Store that memories relate to others: (memory id, related id)."""
    conn.executemany(
        "INSERT OR IGNORE INTO memory_links VALUES (?, ?, 'relates_to', ?)",
        [(memory_id, related_id, run_id) for memory_id, related_id in links],
    )


def told(store: Store, hashes: Iterable[bytes]) -> set[tuple[str, bytes]]:
    """Which (agent, hash) are sentences of a system prompt or a boot file of that agent."""
    return set(
        store.by_hashes(
            "SELECT b.agent_id, b.line_hash FROM hashes JOIN boot_lines AS b ON b.line_hash = hashes.hash", hashes
        )
    )


def write_told(conn: sqlite3.Connection, lines: Iterable[tuple[str, bytes]]) -> None:
    """Remember sentences of system prompts and boot files: (agent, hash)."""
    conn.executemany("INSERT OR IGNORE INTO boot_lines VALUES (?, ?)", lines)

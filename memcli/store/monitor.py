"""What monitoring asks of the database: which windows were slow, what failed and why, what model tiers were asked."""

from __future__ import annotations

from dataclasses import dataclass

from memcli.store.db import Store

_KEPT_FAILURES = 50


@dataclass(frozen=True, slots=True)
class WindowTimes:
    """A window: its kept messages, memories made of it, tokens and dollars, seconds in extraction and model calls."""

    id: int
    batch_id: int
    agent: str
    messages: int
    memories: int
    tokens: int
    cost_usd: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that failed `count` times for one reason; `where` is the tier with what became of the window."""

    where: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Calls of one tier's model that ended in one way, with the tokens and dollars that count as spent."""

    tier: str
    model: str
    status: str
    calls: int
    tokens_in: int
    tokens_out: int
    usd: float


def slow_windows(store: Store, first_batch: int, limit: int) -> list[WindowTimes]:
    """The windows of the batches from `first_batch` on that took longest, longest first."""
    rows = store.conn.execute(
        "WITH own AS (SELECT * FROM windows WHERE batch_id >= ?1), called AS (SELECT window_id, sum(seconds) AS seconds"
        " FROM model_calls WHERE window_id IN (SELECT id FROM own) GROUP BY 1)"
        " SELECT w.id, w.batch_id, s.agent_id, w.messages_kept, w.memories_created, w.tokens, w.cost_usd,"
        " max(coalesce(json_extract(w.timings, '$.extract'), 0), coalesce(c.seconds, 0)) AS took"
        " FROM own AS w JOIN sessions AS s ON s.id = w.session_id LEFT JOIN called AS c ON c.window_id = w.id"
        " ORDER BY took DESC, w.id LIMIT ?2",
        (first_batch, limit),
    )
    return [WindowTimes(*row) for row in rows]


def failures(store: Store) -> list[Failure]:
    """Why tiers are not done with windows, calls failed and statements were rejected; most frequent first."""
    rows = store.conn.execute(
        "SELECT tier || ' ' || status AS place, coalesce(error, '?') AS reason, count(*) AS n FROM window_tiers"
        " WHERE status IN ('failed', 'waiting') GROUP BY 1, 2 UNION ALL"
        " SELECT tier || ' call ' || status, coalesce(error, '?'), count(*) FROM model_calls"
        " WHERE status IN ('failed', 'lost') GROUP BY 1, 2 UNION ALL"
        " SELECT tier || ' statement', reason, sum(statements) FROM rejected_statements GROUP BY 1, 2"
        " ORDER BY n DESC, 1, 2 LIMIT ?",
        (_KEPT_FAILURES,),
    )
    return [Failure(*row) for row in rows]


def asked(store: Store) -> list[Asked]:
    """Calls of model tiers by tier, model and how they ended."""
    rows = store.conn.execute(
        "SELECT tier, model, status, count(*), sum(tokens_in), sum(tokens_out), total(cost_usd) FROM model_calls"
        " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    return [Asked(*row) for row in rows]


def embedded(store: Store) -> tuple[int, int, float]:
    """(calls, tokens, dollars) that the provider of embeddings took; old batches did not record calls."""
    calls, tokens, usd = store.conn.execute(
        "SELECT coalesce(sum(embed_calls), 0), coalesce(sum(embed_tokens), 0), total(embed_usd) FROM batches"
    ).fetchone()
    return calls, tokens, usd


def tier_states(store: Store) -> dict[tuple[str, str], int]:
    """Windows by (tier, what became of it there)."""
    rows = store.conn.execute(
        "SELECT tier, status, count(DISTINCT window_id) FROM window_tiers GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return {(tier, status): windows for tier, status, windows in rows}


def rejected_statements(store: Store) -> dict[tuple[str, str], int]:
    """Statements of models that were not taken, by (tier, reason)."""
    rows = store.conn.execute(
        "SELECT tier, reason, sum(statements) FROM rejected_statements GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return {(tier, reason): count for tier, reason, count in rows}

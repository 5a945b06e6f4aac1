"""What `memcli stats` asks of the database: aggregates only, so that no answer grows with the messages or memories."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from memcli.store.db import Store, quoted

_LIVE_LINK = "LEFT JOIN merges AS g ON g.loser_id = m.id AND g.ended_at IS NULL"


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of one agent, or of all; `files` and `windows` are those that its messages came from and went into.

    `review_pairs` are the undecided ones of active memories, `reviewed` the memories that have such a pair with an
    earlier one.
    """

    sessions: int
    agents: int
    files: int
    windows: int
    pending: int
    review_pairs: int
    reviewed: int


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent's share."""

    agent: str
    sessions: int
    messages: int
    kept: int
    memories: int
    merged: int


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run; `outcome` is what came of it: of an ingest what its batches add up to, else the counts it reported."""

    id: int
    command: str
    status: str
    started_at: str
    seconds: float | None
    outcome: dict[str, int]


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """One committed batch; its `messages` are those it read, or, of a batch that only closed windows, those in them."""

    id: int
    run_id: int
    started_at: str
    messages: int
    memories: int
    merged: int
    timings: dict[str, float]
    tokens: int
    cost_usd: float

    @property
    def efficiency(self) -> float | None:
        """Memories of a message; None where there were none."""
        return self.memories / self.messages if self.messages else None

    @property
    def seconds(self) -> float:
        """Time spent on it, all stages."""
        return sum(self.timings.values())

    @property
    def rate(self) -> float | None:
        """Messages per second; None where none were read."""
        return self.messages / self.seconds if self.messages and self.seconds else None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes per table with its indexes, largest first.

    `exact` says that pages were counted; else stored values were added up, which leaves out indexes and overhead.
    """

    tables: dict[str, int]
    total: int
    free: int
    exact: bool


def agent_names(store: Store) -> list[str]:
    """Every agent, by name."""
    return [row[0] for row in store.conn.execute("SELECT DISTINCT agent_id FROM sessions ORDER BY agent_id")]


def counts(store: Store, agent: str | None) -> Counts:
    """Sizes of everything but messages and memories."""
    own = "IN (SELECT id FROM sessions WHERE agent_id = :agent)"
    open_pairs = (
        "FROM review_pairs AS r JOIN memories AS m ON m.id = r.memory_id WHERE r.status = 'open'"
        " AND (:agent IS NULL OR m.agent_id = :agent) AND NOT EXISTS"
        " (SELECT 1 FROM merges AS g WHERE g.ended_at IS NULL AND g.loser_id IN (r.memory_id, r.other_id))"
    )
    row = store.conn.execute(
        "SELECT (SELECT count(*) FROM sessions WHERE :agent IS NULL OR agent_id = :agent),"
        " (SELECT count(DISTINCT agent_id) FROM sessions WHERE :agent IS NULL OR agent_id = :agent),"
        " CASE WHEN :agent IS NULL THEN (SELECT count(*) FROM files)"
        f" ELSE (SELECT count(DISTINCT file_id) FROM messages WHERE session_id {own}) END,"
        " CASE WHEN :agent IS NULL THEN (SELECT count(*) FROM windows)"
        f" ELSE (SELECT count(*) FROM windows WHERE session_id {own}) END,"
        f" (SELECT count(DISTINCT message_id) FROM pending_messages WHERE :agent IS NULL OR session_id {own}),"
        f" (SELECT count(*) {open_pairs}), (SELECT count(DISTINCT r.memory_id) {open_pairs})",
        {"agent": agent},
    ).fetchone()
    return Counts(*row)


def messages_by_reason(store: Store, agent: str | None) -> dict[str | None, int]:
    """Messages by why they were dropped, most frequent first; None: kept."""
    return dict(
        store.conn.execute(
            "SELECT m.filter_reason, count(*) AS n FROM messages AS m JOIN sessions AS s ON s.id = m.session_id"
            " WHERE :agent IS NULL OR s.agent_id = :agent GROUP BY 1 ORDER BY n DESC, 1",
            {"agent": agent},
        ).fetchall()
    )


def rejected_by_reason(store: Store) -> dict[str, int]:
    """Rejected lines by reason, most frequent first."""
    return dict(store.conn.execute("SELECT reason, count(*) AS n FROM rejected_lines GROUP BY 1 ORDER BY n DESC, 1"))


def agent_rows(store: Store) -> list[AgentRow]:
    """Every agent's share, most memories first."""
    rows = store.conn.execute(
        "WITH talk AS (SELECT s.agent_id, count(DISTINCT s.id) AS sessions, count(m.id) AS messages,"
        " count(m.id) - count(m.filter_reason) AS kept"
        " FROM sessions AS s LEFT JOIN messages AS m ON m.session_id = s.id GROUP BY 1),"
        f" memory AS (SELECT m.agent_id, count(*) AS memories, count(g.id) AS merged FROM memories AS m {_LIVE_LINK}"
        " GROUP BY 1)"
        " SELECT t.agent_id, t.sessions, t.messages, t.kept, coalesce(y.memories, 0), coalesce(y.merged, 0)"
        " FROM talk AS t LEFT JOIN memory AS y ON y.agent_id = t.agent_id ORDER BY 5 DESC, 1"
    )
    return [AgentRow(*row) for row in rows]


def memories_by_method(store: Store, agent: str | None) -> dict[str, tuple[int, int]]:
    """(made, of these merged into another) by extraction method, most first."""
    return _memories_by(store, "m.extraction_method", "made DESC, 1", agent)


def memories_by_type(store: Store, agent: str | None) -> dict[str, tuple[int, int]]:
    """(made, of these merged into another) by memory type, most first."""
    return _memories_by(store, "m.type", "made DESC, 1", agent)


def memories_by_day(store: Store, agent: str | None) -> dict[str, tuple[int, int]]:
    """(made, of these merged into another) by day, oldest first: the day of the message, else that of the ingest."""
    return _memories_by(store, "substr(coalesce(m.timestamp, m.created_at), 1, 10)", "1", agent)


def _memories_by(store: Store, what: str, order: str, agent: str | None) -> dict[str, tuple[int, int]]:
    rows = store.conn.execute(
        f"SELECT {what}, count(*) AS made, count(g.id) FROM memories AS m {_LIVE_LINK}"
        f" WHERE :agent IS NULL OR m.agent_id = :agent GROUP BY 1 ORDER BY {order}",
        {"agent": agent},
    )
    return {name: (made, merged) for name, made, merged in rows}


def merges_by_kind(store: Store, agent: str | None) -> dict[str, int]:
    """Live merges by kind."""
    return dict(
        store.conn.execute(
            "SELECT g.kind, count(*) FROM merges AS g JOIN memories AS m ON m.id = g.loser_id"
            " WHERE g.ended_at IS NULL AND (:agent IS NULL OR m.agent_id = :agent) GROUP BY 1",
            {"agent": agent},
        ).fetchall()
    )


def top_tags(store: Store, agent: str | None, limit: int) -> dict[str, int]:
    """The most frequent tags with their number of active memories; a merged one's tags count for its winner."""
    # Only with an agent is a memory's row needed: the tags of all agents come from the index alone.
    of_agent = "JOIN memories AS m ON m.id = t.memory_id AND m.agent_id = :agent" if agent is not None else ""
    return dict(
        store.conn.execute(
            "SELECT t.tag, count(DISTINCT coalesce(g.winner_id, t.memory_id)) AS n FROM memory_tags AS t"
            f" {of_agent} LEFT JOIN merges AS g ON g.loser_id = t.memory_id AND g.ended_at IS NULL"
            " GROUP BY 1 ORDER BY n DESC, 1 LIMIT :limit",
            {"agent": agent, "limit": limit},
        ).fetchall()
    )


def batch_count(store: Store) -> int:
    """Number of committed batches."""
    return int(store.conn.execute("SELECT count(*) FROM batches").fetchone()[0])


def stage_seconds(store: Store) -> dict[str, float]:
    """Time by stage over all batches, in the order of the stages."""
    rows = store.conn.execute(
        "SELECT j.key, sum(j.value) FROM batches AS b, json_each(b.timings) AS j GROUP BY 1 ORDER BY min(j.id)"
    )
    return dict(rows.fetchall())


def runs_by_status(store: Store) -> dict[tuple[str, str], int]:
    """Number of runs by (command, status)."""
    rows = store.conn.execute("SELECT command, status, count(*) FROM runs GROUP BY 1, 2 ORDER BY 1, 2")
    return {(command, status): number for command, status, number in rows}


def last_done(store: Store) -> dict[str, tuple[float, float]]:
    """By command, when its last completed run ended (seconds since 1970) and how many seconds it took."""
    rows = store.conn.execute(
        "SELECT command, (julianday(finished_at) - julianday('1970-01-01')) * 86400,"
        " (julianday(finished_at) - julianday(started_at)) * 86400"
        " FROM runs WHERE id IN (SELECT max(id) FROM runs WHERE status = 'done' GROUP BY command) ORDER BY command"
    )
    return {command: (round(ended, 3), round(seconds, 3)) for command, ended, seconds in rows}


def last_runs(store: Store, limit: int) -> list[RunRow]:
    """The newest runs, newest first."""
    rows = store.conn.execute(
        "SELECT r.id, r.command, r.status, r.started_at,"
        " round((julianday(r.finished_at) - julianday(r.started_at)) * 86400, 3),"
        " CASE WHEN count(b.id) THEN json_object('memories', sum(b.memories_created),"
        " 'merged', sum(b.memories_merged), 'messages', sum(b.messages_in - b.messages_duplicate))"
        " ELSE (SELECT json_group_object(j.key, j.value) FROM json_each(r.report) AS j"
        " WHERE j.type = 'integer' AND j.key <> 'run_id') END"
        " FROM (SELECT * FROM runs ORDER BY id DESC LIMIT ?) AS r LEFT JOIN batches AS b ON b.run_id = r.id"
        " GROUP BY r.id ORDER BY r.id DESC",
        (limit,),
    )
    return [
        RunRow(run_id, command, status, started_at, seconds, json.loads(outcome))
        for run_id, command, status, started_at, seconds, outcome in rows
    ]


def recent_batches(store: Store, limit: int) -> list[BatchTimes]:
    """The newest batches, oldest first."""
    rows = store.conn.execute(
        "SELECT id, run_id, started_at, iif(messages_in, messages_in, json_array_length(source_message_ids)),"
        " memories_created, memories_merged, timings, tokens, cost_usd FROM batches"
        " ORDER BY id DESC LIMIT ?",
        (limit,),
    ).fetchall()
    return [
        BatchTimes(batch_id, run_id, started_at, messages, memories, merged, json.loads(timings), tokens, cost)
        for batch_id, run_id, started_at, messages, memories, merged, timings, tokens, cost in reversed(rows)
    ]


def sizes(store: Store) -> Sizes:
    """How large the file is and what fills it."""
    pages, free, page = (
        int(store.conn.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    exact = counts_pages(store.conn)
    found = _pages_by_table(store.conn) if exact else _values_by_table(store.conn)
    tables: dict[str, int] = {}
    virtual = [row[0] for row in store.conn.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'")]
    for table, size in found.items():
        owner = next((name for name in virtual if table.startswith(f"{name}_")), table)
        tables[owner] = tables.get(owner, 0) + size
    ranked = dict(sorted(tables.items(), key=lambda item: (-item[1], item[0])))
    return Sizes(ranked, pages * page, free * page, exact)


def counts_pages(conn: sqlite3.Connection) -> bool:
    """Whether this SQLite can say which pages belong to which table (dbstat is a compile-time option)."""
    return bool(conn.execute("SELECT sqlite_compileoption_used('ENABLE_DBSTAT_VTAB')").fetchone()[0])


def _pages_by_table(conn: sqlite3.Connection) -> dict[str, int]:
    return dict(
        conn.execute(
            "SELECT coalesce(m.tbl_name, d.name), sum(d.pgsize) FROM dbstat AS d"
            " LEFT JOIN sqlite_master AS m ON m.name = d.name WHERE d.aggregate = TRUE GROUP BY 1"
        ).fetchall()
    )


def _values_by_table(conn: sqlite3.Connection) -> dict[str, int]:
    found: dict[str, int] = {}
    # Virtual tables have no pages of their own.
    names = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall()
    for (name,) in names:
        columns = [row[0] for row in conn.execute("SELECT name FROM pragma_table_info(?)", (name,))]
        lengths = " + ".join(f"coalesce(length(CAST({quoted(column)} AS BLOB)), 0)" for column in columns)
        found[name] = int(conn.execute(f"SELECT coalesce(sum({lengths}), 0) FROM {quoted(name)}").fetchone()[0])
    return found


def sqlite_version() -> str:
    """The version of the SQLite library in use."""
    return sqlite3.sqlite_version


def matrix_bytes(store: Store) -> int:
    """Bytes of all ids, codes and keys: what the matrix cache of a run would hold without a cap."""
    coded = "count * (dim + 12)"
    return int(
        store.conn.execute(
            f"SELECT coalesce(sum(length(memory_ids) + {coded} + coalesce(length(keys), 0)), 0) FROM segments"
        ).fetchone()[0]
    )


def similar_pairs(store: Store) -> int:
    """How many pairs above the threshold were not merged, those included that are counted and not kept."""
    return int(store.conn.execute("SELECT coalesce(sum(review_pairs), 0) FROM memories").fetchone()[0])

"""What `dedup` asks of the database and writes to it: links that change, rulings of the user, how far it has come."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from memcli.model import Known, Link, Ruling
from memcli.store.db import Store, now
from memcli.store.memories import KNOWN_COLUMNS as _KNOWN
from memcli.store.memories import Evidence, known_of

ENDED = ("relinked", "rethreshold")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared with what: `agent` None stands for every agent by itself, or, across agents, for all as one."""

    agent: str | None = None
    across_types: bool = False
    across_agents: bool = False

    @property
    def name(self) -> str:
        """The name under which watermarks of this kind of scope are kept."""
        return " ".join(
            name for name, on in (("across-types", self.across_types), ("across-agents", self.across_agents)) if on
        )

    def flattened(self, known: Known) -> Known:
        """A memory with the borders taken away that the scope goes across."""
        if not (self.across_types or self.across_agents):
            return known
        return replace(
            known,
            agent="" if self.across_agents else known.agent,
            type="" if self.across_types else known.type,
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """A live link of a stored loser that is to end; `reason` is one of ENDED."""

    loser: int
    reason: str


# --- watermarks ------------------------------------------------------------------------------------------------------


def watermarks(store: Store, scope: Scope, evidence: Evidence) -> dict[str, int]:
    """Up to which memory each agent has been compared at this threshold; "" stands for all agents."""
    return dict(
        store.conn.execute(
            "SELECT agent_id, memory_id FROM dedup_watermarks"
            " WHERE scope = ? AND model_id = ? AND threshold = ? AND gate_version = ?",
            (scope.name, evidence.model_id, evidence.threshold, evidence.gate_version),
        ).fetchall()
    )


def grown(store: Store, after: int, agent: str | None) -> list[tuple[str, int, int]]:
    """Agents with memories beyond the id `after`, or only `agent`, as (agent, number of these memories, last id)."""
    return store.conn.execute(
        "SELECT agent_id, count(*), max(id) FROM memories WHERE id > ?1 AND (?2 IS NULL OR agent_id = ?2)"
        " GROUP BY agent_id ORDER BY agent_id",
        (after, agent),
    ).fetchall()


def write_watermarks(
    conn: sqlite3.Connection, scope: Scope, evidence: Evidence, reached: Iterable[tuple[str, int]], run_id: int
) -> None:
    """Remember how far agents have been compared."""
    conn.executemany(
        "INSERT OR REPLACE INTO dedup_watermarks VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (scope.name, agent, evidence.model_id, evidence.threshold, evidence.gate_version, memory_id, run_id)
            for agent, memory_id in reached
        ],
    )


# --- memories to judge -----------------------------------------------------------------------------------------------


def between(store: Store, agent: str | None, after: int, last: int, limit: int) -> list[Known]:
    """The first `limit` memories of an agent (None: of all) with ids above `after`, up to `last`, in their order."""
    source = (
        "memories AS m LEFT JOIN merges AS g ON g.loser_id = m.id AND g.ended_at IS NULL"
        " WHERE m.id > ?1 AND m.id <= ?2 AND (?3 IS NULL OR m.agent_id = ?3) ORDER BY m.id LIMIT ?4"
    )
    return [known_of(row) for row in store.conn.execute(f"{_KNOWN} {source}", (after, last, agent, limit))]


def vector_ids(store: Store, model_id: str, agent: str | None) -> Iterator[bytes]:
    """The ids of the vectors of an agent (None: of all), segment by segment: int64, little endian."""
    for (raw,) in store.conn.execute(
        "SELECT memory_ids FROM segments WHERE model_id = ?1 AND (?2 IS NULL OR agent_id = ?2)", (model_id, agent)
    ):
        yield raw


def rulings(store: Store, memory_ids: Sequence[int]) -> list[Ruling]:
    """What the user decided about pairs with one of these memories, by review or by undoing, oldest decision first."""
    rows = store.by_ids(
        "WITH wanted (id) AS (SELECT value FROM json_each(:ids)),"
        " decided (decision, one, other, accepted) AS ("
        " SELECT decided_run_id, memory_id, other_id, status = 'accepted' FROM wanted JOIN review_pairs"
        " ON memory_id = wanted.id WHERE decided_run_id IS NOT NULL"
        " UNION SELECT decided_run_id, memory_id, other_id, status = 'accepted' FROM wanted JOIN review_pairs"
        " ON other_id = wanted.id WHERE decided_run_id IS NOT NULL"
        " UNION SELECT ended_run_id, loser_id, winner_id, 0 FROM wanted JOIN merges"
        " ON loser_id = wanted.id WHERE ended_reason = 'undone' AND ended_at IS NOT NULL"
        " UNION SELECT ended_run_id, loser_id, winner_id, 0 FROM wanted JOIN merges"
        " ON winner_id = wanted.id WHERE ended_reason = 'undone')"
        " SELECT a.id, a.agent_id, a.content_hash, b.id, b.agent_id, b.content_hash, accepted FROM decided"
        " JOIN memories AS a ON a.id = one JOIN memories AS b ON b.id = other ORDER BY decision",
        memory_ids,
    )
    return [Ruling(tuple(row[:3]), tuple(row[3:6]), bool(row[6])) for row in rows]


def centres(store: Store, memory_ids: Sequence[int], accepted: str) -> set[int]:
    """Those of the memories into which the user has merged another; `accepted` is the mark of such a merge."""
    return {
        row[0]
        for row in store.by_ids(
            "SELECT winner_id FROM merges WHERE ended_at IS NULL AND winner_id IN (SELECT value FROM json_each(:ids))"
            " AND gates_passed = :accepted",
            memory_ids,
            accepted=json.dumps([accepted]),
        )
    }


def review_room(store: Store, memory_ids: Sequence[int]) -> dict[int, int]:
    """How many open pairs with an active memory are kept for those of the memories that have any."""
    return dict(
        store.by_ids(
            "SELECT r.memory_id, count(*) FROM json_each(:ids) AS wanted JOIN review_pairs AS r"
            " ON r.memory_id = wanted.value WHERE r.status = 'open' AND NOT EXISTS"
            " (SELECT 1 FROM merges AS g WHERE g.loser_id = r.other_id AND g.ended_at IS NULL) GROUP BY 1",
            memory_ids,
        )
    )


# --- changing links --------------------------------------------------------------------------------------------------


def end_links(conn: sqlite3.Connection, ended: Sequence[Ended], run_id: int) -> None:
    """End live links. What the same run has made leaves no trace: it was never there between two runs."""
    conn.executemany(
        "DELETE FROM merges WHERE loser_id = ? AND ended_at IS NULL AND run_id = ?",
        [(each.loser, run_id) for each in ended],
    )
    at = now()
    conn.executemany(
        "UPDATE merges SET ended_at = ?, ended_run_id = ?, ended_reason = ? WHERE loser_id = ? AND ended_at IS NULL",
        [(at, run_id, each.reason, each.loser) for each in ended],
    )


def add_links(conn: sqlite3.Connection, links: Sequence[Link], evidence: Evidence, run_id: int) -> None:
    """Add links. One that the same run has ended becomes what it was."""
    conn.executemany(
        "UPDATE merges SET ended_at = NULL, ended_run_id = NULL, ended_reason = NULL WHERE loser_id = ?"
        " AND ended_at IS NOT NULL AND winner_id = ? AND kind = ? AND ended_run_id = ? AND ended_reason <> 'undone'",
        [(link.loser, link.winner, link.kind, run_id) for link in links],
    )
    at = now()
    conn.executemany(
        "INSERT INTO merges (loser_id, winner_id, kind, cosine, overlap, gates_passed, gate_version, threshold,"
        " model_id, run_id, created_at) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11"
        " WHERE NOT EXISTS (SELECT 1 FROM merges WHERE loser_id = ?1 AND ended_at IS NULL)",
        [
            (
                link.loser,
                link.winner,
                link.kind,
                link.cosine,
                link.overlap,
                json.dumps(link.gates_passed),
                evidence.gate_version,
                evidence.threshold,
                evidence.model_id,
                run_id,
                at,
            )
            for link in links
        ],
    )


def changes(store: Store, run_id: int) -> dict[str, int]:
    """What a run has changed so far, in memories by what became of them.

    `exact` and `near`: active before, losers now, by kind. `moved`: losers of another star now. `released`: active now.
    """
    rows = store.conn.execute(
        "WITH made AS (SELECT loser_id, kind FROM merges WHERE run_id = ?1 AND ended_at IS NULL),"
        " gone AS (SELECT DISTINCT loser_id FROM merges WHERE ended_run_id = ?1 AND ended_at IS NOT NULL)"
        " SELECT CASE WHEN g.loser_id IS NULL THEN m.kind ELSE 'moved' END, count(*) FROM made AS m"
        " LEFT JOIN gone AS g ON g.loser_id = m.loser_id GROUP BY 1"
        " UNION ALL SELECT 'released', count(*) FROM gone AS g WHERE NOT EXISTS"
        " (SELECT 1 FROM merges WHERE loser_id = g.loser_id AND ended_at IS NULL)",
        (run_id,),
    )
    return {"exact": 0, "near": 0, "moved": 0, "released": 0} | dict(rows.fetchall())

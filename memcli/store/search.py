"""What search asks of the database: keyword scores, filters, and the details of hits."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from memcli.store.db import Store


@dataclass(frozen=True, slots=True)
class Filters:
    """Which memories may be found; None lets all pass. `since` is a time as messages have it."""

    agent: str | None = None
    type: str | None = None
    tag: str | None = None
    since: str | None = None

    @property
    def any(self) -> bool:
        """Whether any filter is set."""
        return any((self.agent, self.type, self.tag, self.since))


@dataclass(slots=True)
class Details:
    """A star as it is shown: the winner's text with what its members add up to.

    `keywords` are those of all its members, in the order of these; `sessions` are theirs (ids of the database), `tags`
    the sessions that carry each tag.
    """

    memory_id: int
    content: str
    type: str
    agent_id: str
    session_id: str
    timestamp: str | None
    importance: float = 0.0
    keywords: dict[str, None] = field(default_factory=dict)
    sessions: set[int] = field(default_factory=set)
    tags: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    sources: list[dict[str, object]] = field(default_factory=list)


def keyword_scores(store: Store, match: str, limit: int) -> list[tuple[int, float]]:
    """The best `limit` memories for an FTS5 query as (memory id, BM25 score, higher is better)."""
    return store.conn.execute(
        "SELECT rowid, -bm25(memories_fts) AS score FROM memories_fts WHERE memories_fts MATCH ?"
        " ORDER BY bm25(memories_fts), rowid LIMIT ?",
        (match, limit),
    ).fetchall()


def filtered_ids(store: Store, filters: Filters) -> set[int]:
    """Ids of all members of the stars that pass: agent and type are the winner's, tag and date those of any member."""
    rows = store.conn.execute(
        "WITH members (winner_id, member_id) AS (SELECT m.id, m.id FROM memories AS m WHERE NOT EXISTS"
        " (SELECT 1 FROM merges AS g WHERE g.loser_id = m.id AND g.ended_at IS NULL)"
        " UNION ALL SELECT winner_id, loser_id FROM merges WHERE ended_at IS NULL)"
        " SELECT member_id FROM members WHERE winner_id IN ("
        " SELECT w.id FROM members AS s"
        " JOIN memories AS w ON w.id = s.winner_id JOIN memories AS m ON m.id = s.member_id"
        " WHERE (:agent IS NULL OR w.agent_id = :agent) AND (:type IS NULL OR w.type = :type)"
        " AND (:since IS NULL OR m.timestamp >= :since)"
        " AND (:tag IS NULL OR EXISTS (SELECT 1 FROM memory_tags AS t WHERE t.memory_id = m.id AND t.tag = :tag)))",
        {"agent": filters.agent, "type": filters.type, "since": filters.since, "tag": filters.tag},
    )
    return {row[0] for row in rows}


def winners(store: Store, memory_ids: Sequence[int]) -> dict[int, int]:
    """Where the live links of the losers among `memory_ids` lead."""
    return dict(
        store.by_ids(
            "SELECT loser_id, winner_id FROM merges WHERE ended_at IS NULL"
            " AND loser_id IN (SELECT value FROM json_each(:ids))",
            memory_ids,
        )
    )


_STARS = """
WITH stars (winner_id, member_id) AS (
    SELECT value, value FROM json_each(:ids)
    UNION ALL
    SELECT g.winner_id, g.loser_id FROM json_each(:ids) AS wanted
    JOIN merges AS g ON g.winner_id = wanted.value AND g.ended_at IS NULL
)
"""


def details(store: Store, memory_ids: Sequence[int]) -> dict[int, Details]:
    """The stars around the active memories `memory_ids`."""
    stars: dict[int, Details] = {}
    for row in store.by_ids(
        "SELECT m.id, m.content, m.type, m.agent_id, s.key, m.timestamp FROM json_each(:ids) AS wanted"
        " JOIN memories AS m ON m.id = wanted.value JOIN sessions AS s ON s.id = m.session_id",
        memory_ids,
    ):
        stars[row[0]] = Details(*row)
    for winner, session_id, importance, keywords in store.by_ids(
        _STARS + "SELECT winner_id, m.session_id, m.importance, m.keywords FROM stars"
        " JOIN memories AS m ON m.id = member_id ORDER BY m.id",
        memory_ids,
    ):
        stars[winner].sessions.add(session_id)
        stars[winner].importance = max(stars[winner].importance, importance)
        stars[winner].keywords.update(dict.fromkeys(json.loads(keywords)))
    for winner, session_id, tag in store.by_ids(
        _STARS + "SELECT winner_id, m.session_id, t.tag FROM stars JOIN memories AS m ON m.id = member_id"
        " JOIN memory_tags AS t ON t.memory_id = member_id ORDER BY t.tag",
        memory_ids,
    ):
        stars[winner].tags[tag].add(session_id)
    for winner, message_id, external_id, path, start, end in store.by_ids(
        _STARS + 'SELECT DISTINCT winner_id, p.message_id, x.external_id, f.path, p.start, p."end" FROM stars'
        " JOIN provenance AS p ON p.memory_id = member_id JOIN messages AS x ON x.id = p.message_id"
        " JOIN files AS f ON f.id = x.file_id ORDER BY p.message_id, p.start",
        memory_ids,
    ):
        stars[winner].sources.append(
            {"message_id": message_id, "external_id": external_id, "path": path, "start": start, "end": end}
        )
    return stars

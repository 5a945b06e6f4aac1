"""What search asks of the database: keyword scores, filters, neighbours, and the facts and details of hits."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from memcli.store.db import Store

TOKENIZER = "porter unicode61 remove_diacritics 2"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which memories may be found; None lets all pass. Times are as messages have them; `until` itself does not pass.

    `source` is the path of a transcript, the last parts of one, or a GLOB pattern of either.
    """

    agent: str | None = None
    type: str | None = None
    tag: str | None = None
    since: str | None = None
    until: str | None = None
    session: str | None = None
    role: str | None = None
    source: str | None = None
    importance: float | None = None

    @property
    def any(self) -> bool:
        """Whether any filter is set."""
        return any(getattr(self, item.name) is not None for item in fields(self))

    @property
    def beyond_agent(self) -> bool:
        """Whether any filter but the agent is set."""
        return any(getattr(self, item.name) is not None for item in fields(self) if item.name != "agent")


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


@dataclass(frozen=True, slots=True)
class Fact:
    """What a score looks at beside words and meaning; `importance` is that of this member of a star alone."""

    memory_id: int
    star: int
    timestamp: str | None
    importance: float
    is_question: bool


def prepare(store: Store) -> None:
    """Make the temporary tables that `indexed` and `memories_with` ask; outside of any transaction."""
    if store.conn.execute("SELECT 1 FROM temp.sqlite_master WHERE name = 'query_words'").fetchone():
        return
    store.conn.execute("PRAGMA temp_store = MEMORY")
    store.conn.execute(f"CREATE VIRTUAL TABLE temp.query_words USING fts5 (word, content='', tokenize='{TOKENIZER}')")
    store.conn.execute("CREATE VIRTUAL TABLE temp.query_stems USING fts5vocab (temp, query_words, instance)")
    store.conn.execute("CREATE VIRTUAL TABLE temp.corpus_stems USING fts5vocab (main, memories_fts, row)")
    store.conn.execute("CREATE VIRTUAL TABLE temp.corpus_places USING fts5vocab (main, memories_fts, instance)")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a query as the keyword index has it: `term` is None where it is several terms in a row.

    `memories` is how many hold it and `times` how often they do; of several terms those of the rarest one.
    """

    term: str | None
    memories: int
    times: int


def indexed(store: Store, words: Sequence[str]) -> dict[str, Word]:
    """Those of `words` that occur in some memory, each as the keyword index has it (another form counts)."""
    if not words:
        return {}
    conn = store.conn
    conn.executemany("INSERT INTO temp.query_words (rowid, word) VALUES (?, ?)", list(enumerate(words)))
    rows = conn.execute(
        "SELECT s.doc, s.term, coalesce(v.doc, 0), coalesce(v.cnt, 0) FROM temp.query_stems AS s"
        " LEFT JOIN temp.corpus_stems AS v ON v.term = s.term"
    ).fetchall()
    conn.execute("INSERT INTO temp.query_words (query_words) VALUES ('delete-all')")
    found: dict[str, Word] = {}
    for place, term, memories, times in rows:
        other = found.get(words[place])
        if other is None:
            found[words[place]] = Word(term, memories, times)
        else:
            found[words[place]] = Word(None, min(memories, other.memories), min(times, other.times))
    return {word: each for word, each in found.items() if each.memories}


def memories_with(store: Store, term: str) -> str:
    """The ids of the memories that hold a term of the index, ascending, with commas; one for each time that they do."""
    return str(
        store.conn.execute("SELECT group_concat(doc) FROM temp.corpus_places WHERE term = ?", (term,)).fetchone()[0]
    )


def lengths(store: Store, memory_ids: Sequence[int] | None) -> tuple[str, str]:
    """Of memories in the keyword index (None: of all) the ids, with commas, and how many words each has, in that order.

    The latter is a varint of SQLite's for each, in hexadecimal digits ("The %_docsize table" of FTS5's manual).
    """
    only = "" if memory_ids is None else " WHERE id IN (SELECT value FROM json_each(?))"
    row = store.conn.execute(
        "SELECT coalesce(group_concat(id), ''), coalesce(group_concat(hex(sz), ''), '')"
        f" FROM memories_fts_docsize{only}",
        () if memory_ids is None else (json.dumps(memory_ids),),
    ).fetchone()
    return row[0], row[1]


def totals(store: Store) -> tuple[int, bytes]:
    """The highest id in the keyword index, and two varints: its memories and their words (FTS5's averages record)."""
    highest, record = store.conn.execute(
        "SELECT (SELECT max(id) FROM memories_fts_docsize), (SELECT block FROM memories_fts_data WHERE id = 1)"
    ).fetchone()
    return highest or 0, record or b""


def keyword_scores(store: Store, match: str) -> list[tuple[int, float]]:
    """All memories that an FTS5 query finds, as (memory id, BM25 score, higher is better)."""
    return store.conn.execute(
        "SELECT rowid, -bm25(memories_fts) FROM memories_fts WHERE memories_fts MATCH ?", (match,)
    ).fetchall()


def marked(store: Store, match: str, memory_ids: Sequence[int], marks: tuple[str, str]) -> dict[int, str]:
    """The texts of those of `memory_ids` that an FTS5 query finds, with every found word between `marks`.

    An empty query finds none.
    """
    found = {}
    for memory_id in memory_ids if match else ():
        row = store.conn.execute(
            "SELECT highlight(memories_fts, 0, ?, ?) FROM memories_fts WHERE memories_fts MATCH ? AND rowid = ?",
            (*marks, match, memory_id),
        ).fetchone()
        if row:
            found[memory_id] = row[0]
    return found


_IS_SOURCE = (
    "(f.path = :source OR f.path GLOB :source OR f.path GLOB '*/' || :source"
    " OR substr(f.path, -length(:source) - 1) = '/' || :source)"
)
_MEMBER_CLAUSES = {
    "since": "m.timestamp >= :since",
    "until": "m.timestamp < :until",
    "importance": "m.importance >= :importance",
    "tag": "EXISTS (SELECT 1 FROM memory_tags AS t WHERE t.memory_id = m.id AND t.tag = :tag)",
    "session": "m.session_id IN (SELECT id FROM sessions WHERE key = :session)",
    "role": "EXISTS (SELECT 1 FROM provenance AS p JOIN messages AS x ON x.id = p.message_id"
    " WHERE p.memory_id = m.id AND x.role = :role)",
    "source": "EXISTS (SELECT 1 FROM provenance AS p JOIN messages AS x ON x.id = p.message_id"
    " JOIN files AS f ON f.id = x.file_id WHERE p.memory_id = m.id"
    f" AND {_IS_SOURCE})",
}
_WINNER_CLAUSES = {"agent": "w.agent_id = :agent", "type": "w.type = :type"}


def filtered_ids(store: Store, filters: Filters) -> list[int]:
    """Ids of all members of the stars that pass: agent and type are the winner's, the rest is that of one member."""
    set_ = {item.name: getattr(filters, item.name) for item in fields(filters)}
    asked = {name: value for name, value in set_.items() if value is not None}
    members = " AND ".join(clause for name, clause in _MEMBER_CLAUSES.items() if name in asked) or "1"
    winners_ = " AND ".join(clause for name, clause in _WINNER_CLAUSES.items() if name in asked) or "1"
    rows = store.conn.execute(
        "WITH stars (id) AS MATERIALIZED (SELECT DISTINCT w.id FROM memories AS m"
        " LEFT JOIN merges AS g ON g.loser_id = m.id AND g.ended_at IS NULL"
        " JOIN memories AS w ON w.id = coalesce(g.winner_id, m.id)"
        f" WHERE {members} AND {winners_})"
        " SELECT id FROM stars UNION ALL"
        " SELECT g.loser_id FROM stars JOIN merges AS g ON g.winner_id = stars.id AND g.ended_at IS NULL",
        asked,
    )
    return [row[0] for row in rows]


# For each filter that names something: whether there is such a thing, and what there is instead, the latest first.
_NAMED = {
    "agent": (
        "SELECT 1 FROM sessions WHERE agent_id = :agent LIMIT 1",
        "SELECT agent_id FROM sessions GROUP BY agent_id ORDER BY max(id) DESC LIMIT 2000",
    ),
    "session": (
        "SELECT 1 FROM sessions WHERE key = :session LIMIT 1",
        "SELECT key FROM sessions GROUP BY key ORDER BY max(id) DESC LIMIT 2000",
    ),
    "tag": (
        "SELECT 1 FROM memory_tags WHERE tag = :tag LIMIT 1",
        "SELECT tag FROM session_tags GROUP BY tag ORDER BY max(session_id) DESC LIMIT 2000",
    ),
    "source": (
        f"SELECT 1 FROM files AS f WHERE {_IS_SOURCE} LIMIT 1",
        "SELECT path FROM files ORDER BY id DESC LIMIT 2000",
    ),
}


def unknown_names(store: Store, filters: Filters) -> dict[str, list[str]]:
    """Those filters that name what the database does not have, each with (at most 2,000 of) the names that it has."""
    unknown = {}
    for name, (there_is, there_are) in _NAMED.items():
        value = getattr(filters, name)
        if value is not None and not store.conn.execute(there_is, {name: value}).fetchone():
            unknown[name] = [row[0] for row in store.conn.execute(there_are)]
    return unknown


def winners(store: Store, memory_ids: Sequence[int]) -> dict[int, int]:
    """Where the live links of the losers among `memory_ids` lead."""
    return dict(
        store.by_ids(
            "SELECT loser_id, winner_id FROM merges WHERE ended_at IS NULL"
            " AND loser_id IN (SELECT value FROM json_each(:ids))",
            memory_ids,
        )
    )


# The kept messages of a session before or behind one, and of each the memory that is nearest to it. Messages without
# any are passed over, but not without end.
_NEAR = """
SELECT group_concat(memory_id) FROM (
    SELECT (SELECT {nearest}(p.memory_id) FROM provenance AS p WHERE p.message_id = kept.id) AS memory_id FROM (
        SELECT x.id FROM messages AS x WHERE x.session_id = a.session_id AND x.filter_reason IS NULL
        AND x.id {side} a.message_id ORDER BY x.id {order} LIMIT 4 * :reach
    ) AS kept WHERE memory_id IS NOT NULL LIMIT :reach
)
"""


def surroundings(store: Store, memory_ids: Sequence[int], reach: int) -> dict[int, tuple[list[int], list[int]]]:
    """For each memory one of each turn of its session before it and behind it, the nearest first, at most `reach` each.

    A turn is a message that something is remembered of; a memory's own is the first one that it comes from.
    """
    before = _NEAR.format(nearest="max", side="<", order="DESC")
    behind = _NEAR.format(nearest="min", side=">", order="ASC")
    rows = store.conn.execute(
        "WITH anchors (id, session_id, message_id) AS MATERIALIZED (SELECT m.id, m.session_id,"
        " (SELECT min(message_id) FROM provenance AS p WHERE p.memory_id = m.id)"
        " FROM json_each(:ids) AS wanted CROSS JOIN memories AS m ON m.id = wanted.value)"
        f" SELECT a.id, ({before}), ({behind}) FROM anchors AS a",
        {"ids": json.dumps(memory_ids), "reach": reach},
    )
    return {memory_id: (_ids(earlier), _ids(later)) for memory_id, earlier, later in rows}


def _ids(listed: str | None) -> list[int]:
    return [int(each) for each in listed.split(",")] if listed else []


def facts(store: Store, memory_ids: Sequence[int]) -> list[Fact]:
    """What scores look at, for each of the memories, in their order."""
    rows = store.by_ids(
        "SELECT m.id, coalesce(g.winner_id, m.id), m.timestamp, m.importance, rtrim(m.content) LIKE '%?'"
        " FROM json_each(:ids) AS wanted CROSS JOIN memories AS m ON m.id = wanted.value"
        " LEFT JOIN merges AS g ON g.loser_id = m.id AND g.ended_at IS NULL",
        memory_ids,
    )
    return [Fact(number, star, time, importance, bool(asks)) for number, star, time, importance, asks in rows]


def speakers(store: Store, names: Sequence[str]) -> set[str]:
    """Those of `names` that somebody who speaks in a transcript has, whatever the case."""
    return {
        row[0]
        for row in store.conn.execute(
            "SELECT wanted.value FROM json_each(?) AS wanted WHERE EXISTS"
            " (SELECT 1 FROM messages AS x WHERE x.speaker IS NOT NULL AND x.speaker = wanted.value COLLATE NOCASE)",
            (json.dumps(names),),
        )
    }


def said_by(store: Store, memory_ids: Sequence[int], names: Sequence[str]) -> set[int]:
    """Those of the memories that come from a message of one of the speakers `names`."""
    return {
        row[0]
        for row in store.conn.execute(
            "SELECT DISTINCT p.memory_id FROM json_each(:ids) AS wanted"
            " JOIN provenance AS p ON p.memory_id = wanted.value JOIN messages AS x ON x.id = p.message_id"
            " JOIN json_each(:names) AS name ON x.speaker = name.value COLLATE NOCASE",
            {"ids": json.dumps(memory_ids), "names": json.dumps(names)},
        )
    }


def matrix_shape(store: Store, model_id: str, agent: str | None) -> tuple[int, int]:
    """How many vectors of a model there are, of one agent (None: of all), and their dimensions."""
    count, dim = store.conn.execute(
        "SELECT coalesce(sum(count), 0), coalesce(max(dim), 1) FROM segments"
        " WHERE model_id = ?1 AND (?2 IS NULL OR agent_id = ?2)",
        (model_id, agent),
    ).fetchone()
    return count, dim


_STARS = """
WITH stars (winner_id, member_id) AS (
    SELECT value, value FROM json_each(:ids)
    UNION ALL
    SELECT g.winner_id, g.loser_id FROM json_each(:ids) AS wanted
    JOIN merges AS g ON g.winner_id = wanted.value AND g.ended_at IS NULL
)
"""


def sessions_by_tag(
    store: Store, stars: Sequence[int], tags: Sequence[str]
) -> Mapping[int, tuple[set[int], dict[str, set[int]]]]:
    """For each star its members' sessions, and of these the ones that carry each of `tags`."""
    found: dict[int, tuple[set[int], dict[str, set[int]]]] = defaultdict(lambda: (set(), {tag: set() for tag in tags}))
    for winner, session_id, tag in store.conn.execute(
        _STARS + "SELECT winner_id, m.session_id, t.tag FROM stars JOIN memories AS m ON m.id = member_id"
        " LEFT JOIN memory_tags AS t ON t.memory_id = member_id"
        " AND t.tag IN (SELECT value FROM json_each(:tags))",
        {"ids": json.dumps(stars), "tags": json.dumps(tags)},
    ):
        sessions, by_tag = found[winner]
        sessions.add(session_id)
        if tag is not None:
            by_tag[tag].add(session_id)
    return found


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


def messages_around(store: Store, message_id: int, reach: int) -> list[dict[str, object]]:
    """A message and at most `reach` kept ones of its session on either side, in their order."""
    columns = (
        "SELECT x.id, x.external_id, x.role, x.speaker, x.timestamp, x.text FROM messages AS o"
        " JOIN messages AS x ON x.session_id = o.session_id WHERE o.id = :id"
    )
    kept = "AND x.filter_reason IS NULL"
    rows = store.conn.execute(
        f"SELECT * FROM (SELECT * FROM ({columns} {kept} AND x.id < :id ORDER BY x.id DESC LIMIT :reach)"
        f" UNION ALL SELECT * FROM ({columns} AND x.id = :id)"
        f" UNION ALL SELECT * FROM ({columns} {kept} AND x.id > :id ORDER BY x.id LIMIT :reach)) ORDER BY id",
        {"id": message_id, "reach": reach},
    )
    names = ("message_id", "external_id", "role", "speaker", "timestamp", "text")
    return [dict(zip(names, row, strict=True)) | {"source": row[0] == message_id} for row in rows]

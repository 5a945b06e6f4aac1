"""What `forget` takes out of the database, table by table, in one transaction; and the wiping of the file after it.

The ids of what goes are collected in temporary tables first. Foreign keys are switched off meanwhile, since SQLite
would look for the children of every row one by one, and checked as a whole before the commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from memcli.errors import DamagedError
from memcli.store.db import Store
from memcli.store.foreign import own_tables
from memcli.store.forget_text import blank_out, is_held, look_for
from memcli.store.tombstones import Tombstones

UNFINISHED = "forget_unfinished"
NOBODY = "(forgotten)"
_TOLD = 10_000
_IN = "IN (SELECT id FROM temp.{})"
_MESSAGES, _MEMORIES = _IN.format("gone_messages"), _IN.format("gone_memories")
_WINDOWS, _SESSIONS, _FILES = _IN.format("touched_windows"), _IN.format("gone_sessions"), _IN.format("gone_files")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be forgotten: what all that is set applies to. A memory stands for its whole star.

    `also` are names of the same agent, session and source under which they are stored, too. A text may stand in the
    names of agents; `own_agents` are not meant by it.
    """

    agent: str | None = None
    session: str | None = None
    source: str | None = None
    text: str | None = None
    memory: int | None = None
    also: tuple[str | None, str | None, str | None] = (None, None, None)
    own_agents: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, object]:
        """The parameters of the queries; a source is a path, the end of one, or an archive."""
        return {
            "agent": self.agent,
            "session": self.session,
            "source": self.source,
            "text": self.text,
            "anywhere": self.anywhere,
            "memory": self.memory,
            "agent_also": self.also[0],
            "session_also": self.also[1],
            "source_also": self.also[2],
            "own": json.dumps(self.own_agents),
        }

    @property
    def anywhere(self) -> str | None:
        """The text where it is meant wherever it stands, and not of an agent, a session or a source alone."""
        return self.text if (self.agent, self.session, self.source, self.memory) == (None,) * 4 else None

    @property
    def is_named(self) -> bool:
        """Whether anything is meant at all."""
        return (self.agent, self.session, self.source, self.text, self.memory) != (None,) * 5

    @property
    def is_agent(self) -> bool:
        """Whether all of an agent is meant."""
        return self.agent is not None and (self.session, self.source, self.text, self.memory) == (None,) * 4


@dataclass(frozen=True, slots=True)
class Details:
    """What goes, for the eyes of the user: (agent, session key), paths, (memory id, content), ids of messages.

    Of very many memories only the first are told.
    """

    sessions: list[tuple[str, str]]
    files: list[str]
    memories: list[tuple[int, str]]
    messages: list[int]


_OF_SESSION = (
    "(:agent IS NULL OR s.agent_id IN (:agent, :agent_also))"
    " AND (:session IS NULL OR s.key IN (:session, :session_also))"
)
_PATH = (
    "(f.path IN (:source, :source_also)"
    " OR substr(f.path, 1, length(:source) + 1) = :source || '/'"
    " OR substr(f.path, 1, length(:source_also) + 1) = :source_also || '/'"
    " OR substr(f.path, -length(:source) - 1) = '/' || :source"
    " OR substr(f.path, -length(:source_also) - 1) = '/' || :source_also)"
)
_STRANGE = "NOT IN (SELECT value FROM json_each(:own))"
_CALLED = f"instr(agent_id, :anywhere) AND agent_id {_STRANGE}"
_NAMED = f"(instr(s.key, :text) OR (instr(s.agent_id, :text) AND s.agent_id {_STRANGE}))"


def choose(conn: sqlite3.Connection, selection: Selection) -> None:
    """Collect the ids of what goes: messages, memories that were taken from them, sessions and files left empty.

    A memory goes when one of the messages that it was taken from goes.
    """
    values = selection.values
    look_for(conn, selection.text, everywhere=selection.anywhere is not None)
    for name in ("messages", "memories", "sessions", "files"):
        conn.execute(f"CREATE TEMP TABLE gone_{name} (id INTEGER PRIMARY KEY)")
    conn.execute("CREATE TEMP TABLE touched_windows (id INTEGER PRIMARY KEY)")
    if selection.memory is not None:
        _choose_star(conn, values)
    else:
        _choose_others(conn, selection)
    conn.execute("CREATE TEMP TABLE named_memories AS SELECT id FROM temp.gone_memories")
    conn.execute(
        "INSERT OR IGNORE INTO temp.gone_memories SELECT DISTINCT memory_id FROM provenance"
        f" WHERE message_id {_MESSAGES}"
    )
    conn.execute(
        "INSERT INTO temp.touched_windows SELECT DISTINCT w.id FROM windows AS w"
        " CROSS JOIN json_each(w.source_message_ids) AS source WHERE w.session_id IN"
        f" (SELECT session_id FROM messages WHERE id {_MESSAGES}) AND source.value {_MESSAGES}"
    )
    conn.execute(f"INSERT OR IGNORE INTO temp.touched_windows SELECT window_id FROM memories WHERE id {_MEMORIES}")
    _choose_emptied(conn, selection)


def _choose_star(conn: sqlite3.Connection, values: dict[str, object]) -> None:
    star = "(SELECT coalesce((SELECT winner_id FROM merges WHERE loser_id = :memory AND ended_at IS NULL), :memory))"
    conn.execute(
        f"INSERT INTO temp.gone_memories SELECT m.id FROM memories AS m WHERE m.id = {star} OR m.id IN"
        f" (SELECT loser_id FROM merges WHERE winner_id = {star} AND ended_at IS NULL)",
        values,
    )
    conn.execute(
        f"INSERT INTO temp.gone_messages SELECT DISTINCT message_id FROM provenance WHERE memory_id {_MEMORIES}"
    )


def _choose_others(conn: sqlite3.Connection, selection: Selection) -> None:
    conn.execute(
        "INSERT INTO temp.gone_messages SELECT m.id FROM messages AS m JOIN sessions AS s ON s.id = m.session_id"
        f" WHERE {_OF_SESSION} AND (:source IS NULL OR m.file_id IN (SELECT f.id FROM files AS f WHERE {_PATH}))"
        " AND (:text IS NULL OR instr(m.text, :text) OR instr(coalesce(m.speaker, ''), :text)"
        f" OR instr(coalesce(m.external_id, ''), :text) OR {_NAMED})",
        selection.values,
    )
    if selection.source is None:
        conn.execute(
            "INSERT INTO temp.gone_memories SELECT m.id FROM memories AS m JOIN sessions AS s ON s.id = m.session_id"
            f" WHERE {_OF_SESSION} AND (:text IS NULL OR instr(m.content, :text) OR holds(m.keywords) OR {_NAMED})",
            selection.values,
        )


def _choose_emptied(conn: sqlite3.Connection, selection: Selection) -> None:
    """Sessions and files of which nothing is left; those that were named go with what stands in them."""
    whole = selection.text is None and selection.memory is None
    if whole and selection.source is None:
        conn.execute(
            f"INSERT INTO temp.gone_sessions SELECT s.id FROM sessions AS s WHERE {_OF_SESSION}", selection.values
        )
    elif selection.text is not None and selection.source is None:
        conn.execute(
            f"INSERT INTO temp.gone_sessions SELECT s.id FROM sessions AS s WHERE {_OF_SESSION} AND {_NAMED}",
            selection.values,
        )
    conn.execute(
        "INSERT OR IGNORE INTO temp.gone_sessions SELECT DISTINCT session_id FROM ("
        f" SELECT session_id FROM messages WHERE id {_MESSAGES} UNION SELECT session_id FROM memories"
        f" WHERE id {_MEMORIES}) AS own WHERE NOT EXISTS (SELECT 1 FROM messages AS m WHERE"
        f" m.session_id = own.session_id AND m.id NOT {_MESSAGES}) AND NOT EXISTS (SELECT 1 FROM memories AS m"
        f" WHERE m.session_id = own.session_id AND m.id NOT {_MEMORIES})"
    )
    if whole and selection.source is not None and selection.agent is None and selection.session is None:
        conn.execute(f"INSERT INTO temp.gone_files SELECT f.id FROM files AS f WHERE {_PATH}", selection.values)
    conn.execute(
        "INSERT OR IGNORE INTO temp.gone_files SELECT file_id FROM messages GROUP BY file_id"
        f" HAVING count(*) = count(*) FILTER (WHERE id {_MESSAGES})"
    )
    # A message that another file has too is stored under the first of them, which must stay as long as it does.
    conn.execute(f"DELETE FROM temp.gone_files WHERE id IN (SELECT file_id FROM messages WHERE id NOT {_MESSAGES})")
    conn.execute(f"INSERT OR IGNORE INTO temp.touched_windows SELECT id FROM windows WHERE session_id {_SESSIONS}")


def is_empty(conn: sqlite3.Connection, selection: Selection) -> bool:
    """Whether nothing was found that goes."""
    tables = ("gone_messages", "gone_memories", "gone_sessions", "gone_files")
    if any(conn.execute(f"SELECT EXISTS (SELECT 1 FROM temp.{table})").fetchone()[0] for table in tables):
        return False
    return selection.text is None or not (
        is_held(conn)
        or conn.execute(
            "SELECT EXISTS (SELECT 1 FROM rejected_lines WHERE said(head || reason))"
            " OR EXISTS (SELECT 1 FROM session_tags WHERE instr(tag, :anywhere))"
            " OR EXISTS (SELECT 1 FROM memory_tags WHERE instr(tag, :anywhere))"
            " OR EXISTS (SELECT 1 FROM review_pairs WHERE said(differences))"
            " OR EXISTS (SELECT 1 FROM model_answers WHERE said(answer))"
            f" OR EXISTS (SELECT 1 FROM model_calls WHERE {_CALLED})",
            selection.values,
        ).fetchone()[0]
    )


def details(conn: sqlite3.Connection) -> Details:
    """What `choose` has collected."""
    return Details(
        conn.execute(f"SELECT agent_id, key FROM sessions WHERE id {_SESSIONS} ORDER BY id").fetchall(),
        [row[0] for row in conn.execute(f"SELECT path FROM files WHERE id {_FILES} ORDER BY id")],
        conn.execute(f"SELECT id, content FROM memories WHERE id {_MEMORIES} ORDER BY id LIMIT {_TOLD}").fetchall(),
        [row[0] for row in conn.execute("SELECT id FROM temp.gone_messages ORDER BY id")],
    )


# --- tombstones ------------------------------------------------------------------------------------------------------


def bury(conn: sqlite3.Connection, tombstones: Tombstones, selection: Selection, run_id: int) -> int:
    """Write marks of all that goes, so that it does not come back; how many."""
    tombstones.make_key()
    by_text = selection.text is not None or selection.memory is not None
    messages: list[bytes] = []
    texts: list[bytes | None] = []
    for identity, role, timestamp, text in conn.execute(
        f"SELECT identity, role, timestamp, text FROM messages WHERE id {_MESSAGES}"
    ):
        messages.append(tombstones.message(identity))
        if text:
            texts.append(tombstones.said(role, timestamp, text))
            texts.append(tombstones.text(text) if by_text else None)
    records = conn.execute(f"SELECT identity FROM message_records WHERE message_id {_MESSAGES}")
    messages += [tombstones.message(identity) for (identity,) in records]
    written = tombstones.write("message", messages, run_id)
    if by_text:
        contents = conn.execute("SELECT content FROM memories WHERE id IN (SELECT id FROM temp.named_memories)")
        texts += [tombstones.text(content) for (content,) in contents]
    written += tombstones.write("text", texts, run_id)
    sessions = conn.execute(f"SELECT agent_id, key FROM sessions WHERE id {_SESSIONS}")
    written += tombstones.write("session", [tombstones.session(*row) for row in sessions], run_id)
    lines = conn.execute(f"SELECT head FROM rejected_lines WHERE {_LINES}", selection.values)
    written += tombstones.write("line", [tombstones.line(head) for (head,) in lines], run_id)
    tags = conn.execute("SELECT DISTINCT tag FROM session_tags WHERE instr(tag, :anywhere)", selection.values)
    return written + tombstones.write("tag", [tombstones.tag(tag) for (tag,) in tags], run_id)


_LINES = f"file_id {_FILES} OR said(head) OR said(reason)"


# --- stars that lose their winner ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Widowed:
    """A live link of a memory that stays to a winner that goes."""

    merge: int
    loser: int
    winner: int
    agent: str
    type: str
    method: str
    hash: bytes
    same_text: bool


def widowed(conn: sqlite3.Connection) -> list[Widowed]:
    """The live links whose winner goes and whose loser stays, by winner and loser."""
    rows = conn.execute(
        "SELECT g.id, g.loser_id, g.winner_id, l.agent_id, l.type, l.extraction_method, l.content_hash,"
        " l.content_hash = w.content_hash FROM merges AS g JOIN memories AS l ON l.id = g.loser_id"
        f" JOIN memories AS w ON w.id = g.winner_id WHERE g.ended_at IS NULL AND g.winner_id {_MEMORIES}"
        f" AND g.loser_id NOT {_MEMORIES} ORDER BY g.winner_id, g.loser_id"
    )
    return [_widowed(*row) for row in rows]


def _widowed(*row: Any) -> Widowed:  # noqa: ANN401 - the columns of a row
    return Widowed(*row)


def inherit(conn: sqlite3.Connection, heir: int, links: Sequence[Widowed], *, same_evidence: bool) -> None:
    """Link losers to `heir`: with the evidence they have, where it has the winner's text, else as the same text."""
    evidence = "" if same_evidence else ", kind = 'exact', cosine = 1.0, overlap = 1.0, gates_passed = '[\"content\"]'"
    conn.execute("DELETE FROM merges WHERE loser_id = ? AND ended_at IS NULL", (heir,))
    conn.executemany(
        f"UPDATE merges SET winner_id = ?{evidence} WHERE id = ?",
        [(heir, link.merge) for link in links if link.loser != heir],
    )
    if same_evidence and links:
        _keep_rulings(conn, heir, links[0].winner)


def _keep_rulings(conn: sqlite3.Connection, heir: int, winner: int) -> None:
    """What the user decided of a text holds for another memory with that text."""
    for one, other in (("memory_id", "other_id"), ("other_id", "memory_id")):
        conn.execute(
            f"UPDATE OR IGNORE review_pairs SET {one} = ?1 WHERE {one} = ?2 AND decided_run_id IS NOT NULL"
            f" AND {other} <> ?1",
            (heir, winner),
        )
    for one, other in (("winner_id", "loser_id"), ("loser_id", "winner_id")):
        conn.execute(
            f"UPDATE merges SET {one} = ?1 WHERE {one} = ?2 AND ended_reason = 'undone' AND {other} <> ?1",
            (heir, winner),
        )


# --- taking it out ---------------------------------------------------------------------------------------------------


def remove(conn: sqlite3.Connection, selection: Selection) -> dict[str, int]:
    """Delete what `choose` has collected and all that hangs on it, but vectors and words; rows by table."""
    counts = _remove_model_traces(conn, selection)
    for table, condition in (
        ("provenance", f"memory_id {_MEMORIES} OR message_id {_MESSAGES}"),
        ("memory_tags", f"memory_id {_MEMORIES} OR instr(tag, :anywhere)"),
        ("memory_links", f"memory_id {_MEMORIES} OR related_id {_MEMORIES}"),
        ("review_pairs", f"memory_id {_MEMORIES} OR other_id {_MEMORIES} OR said(differences)"),
        ("merges", f"loser_id {_MEMORIES} OR winner_id {_MEMORIES}"),
        ("memories", f"id {_MEMORIES}"),
        ("pending_messages", f"message_id {_MESSAGES} OR session_id {_SESSIONS}"),
        ("message_records", f"message_id {_MESSAGES}"),
        ("message_occurrences", f"file_id {_FILES}"),
        ("session_tags", f"session_id {_SESSIONS} OR instr(tag, :anywhere)"),
        ("rejected_lines", _LINES),
    ):
        counts[table] = conn.execute(f"DELETE FROM {table} WHERE {condition}", selection.values).rowcount
    counts |= _remove_windows(conn)
    counts["messages"] = conn.execute(f"DELETE FROM messages WHERE id {_MESSAGES}").rowcount
    counts["sessions"] = conn.execute(f"DELETE FROM sessions WHERE id {_SESSIONS}").rowcount
    counts["files"] = conn.execute(f"DELETE FROM files WHERE id {_FILES}").rowcount
    if selection.is_agent or selection.text is not None:
        agent = "agent_id IN (:agent, :agent_also)" if selection.is_agent else _CALLED
        for table in ("boot_lines", "dedup_watermarks"):
            counts[table] = conn.execute(f"DELETE FROM {table} WHERE {agent}", selection.values).rowcount
        values = selection.values | {"nobody": NOBODY}
        conn.execute(f"UPDATE model_calls SET agent_id = :nobody WHERE {agent}", values)
    conn.execute(
        "UPDATE batches SET source_message_ids = (SELECT json_group_array(value) FROM json_each(source_message_ids)"
        f" WHERE value NOT {_MESSAGES}) WHERE EXISTS (SELECT 1 FROM json_each(source_message_ids)"
        f" WHERE value {_MESSAGES})"
    )
    # What questions have found and said; which of them concern what goes cannot be told.
    counts["search_cache"] = conn.execute("DELETE FROM search_cache").rowcount
    conn.execute("UPDATE search_cache_use SET entries = 0")
    if selection.text is not None:
        counts["blanked"] = blank_out(conn)
    return {table: count for table, count in counts.items() if count}


def _remove_model_traces(conn: sqlite3.Connection, selection: Selection) -> dict[str, int]:
    """Answers of models about windows that go or change; of the calls stays what they cost, not what was asked.

    Answers that no window is down for yet may be about anything of their agent.
    """
    concerned = (
        f"(window_id {_WINDOWS} OR (window_id IS NULL AND agent_id IN (SELECT s.agent_id FROM messages AS m"
        f" JOIN sessions AS s ON s.id = m.session_id WHERE m.id {_MESSAGES})))"
    )
    answers = conn.execute(
        f"DELETE FROM model_answers WHERE key IN (SELECT key FROM model_calls WHERE {concerned})"
        " OR call_id IN (SELECT id FROM model_calls WHERE {concerned}) OR said(answer)".format(concerned=concerned),
        selection.values,
    ).rowcount
    calls = conn.execute(f"UPDATE model_calls SET key = randomblob(16), error = NULL WHERE {concerned}").rowcount
    conn.execute(f"UPDATE window_tiers SET error = NULL WHERE window_id {_WINDOWS}")
    return {"model_answers": answers, "model_calls": calls}


def _remove_windows(conn: sqlite3.Connection) -> dict[str, int]:
    """Take messages out of their windows; a window without any, and without memories, goes."""
    gone = {row[0] for row in conn.execute("SELECT id FROM temp.gone_messages")}
    rows = conn.execute(f"SELECT id, source_message_ids, source_spans FROM windows WHERE id {_WINDOWS}").fetchall()
    left = []
    for window_id, ids, spans in rows:
        parts = zip(json.loads(ids), json.loads(spans), strict=True)
        kept = [(message, span) for message, span in parts if message not in gone]
        left.append((json.dumps([each for each, _ in kept]), json.dumps([each for _, each in kept]), window_id))
    conn.executemany("UPDATE windows SET source_message_ids = ?, source_spans = ?, error = NULL WHERE id = ?", left)
    empty = (
        f"id {_WINDOWS} AND source_message_ids = '[]' AND NOT EXISTS"
        " (SELECT 1 FROM memories AS m WHERE m.session_id = windows.session_id AND m.window_id = windows.id)"
    )
    of_empty = f"window_id IN (SELECT id FROM windows WHERE {empty})"
    conn.execute(f"UPDATE model_calls SET window_id = NULL WHERE {of_empty}")
    counts = {
        table: conn.execute(f"DELETE FROM {table} WHERE {of_empty}").rowcount
        for table in ("window_tiers", "rejected_statements")
    }
    counts["windows"] = conn.execute(f"DELETE FROM windows WHERE {empty}").rowcount
    conn.execute(
        "UPDATE windows SET (memories_created, memories_merged) = (SELECT"
        " count(*) FILTER (WHERE verdict NOT IN ('exact', 'near')),"
        " count(*) FILTER (WHERE verdict IN ('exact', 'near'))"
        " FROM memories AS m WHERE m.session_id = windows.session_id AND m.window_id = windows.id),"
        " messages_kept = json_array_length(source_message_ids),"
        " messages_in = messages_in - messages_kept + json_array_length(source_message_ids)"
        f" WHERE id {_WINDOWS}"
    )
    return counts


def remove_occurrences(conn: sqlite3.Connection, rows: Sequence[tuple[bytes, int]]) -> int:
    """Delete what counts how often messages without an id were seen: (digest, file id)."""
    conn.executemany("DELETE FROM message_occurrences WHERE digest = ? AND file_id = ?", rows)
    return len(rows)


def occurrences(conn: sqlite3.Connection) -> Iterator[tuple[bytes, int, int]]:
    """Yield what counts messages without an id: (digest, file id, how often).

    That is never more than all messages that there are and were, whatever a damaged row says.
    """
    yield from conn.execute(
        "SELECT digest, file_id, min(count, (SELECT count(*) FROM messages) + (SELECT count(*) FROM forgotten))"
        " FROM message_occurrences"
    )


def gone_identities(conn: sqlite3.Connection) -> set[bytes]:
    """The identities of the messages that go."""
    return {row[0] for row in conn.execute(f"SELECT identity FROM messages WHERE id {_MESSAGES}")}


def lower_marks(conn: sqlite3.Connection, released: Sequence[int]) -> None:
    """See that no mark of how far something came stands behind the last id: ids are given again.

    Memories that stand alone now are to be compared again by the next `dedup`.
    """
    last = "(SELECT coalesce(max(id), 0) FROM memories)"
    conn.execute(f"UPDATE meta SET value = min(value, {last}) WHERE key = 'recall_horizon'")
    conn.execute(f"UPDATE dedup_watermarks SET memory_id = min(memory_id, {last})")
    conn.execute(f"UPDATE compressions SET last_memory_id = min(last_memory_id, {last})")
    if released:
        conn.execute("UPDATE dedup_watermarks SET memory_id = min(memory_id, ?)", (min(released) - 1,))


# --- the transaction and the file ------------------------------------------------------------------------------------


@contextmanager
def one_transaction(store: Store) -> Iterator[sqlite3.Connection]:
    """A transaction without foreign keys, which are checked at its end; deleted bytes are overwritten.

    Raises:
        DamagedError: rows point to nothing; nothing is written.
    """
    conn = store.conn
    conn.execute("PRAGMA foreign_keys = OFF")
    conn.execute("PRAGMA secure_delete = ON")
    conn.execute("PRAGMA temp_store = MEMORY")
    try:
        with store.transaction(store.generation()):
            yield conn
            ours = own_tables()  # what a table that a user has added points to is the user's
            lost = next((row for row in conn.execute("PRAGMA foreign_key_check") if row[0] in ours), None)
            if lost is not None:
                raise DamagedError(f"{store.path}: a row of {lost[0]} points to nothing in {lost[2]}", "memcli check")
    finally:
        conn.execute("PRAGMA foreign_keys = ON")


def begin_wiping(conn: sqlite3.Connection, run_id: int) -> None:
    """Note, in the transaction, that the file has yet to be written anew."""
    conn.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (UNFINISHED, run_id))


def wipe(store: Store) -> str | None:
    """Write the file anew, without what was deleted, and empty its log; else what was in the way."""
    conn = store.conn
    try:
        conn.execute("PRAGMA secure_delete = ON")
        conn.execute("PRAGMA temp_store = DEFAULT")  # else the whole file would be copied into memory
        if not _empty_log(conn):
            return "another program is reading it"
        conn.execute("VACUUM")
        if not _empty_log(conn):
            return "another program is reading it"
        conn.execute("DELETE FROM meta WHERE key = ?", (UNFINISHED,))
        _empty_log(conn)
    except sqlite3.OperationalError as error:
        return str(error)
    return None


def _empty_log(conn: sqlite3.Connection) -> bool:
    """Bring all of the log into the file and cut it to nothing; not while anyone still reads from it."""
    return not conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]


def models(conn: sqlite3.Connection) -> list[str]:
    """The models that there are vectors of."""
    return [row[0] for row in conn.execute("SELECT DISTINCT model_id FROM segments ORDER BY 1")]

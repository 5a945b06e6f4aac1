"""What can be told of a database by reading it: is each row the one that was written, and does each have what it needs.

Every check streams over its table once, in the caller's snapshot, and changes nothing.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from memcli.store.cache import KINDS, payload
from memcli.store.db import Store, is_interruption, literal, quoted
from memcli.store.foreign import own_tables
from memcli.store.hashes import HASHED, MEMORY_COLUMNS, MESSAGE_COLUMNS, row_hash
from memcli.text import content_hash, digest

# What can be made again of the rest; all other tables hold what nobody can make again.
DERIVED = {"segments", "search_cache", "search_cache_use", "memory_tags", "memories_fts"}
REPAIR = "memcli check --repair makes it anew"
RESTORE = "restore a backup, or ingest the transcripts into a new database"
_MESSAGES = 100  # of SQLite, about one table
_STEPS = 1_000_000  # of SQLite's machine between two looks for an interruption
_ERRORS = 20  # of the whole file, before the tables are looked at one by one


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `row` is the id of a row, or what stands for it; None: the whole table.

    `derived` says that `--repair` can make it again. A warning is nothing that has to be mended.
    """

    table: str
    row: int | str | None
    wrong: str
    todo: str = RESTORE
    derived: bool = False
    warning: bool = False

    def to_json(self) -> dict[str, object]:
        """The finding as a part of a JSON document."""
        return asdict(self)


def derived(table: str, row: int | str | None, wrong: str) -> Finding:
    """A finding in what can be made again."""
    return Finding(table, row, wrong, REPAIR, derived=True)


@contextmanager
def lenient(store: Store) -> Iterator[None]:
    """Texts with bytes that are no UTF-8 can be read meanwhile; they are not what was written, which a hash tells.

    Long statements can be interrupted.
    """
    before = store.conn.text_factory
    store.conn.text_factory = _text
    # Python hears of an interruption between two of its own instructions only: without this not while SQLite checks.
    store.conn.set_progress_handler(int, _STEPS)
    try:
        yield
    finally:
        store.conn.set_progress_handler(None, 0)
        store.conn.text_factory = before


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def guarded(table: str, found: Iterator[Finding | None]) -> Iterator[Finding | None]:
    """What a check yields, and one finding more where SQLite cannot read on."""
    try:
        yield from found
    except sqlite3.DatabaseError as error:
        if is_interruption(error):
            raise
        wrong = f"it cannot be read to its end: {error}"
        yield derived(table, None, wrong) if table in DERIVED else Finding(table, None, wrong)


def count(store: Store, table: str) -> int:
    """How many rows a table has; 0 where it cannot be counted."""
    try:
        return int(store.conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.DatabaseError:
        return 0


# --- the file -------------------------------------------------------------------------------------------------------

_OF_INDEX = re.compile(r"(?:row (\d+) missing from|wrong # of entries in|non-unique entry in) index (\S+)")
_OF_ROW = re.compile(r"(?:NULL value in|CHECK constraint failed in|NUMERIC value in|TEXT value in) (\w+)")


def structure(store: Store) -> Iterator[Finding]:
    """What SQLite finds wrong with pages, rows and indexes. The tables are gone through one by one if there is any."""
    errors = _integrity(store, "", _ERRORS)
    if not errors:
        return
    found = False
    for (table,) in store.conn.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY rootpage"
    ).fetchall():
        for each in _of_table(store, table):
            found = True
            yield each
    if not found:
        for error in errors:
            yield derived("", None, error)


def _of_table(store: Store, table: str) -> Iterator[Finding]:
    errors = _integrity(store, f"{literal(table)}, ", _MESSAGES)
    whole = not errors or table in DERIVED or is_readable(store, table)
    for error in errors:
        index = _OF_INDEX.search(error)
        if table in DERIVED or table.startswith("memories_fts_"):
            yield derived("memories_fts" if table.startswith("memories_fts_") else table, None, error)
        elif index is not None:
            row = None if index[1] is None else int(index[1])
            yield derived(table, row, error)
        elif whole and _OF_ROW.search(error) is None:
            # All rows can be read: if it is not the order of the rows, it is in an index.
            yield derived(table, None, error)
        else:
            yield Finding(table, None, error)


def _integrity(store: Store, table: str, limit: int) -> list[str]:
    try:
        rows = store.conn.execute(f"PRAGMA integrity_check({table.rstrip(', ') or limit})").fetchmany(limit)
    except sqlite3.DatabaseError as error:
        if is_interruption(error):
            raise
        return [str(error)]
    lines = [line for (text,) in rows for line in str(text).splitlines() if not line.startswith("***")]
    return [line for line in lines if line != "ok"][:limit]


def is_readable(store: Store, table: str) -> bool:
    """Whether all rows of a table can be read without any index."""
    try:
        cursor = store.conn.execute(f"SELECT * FROM {quoted(table)} NOT INDEXED")
        while cursor.fetchmany(1000):
            pass
    except sqlite3.DatabaseError:
        return False
    return True


def references(store: Store) -> Iterator[Finding]:
    """Rows that point to nothing. What a table that a user has added points to is the user's."""
    ours = own_tables()
    for table, row, parent, _ in store.conn.execute("PRAGMA foreign_key_check"):
        if table not in ours:
            continue
        wrong = f"it points to a row of {parent} that is not there"
        yield derived(table, row, wrong) if table in DERIVED else Finding(table, row, wrong)


_JSON = {
    "batches": {"source_message_ids", "lines_skipped", "messages_filtered", "methods", "timings"},
    "files": {"state"},
    "memories": {"keywords"},
    "merges": {"gates_passed"},
    "review_pairs": {"gates_failed", "differences"},
    "rules": {"keywords"},
    "runs": {"report"},
    "windows": {"source_message_ids", "source_spans", "methods", "timings"},
}
_TIME = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9]*Z"
_SHARES = {"importance", "overlap", "relevance"}


def columns(store: Store) -> Iterator[Finding]:
    """Values that are not of the kind of their column: a number, a text, JSON, a time, a share.

    What stands in a table that a user has added is the user's.
    """
    there = {row[0] for row in store.conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in sorted(own_tables() & there):
        if table.startswith(("_sqlite", "sqlite", "memories_fts")):
            continue
        yield from (each for each in guarded(table, _columns_of(store, table)) if each is not None)


def _columns_of(store: Store, table: str) -> Iterator[Finding]:
    described = store.conn.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    keys = [quoted(name) for _, name, _, _, _, place in described if place]
    wanted = []
    for _, name, kind, *_ in described:
        column = quoted(name)
        if kind:
            wanted.append((name, f"typeof({column}) NOT IN ({literal(kind.lower())}, 'null')"))
        if name in _JSON.get(table, ()):
            wanted.append((name, f"{column} IS NOT NULL AND NOT json_valid({column})"))
        elif kind == "TEXT" and name.endswith("_at"):
            wanted.append((name, f"{column} NOT GLOB '{_TIME}'"))
        elif name in _SHARES:
            wanted.append((name, f"{column} NOT BETWEEN 0 AND 1"))
    tests = " OR ".join(test for _, test in wanted)
    case = " ".join(f"WHEN {test} THEN {literal(name)}" for name, test in wanted)
    for name, *values in store.conn.execute(
        f"SELECT CASE {case} END, {', '.join(keys)} FROM {quoted(table)} NOT INDEXED WHERE {tests}"
    ):
        row = _id(values[0]) if len(values) == 1 else ", ".join(map(_shown, values))
        wrong = f"its {name} is not what can stand there"
        yield derived(table, row, wrong) if table in DERIVED else Finding(table, row, wrong, _LOST)


def _id(value: object) -> int | str:
    return value if isinstance(value, int) else _shown(value)


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


# --- rows with text -------------------------------------------------------------------------------------------------

_LOST = "a changed row cannot be brought back: " + RESTORE
# Only of a rule somebody knows what it should say.
_RULE = "see whether memcli rules show says what it should: memcli rules edit signs the row anew, rules remove drops it"


def messages(store: Store) -> Iterator[Finding | None]:
    """Messages that are not what was stored; None for each row that was looked at."""
    columns = ", ".join(MESSAGE_COLUMNS)
    for text, text_hash, hashed, *values in store.conn.execute(
        f"SELECT text, text_hash, row_hash, {columns} FROM messages ORDER BY id"
    ):
        yield None
        if not isinstance(text, str) or digest(text) != text_hash:
            yield Finding("messages", values[0], "its text is not what was stored", _LOST)
        if row_hash(*values) != hashed:
            yield Finding("messages", values[0], "the row is not what was stored", _LOST)


def memories(store: Store) -> Iterator[Finding | None]:
    """Memories that are not what was stored; None for each row that was looked at."""
    columns, place = ", ".join(MEMORY_COLUMNS), MEMORY_COLUMNS.index("content")
    hash_place = MEMORY_COLUMNS.index("content_hash")
    for hashed, *values in store.conn.execute(f"SELECT row_hash, {columns} FROM memories ORDER BY id"):
        yield None
        text = values[place]
        if row_hash(*values) != hashed:
            yield Finding("memories", values[0], "the row is not what was stored", _LOST)
        elif not isinstance(text, str) or content_hash(text) != values[hash_place]:
            yield Finding("memories", values[0], "its hash is not that of its text", _LOST)


def hashed(store: Store) -> Iterator[Finding]:
    """Sessions, rules and answers of models that are not what was stored."""
    for table in ("sessions", "rules", "model_answers"):
        for found, *values in store.conn.execute(
            f"SELECT row_hash, {', '.join(HASHED[table])} FROM {table} NOT INDEXED"
        ):
            # Whoever adds a rule with another program leaves its hash out.
            if row_hash(*values) != found and not (found is None and table == "rules"):
                advice = _RULE if table == "rules" else _LOST
                yield Finding(table, _id(values[0]), "the row is not what was stored", advice)


def provenance(store: Store) -> Iterator[Finding | None]:
    """Memories without a source, and sources that do not hold what was taken from them; None for each source."""
    for (memory_id,) in store.conn.execute(
        "SELECT id FROM memories AS m WHERE NOT EXISTS (SELECT 1 FROM provenance AS p WHERE p.memory_id = m.id)"
    ):
        yield Finding("memories", memory_id, "it has no provenance", _LOST)
    known, text = None, ""
    for message_id, memory_id, start, end, kind, method, content in store.conn.execute(
        'SELECT p.message_id, p.memory_id, p.start, p."end", p.kind, m.extraction_method, m.content'
        " FROM provenance AS p JOIN memories AS m ON m.id = p.memory_id ORDER BY p.message_id"
    ):
        yield None
        if kind != "message":
            continue
        if message_id != known:
            row = store.conn.execute("SELECT text FROM messages WHERE id = ?", (message_id,)).fetchone()
            known, text = message_id, str(row[0]) if row else ""
        name = f"memory {memory_id}, message {message_id}"
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)):
            yield Finding("provenance", name, "the span is not within the message", _LOST)
        elif _is_quote(method) and text[start:end] != content:
            yield Finding("provenance", name, "the span does not hold the memory's text", _LOST)


def _is_quote(method: str) -> bool:
    """Whether the memories of a tier are what stands in the message, word by word: a model may put it otherwise."""
    return method == "verbatim" or method.startswith("rules")


def settings(store: Store) -> Iterator[Finding]:
    """What the database must know of itself, and cannot do without."""
    there = dict(store.conn.execute("SELECT key, value FROM meta").fetchall())
    for key in ("generation", "recall_horizon"):
        if not isinstance(there.get(key), int):
            yield Finding("meta", key, "it is missing, or no number", _LOST)
    if store.conn.execute("SELECT EXISTS (SELECT 1 FROM segments)").fetchone()[0] and "model_id" not in there:
        yield Finding("meta", "model_id", "it is missing: nobody knows what made the vectors", _LOST)


# --- what follows from other rows -----------------------------------------------------------------------------------


def tags(store: Store) -> Iterator[Finding]:
    """Environment tags of memories that are not those of their sessions."""
    for memory_id, tag in store.conn.execute(
        "SELECT t.memory_id, t.tag FROM memory_tags AS t LEFT JOIN memories AS m ON m.id = t.memory_id"
        " LEFT JOIN session_tags AS s ON s.session_id = m.session_id AND s.tag = t.tag"
        " WHERE s.tag IS NULL OR typeof(t.relevance) NOT IN ('real', 'integer') OR t.relevance NOT BETWEEN 0 AND 1"
    ):
        yield derived("memory_tags", f"memory {memory_id}", f"its session does not have the tag {tag}")
    for memory_id, tag in store.conn.execute(
        "SELECT m.id, s.tag FROM memories AS m JOIN session_tags AS s ON s.session_id = m.session_id"
        " WHERE NOT EXISTS (SELECT 1 FROM memory_tags AS t WHERE t.memory_id = m.id AND t.tag = s.tag)"
    ):
        yield derived("memory_tags", f"memory {memory_id}", f"it lacks the tag {tag} of its session")


def links(store: Store) -> Iterator[Finding]:
    """Merges that are no stars."""
    for merge_id, winner in store.conn.execute(
        "SELECT g.id, g.winner_id FROM merges AS g JOIN merges AS up ON up.loser_id = g.winner_id"
        " AND up.ended_at IS NULL WHERE g.ended_at IS NULL"
    ):
        yield Finding("merges", merge_id, f"its winner {winner} was itself merged into another")


def cached(store: Store) -> Iterator[Finding]:
    """Entries of the query cache that are not what was put there, and its counts."""
    for kind, key, value in store.conn.execute("SELECT kind, key, value FROM search_cache NOT INDEXED"):
        if payload(key, value) is None:
            yield derived("search_cache", f"{kind} {_shown(key)}", "it is not what was remembered")
    kinds = {row[0] for row in store.conn.execute("SELECT kind FROM search_cache_use")}
    if kinds != set(KINDS):
        yield derived("search_cache_use", None, f"it counts {', '.join(sorted(map(str, kinds))) or 'nothing'}")
    for kind, told, there in store.conn.execute(
        "SELECT u.kind, u.entries, count(c.key) FROM search_cache_use AS u LEFT JOIN search_cache AS c"
        " ON c.kind = u.kind GROUP BY u.kind"
    ):
        if told != there:
            yield derived("search_cache_use", str(kind), f"it counts {told} entries where there are {there}")


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A transcript on disk and how many of its bytes were read."""

    id: int
    path: str
    offset: int


def read_files(store: Store) -> list[ReadFile]:
    """The transcripts whose cursors are places in the file itself, and not in what it unpacks to."""
    rows = store.conn.execute("SELECT id, path, offset FROM files WHERE head_hash IS NOT NULL ORDER BY id")
    return [ReadFile(*row) for row in rows]

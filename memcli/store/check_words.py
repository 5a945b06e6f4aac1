"""Whether the keyword index says what the memories say: it is compared with one that is made anew beside it.

SQLite's own check of an index wants to write, and cannot know that exact duplicates have no words of their own. So a
second index without content is filled in the temporary database of this connection, and both are read side by side.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from memcli.store.check import Finding, derived
from memcli.store.db import Store, is_interruption

_SHADOWS = ("data", "idx", "docsize", "config")
_TOKENIZER = "tokenize = 'porter unicode61 remove_diacritics 2'"
_TABLE = "memories_fts"
_TOLD = 1000  # memories with wrong words; whoever has more of them needs no list


def words(store: Store) -> Iterator[Finding]:
    """Entries of the keyword index that are missing, wrong, or of no memory."""
    conn = store.conn
    try:
        conn.execute(f"CREATE VIRTUAL TABLE temp.fresh USING fts5 (content, content = '', {_TOKENIZER})")
        conn.execute("INSERT INTO temp.fresh (rowid, content) SELECT id, content FROM main.memories WHERE embedded")
        conn.execute(f"CREATE VIRTUAL TABLE temp.stored_words USING fts5vocab ('main', '{_TABLE}', 'instance')")
        conn.execute("CREATE VIRTUAL TABLE temp.fresh_words USING fts5vocab ('temp', 'fresh', 'instance')")
        yield from _different(conn)
        yield from _sizes(conn)
        if not is_whole(conn):
            yield derived(_TABLE, None, "the keyword index is damaged")
    except sqlite3.DatabaseError as error:
        if is_interruption(error):
            raise
        yield derived(_TABLE, None, f"the keyword index is damaged: {error}")
    finally:
        for name in ("stored_words", "fresh_words", "fresh", "shadow"):
            try:
                conn.execute(f"DROP TABLE IF EXISTS temp.{name}")
            except sqlite3.DatabaseError:
                # It goes with the connection.
                continue


def _different(conn: sqlite3.Connection) -> Iterator[Finding]:
    """Memories that one of the two indexes knows by another word, or at another place of their text."""
    stored, fresh = (
        (tuple(row) for row in conn.execute(f'SELECT term, doc, "offset" FROM temp.{name}'))
        for name in ("stored_words", "fresh_words")
    )
    wrong: set[int] = set()
    one, other = next(stored, None), next(fresh, None)
    while (one is not None or other is not None) and len(wrong) < _TOLD:
        if one == other:
            one, other = next(stored, None), next(fresh, None)
        elif other is None or (one is not None and one < other):
            wrong.add(one[1] if one else 0)
            one = next(stored, None)
        else:
            wrong.add(other[1])
            other = next(fresh, None)
    for memory_id in sorted(wrong):
        yield derived(_TABLE, memory_id, "its words are not those of the memory")


def _sizes(conn: sqlite3.Connection) -> Iterator[Finding]:
    """The lengths of texts that scores are computed with, of each and of all."""
    for memory_id, _ in conn.execute(
        f"SELECT id, sz FROM main.{_TABLE}_docsize EXCEPT SELECT id, sz FROM temp.fresh_docsize"
    ):
        yield derived(_TABLE, memory_id, "it is of no memory, or of one with another number of words")
    for memory_id, _ in conn.execute(
        f"SELECT id, sz FROM temp.fresh_docsize EXCEPT SELECT id, sz FROM main.{_TABLE}_docsize"
    ):
        yield derived(_TABLE, memory_id, "the memory is not in the keyword index")
    averages = [
        conn.execute(f"SELECT block FROM {table}_data WHERE id = 1").fetchone()
        for table in (f"main.{_TABLE}", "temp.fresh")
    ]
    if averages[0] != averages[1]:
        yield derived(_TABLE, None, "its totals are not those of the memories")


def is_whole(conn: sqlite3.Connection) -> bool:
    """Whether the index is in itself as it should be, found out on a copy: the check wants to write."""
    conn.execute(f"CREATE VIRTUAL TABLE temp.shadow USING fts5 (content, content = '', {_TOKENIZER})")
    for part in _SHADOWS:
        conn.execute(f"DELETE FROM temp.shadow_{part}")
        conn.execute(f"INSERT INTO temp.shadow_{part} SELECT * FROM main.{_TABLE}_{part}")
    try:
        conn.execute("INSERT INTO temp.shadow (shadow) VALUES ('integrity-check')")
    except sqlite3.DatabaseError:
        return False
    return True

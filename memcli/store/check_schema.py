"""Whether tables, indexes and views are those that the migrations make: their definitions are text in the file, too."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from memcli.store.check import DERIVED, Finding, derived
from memcli.store.db import Store, quoted
from memcli.store.schema import migrate

_Parts = tuple[tuple[object, ...], ...]


def schema(store: Store) -> Iterator[Finding]:
    """Tables, indexes and views that are missing or not as they were made. What others have added is left alone."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrate(fresh)
        expected = _described(fresh)
    there = _described(store.conn)
    for (kind, name), (table, parts) in expected.items():
        found = there.get((kind, name))
        if found is not None and found[1] == parts:
            continue
        if found is None and kind == "index" and table == "_sqlite_migrations":
            continue  # sqlite-utils makes it outside of a transaction, and again when it is needed
        wrong = f"the {kind} {name} is {'missing' if found is None else 'not as it was made'}"
        can_be_made = kind != "table" or table in DERIVED
        yield derived(table, None, wrong) if can_be_made else Finding(table, None, wrong)


def _described(conn: sqlite3.Connection) -> dict[tuple[str, str], tuple[str, _Parts]]:
    """By kind and name: the table, and what it consists of. Texts of tables differ from one SQLite to the next."""
    found: dict[tuple[str, str], tuple[str, _Parts]] = {}
    for kind, name, table, sql in conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall():
        if kind == "table":
            pragmas: tuple[str, ...] = ("table_xinfo", "foreign_key_list")
        elif kind == "index":
            pragmas = ("index_xinfo",)
        else:
            found[kind, name] = table, ((" ".join(str(sql).split()),),)
            continue
        try:
            parts = tuple(row for each in pragmas for row in conn.execute(f"PRAGMA {each}({quoted(name)})"))
        except sqlite3.DatabaseError:
            parts = ()
        found[kind, name] = table, parts
    return found

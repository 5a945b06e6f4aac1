"""Every text of a database, whatever table it stands in, for those who look for one that should not be there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from memcli.store.db import Store, quoted

# What the keyword index keeps is made of the memories.
_DERIVED = ("memories_fts", "sqlite_", "_sqlite_")


@dataclass(frozen=True, slots=True)
class Place:
    """A value of a column; `row` names its row without any of its texts."""

    table: str
    column: str
    row: str
    text: str


def every_text(store: Store) -> Iterator[Place]:
    """Yield every text of every table; BLOBs only where a column may hold both."""
    names = store.conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name")
    for (table,) in names.fetchall():
        if not table.startswith(_DERIVED):
            yield from _of_table(store, table)


def _of_table(store: Store, table: str) -> Iterator[Place]:
    info = store.conn.execute("SELECT name, type, pk FROM pragma_table_info(?)", (table,)).fetchall()
    texts = [name for name, kind, _ in info if kind in {"TEXT", ""} or (table, name) == ("search_cache", "value")]
    if not texts:
        return
    keys = [quoted(name) for name, kind, place in info if place and kind == "INTEGER"] or [
        f"hex({quoted(name)})" for name, kind, place in info if place and kind == "BLOB"
    ]
    columns = ", ".join(map(quoted, texts))
    row = " || ' ' || ".join(keys) or "''"
    for found, *values in store.conn.execute(f"SELECT {row}, {columns} FROM {quoted(table)}"):
        for column, value in zip(texts, values, strict=True):
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            if text and isinstance(text, str):
                yield Place(table, column, str(found), text)


def forms_of(text: str) -> set[str]:
    """A text as it is, and as JSON writes it: keywords, answers of models and rejected lines stand as JSON."""
    return {text, *(json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))}


def texts_with(store: Store, text: str) -> list[tuple[str, str, int]]:
    """Where a text still stands: (table, column, number of rows)."""
    found: Counter[tuple[str, str]] = Counter()
    forms = forms_of(text)
    for place in every_text(store):
        found[place.table, place.column] += any(form in place.text for form in forms)
    return [(*where, count) for where, count in sorted(found.items()) if count]

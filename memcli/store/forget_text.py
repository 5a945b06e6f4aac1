"""A forgotten text where it stands in what stays: paths, states of files, names of models, reports, errors.

What holds it there says nothing else of it, so only its characters go.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from memcli.store.hashes import MESSAGE_COLUMNS, row_hash
from memcli.store.secrets import forms_of

FORGOTTEN = "[forgotten]"
# Reports name by kind what they have counted in a transcript; all their other names are memcli's own.
_COUNTED = "skipped"

_HOLD = (
    "SELECT 1 FROM messages WHERE said(model)",
    "SELECT 1 FROM files WHERE said(path) OR said(state)",
    "SELECT 1 FROM runs WHERE said_json(report)",
    "SELECT 1 FROM batches WHERE said_kinds(lines_skipped) OR said(error)",
    "SELECT 1 FROM windows WHERE said(error)",
    "SELECT 1 FROM window_tiers WHERE said(error)",
    "SELECT 1 FROM model_calls WHERE said(error)",
)
_BLANK = (
    "UPDATE files SET path = blank(path) WHERE said(path)",
    # Without its state a reader cannot go on in the middle of a file: the next run begins at its start.
    "UPDATE files SET state = '{}', head_hash = NULL, tail_hash = NULL WHERE said(state) AND size >= 0",
    "UPDATE files SET state = '{}', head_hash = NULL, tail_hash = NULL, mtime_ns = -1 WHERE said(state)",
    "UPDATE runs SET report = blank_json(report) WHERE said_json(report)",
    "UPDATE batches SET lines_skipped = blank_kinds(lines_skipped) WHERE said_kinds(lines_skipped)",
    "UPDATE batches SET error = NULL WHERE said(error)",
    "UPDATE windows SET error = NULL WHERE said(error)",
    "UPDATE window_tiers SET error = NULL WHERE said(error)",
    "UPDATE model_calls SET error = NULL WHERE said(error)",
)


def look_for(conn: sqlite3.Connection, text: str | None, *, everywhere: bool) -> None:
    """Make functions of a connection: `holds` tells whether a value holds the text, `blank` and others replace it.

    `said` is `holds` where the text is meant `everywhere`, and never true else: then nothing but what was chosen goes.
    """
    forms = forms_of(text) if text is not None else set()
    mark = "" if text is None or text in FORGOTTEN else FORGOTTEN

    def blank(told: str) -> str:
        return told if text is None else told.replace(text, mark)

    def in_json(told: str, inside: str) -> str:
        try:
            return json.dumps(_walked(json.loads(told), inside, blank))
        except (ValueError, RecursionError):
            return "{}"

    def holds(told: Any) -> bool | None:  # noqa: ANN401 - a value of any column
        return any(form in told for form in forms) if isinstance(told, str) else None

    def said(told: Any) -> bool | None:  # noqa: ANN401 - as above
        return holds(told) if everywhere else False

    def said_in(told: Any, inside: str) -> bool | None:  # noqa: ANN401 - as above
        """Of JSON; the names that are memcli's own do not count."""
        return bool(said(told)) and in_json(told, inside) != _rewritten(told)

    # Of what may stand as JSON; texts are plain, and there are many.
    conn.create_function("holds", 1, holds)
    conn.create_function("said", 1, said)
    conn.create_function("said_json", 1, lambda told: said_in(told, ""))
    conn.create_function("said_kinds", 1, lambda told: said_in(told, _COUNTED))
    conn.create_function("blank", 1, blank)
    conn.create_function("blank_json", 1, lambda told: in_json(told, ""))
    conn.create_function("blank_kinds", 1, lambda told: in_json(told, _COUNTED))


def _walked(value: object, inside: str, blank: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return blank(value)
    if isinstance(value, list):
        return [_walked(each, inside, blank) for each in value]
    if isinstance(value, dict):
        return {blank(key) if inside == _COUNTED else key: _walked(each, key, blank) for key, each in value.items()}
    return value


def _rewritten(told: str) -> str | None:
    try:
        return json.dumps(json.loads(told))
    except (ValueError, RecursionError):
        return None


def is_held(conn: sqlite3.Connection) -> bool:
    """Whether the text stands anywhere that this module knows."""
    return any(conn.execute(f"{query} LIMIT 1").fetchone() for query in _HOLD)


def blank_out(conn: sqlite3.Connection) -> int:
    """Take the text out of all that stays, in the transaction of the connection; the number of rows."""
    rows = sum(conn.execute(statement).rowcount for statement in _BLANK)
    return rows + _forget_models(conn)


def _forget_models(conn: sqlite3.Connection) -> int:
    held = conn.execute(f"SELECT {', '.join(MESSAGE_COLUMNS)} FROM messages WHERE said(model)").fetchall()
    place = MESSAGE_COLUMNS.index("model")
    rows = [(*row[:place], None, *row[place + 1 :]) for row in held]
    conn.executemany(
        "UPDATE messages SET model = NULL, row_hash = ? WHERE id = ?", [(row_hash(*r), r[0]) for r in rows]
    )
    return len(rows)

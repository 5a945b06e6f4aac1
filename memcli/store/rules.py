"""The user's rules as they are stored, which may be otherwise than any memcli would write them; and stored messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from memcli.store.db import Store, now
from memcli.store.hashes import RULE_COLUMNS, row_hash

_COLUMNS = "id, agent_id AS agent, name, pattern, kind, keep, type, importance, keywords, roles, case_sensitive, active"


def load(store: Store) -> list[dict[str, Any]]:
    """All rules in the order they were added, as tables of a rule file; `keywords` is a text where it is no list."""
    cursor = store.conn.execute(f"SELECT {_COLUMNS} FROM rules ORDER BY number")
    names = [column[0] for column in cursor.description]
    return [_table(dict(zip(names, row, strict=True))) for row in cursor]


def _table(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("case_sensitive", "active"):
        row[name] = bool(row[name])
    try:
        row["keywords"] = json.loads(row["keywords"])
    except (TypeError, ValueError):
        row["keywords"] = str(row["keywords"])
    return row


def disabled_starters(store: Store) -> set[str]:
    """Ids of the built-in rules that are switched off."""
    return {row[0] for row in store.conn.execute("SELECT id FROM disabled_starter_rules")}


def write(conn: sqlite3.Connection, rules: Iterable[Mapping[str, Any]], run_id: int) -> None:
    """Insert rules, or replace those with the same id."""
    rules = list(rules)
    # Two rules may exchange their names.
    conn.executemany("UPDATE rules SET name = 'to be replaced: ' || id WHERE id = ?", [(rule["id"],) for rule in rules])
    conn.executemany(
        "INSERT INTO rules (id, agent_id, name, pattern, kind, keep, type, importance, keywords, roles,"
        " case_sensitive, active, run_id, changed_at, row_hash) VALUES (:id, :agent, :name, :pattern, :kind, :keep,"
        " :type, :importance, :keywords, :roles, :case_sensitive, :active, :run, :at, :hash)"
        " ON CONFLICT (id) DO UPDATE SET agent_id = excluded.agent_id, name = excluded.name,"
        " pattern = excluded.pattern, kind = excluded.kind, keep = excluded.keep, type = excluded.type,"
        " importance = excluded.importance, keywords = excluded.keywords, roles = excluded.roles,"
        " case_sensitive = excluded.case_sensitive, active = excluded.active, run_id = excluded.run_id,"
        " changed_at = excluded.changed_at, row_hash = excluded.row_hash",
        [_values(rule) | {"run": run_id, "at": now()} for rule in rules],
    )


def _values(rule: Mapping[str, Any]) -> dict[str, Any]:
    keywords = json.dumps(rule["keywords"], ensure_ascii=False)
    values = {**rule, "keywords": keywords, "importance": float(rule["importance"])}
    values["case_sensitive"] = int(rule["case_sensitive"])
    names = ("agent" if each == "agent_id" else each for each in RULE_COLUMNS)
    return values | {"hash": row_hash(*(values[name] for name in names))}


def remove(conn: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Delete rules; what they made stays."""
    conn.executemany("DELETE FROM rules WHERE id = ?", [(rule_id,) for rule_id in ids])


def set_active(conn: sqlite3.Connection, ids: Iterable[str], run_id: int, *, active: bool) -> None:
    """Switch rules of the user on or off."""
    conn.executemany(
        "UPDATE rules SET active = ?, run_id = ?, changed_at = ? WHERE id = ?",
        [(active, run_id, now(), rule_id) for rule_id in ids],
    )


def set_starters(conn: sqlite3.Connection, ids: Iterable[str], run_id: int, *, active: bool) -> None:
    """Switch built-in rules on or off."""
    if active:
        conn.executemany("DELETE FROM disabled_starter_rules WHERE id = ?", [(rule_id,) for rule_id in ids])
    else:
        conn.executemany(
            "INSERT OR IGNORE INTO disabled_starter_rules VALUES (?, ?)", [(rule_id, run_id) for rule_id in ids]
        )


def kept_message_count(store: Store) -> int:
    """How many messages `kept_messages` yields."""
    return int(store.conn.execute("SELECT count(*) FROM messages WHERE filter_reason IS NULL").fetchone()[0])


def kept_messages(store: Store) -> Iterator[tuple[int, str, str, str, str]]:
    """Yield the messages that extraction sees, in order: (id, agent, session key, role, text)."""
    yield from store.conn.execute(
        "SELECT m.id, s.agent_id, s.key, m.role, m.text FROM messages AS m JOIN sessions AS s ON s.id = m.session_id"
        " WHERE m.filter_reason IS NULL ORDER BY m.id"
    )

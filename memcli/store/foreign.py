"""Files that are not ours: told by their schema, before anything in them is run.

SQLite runs what a schema says: triggers, views, generated columns, checks, expressions in indexes, virtual tables. So a
file is trusted only as far as its schema is the one that memcli makes. Reading the schema runs nothing of it.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from memcli.errors import DamagedError, MismatchError, UsageError
from memcli.store.schema import APPLICATION_ID, applied, released, steps

if TYPE_CHECKING:
    from sqlite_utils import Database

_Object = tuple[str, str, str, str]  # type, name, table, SQL

# The newest schema: saves 11 ms of building it anew to compare with. A test says what it must be.
FINGERPRINT = "3e723df9d1d8a9282fc3b48a0e9a236f"

RESTORE = "memcli check tells what is wrong; restore a backup"
# The first databases were made without it.
_LATER_CHECK = ", CHECK (loser_id <> winner_id)"
_CHANGED = "is not as memcli made it"
_QUOTES = re.compile(r"[\"'`\[\]]")
_SPACE = re.compile(r"\s+")
# Tables of FTS5 and of sqlite-utils: how they are written depends on the version that made them.
_SHADOW = re.compile(r"memories_fts_(?:data|idx|docsize|config|content)")
_RECORD = re.compile(r"(?:idx_)?_sqlite_migrations(?:_migration_set_name)?")
_SQLITES = re.compile(r"create table sqlite_(?:stat\d|sequence)\(", re.IGNORECASE)
# A table or index of the user's that only holds data: nothing that is computed.
_COMPUTED = re.compile(r"\b(?:generated|check|collate|where)\b|\bas\s*\(|\bdefault\s*\(", re.IGNORECASE)
_TABLE = re.compile(r"create table\b", re.IGNORECASE)
_INDEX = re.compile(r"create (?:unique )?index\b[^()]*\([^()]*\)\s*", re.IGNORECASE)


def check_regular(path: Path) -> None:
    """Refuse what is there but is no file: a folder, a pipe, a device.

    Raises:
        UsageError: says what it is.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise UsageError(f"{path} is {kind}, not a database", "name a file with --db")


def check_application(path: Path, conn: sqlite3.Connection) -> None:
    """Refuse a file that says it is another program's, or does not say whose.

    Raises:
        MismatchError: it is not marked as memcli's.
    """
    if conn.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise MismatchError(f"{path} is an SQLite file, but no memcli database", "name another with --db")


def check_schema(path: Path, conn: sqlite3.Connection) -> None:
    """Refuse a file whose schema holds anything that would run and that memcli has not made.

    Tables and indexes that a user has added are let be as long as they only hold data: memcli never looks into them.

    Raises:
        MismatchError: says which object it is, or that a newer memcli has written the file.
    """
    found = list(_objects(conn))
    _check_newer(path, conn, found)
    if fingerprint(found) == FINGERPRINT:
        return
    ours = _ours()
    strange = next((each for each in found if not ours.has(each) and not _is_data(each, ours)), None)
    if strange is not None:
        raise _refused(path, strange, _CHANGED if strange[1].lower() in ours.names else "is none of memcli's")


def _check_newer(path: Path, conn: sqlite3.Connection, found: Iterable[_Object]) -> None:
    record = next((each for each in found if each[1].lower() == "_sqlite_migrations"), None)
    if record is not None and not _is_plain_table(record[3]):
        raise _refused(path, record, _CHANGED)
    known = set(applied(conn))
    if newer := sorted(known - set(released())):
        if not set(released()) <= known:  # a later memcli has all migrations of an earlier one
            raise DamagedError(f"{path} is damaged: its migrations are not ours: {newer[-1]}", RESTORE)
        raise MismatchError(
            f"{path} was written by a newer memcli (it has the migration {newer[-1]})", "upgrade memcli"
        )


def _refused(path: Path, found: _Object, what: str) -> MismatchError:
    kind, name, _, _ = found
    return MismatchError(
        f"{path} is refused: its {kind} {name} {what}, and SQLite might run it",
        "drop it if you have added it yourself; else do not trust this file, which may be damaged: restore a backup",
    )


def fingerprint(objects: Iterable[_Object]) -> str:
    """A digest of a schema."""
    told = sorted(
        "\0".join((kind, name, table, _plain(sql)))
        for kind, name, table, sql in objects
        if not (kind in {"table", "index"} and (_is_made_by_libraries(name, sql) or _SHADOW.fullmatch(name)))
    )
    return hashlib.blake2b("\0\0".join(told).encode("utf-8", "replace"), digest_size=16).hexdigest()


def newest() -> list[_Object]:
    """The schema as the migrations make it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        for step in steps():
            step(cast("Database", _Bare(conn)))
        return list(_objects(conn))


@dataclass(frozen=True, slots=True)
class _Bare:
    """What migrations need of sqlite-utils, which takes 50 ms to import."""

    conn: sqlite3.Connection


@dataclass(frozen=True, slots=True)
class _Ours:
    objects: frozenset[_Object]
    names: frozenset[str]

    def has(self, found: _Object) -> bool:
        """Whether it is as one of the migrations left it."""
        kind, name, table, sql = found
        if kind in {"table", "index"} and _is_made_by_libraries(name, sql):
            return True
        if _SHADOW.fullmatch(name):
            return kind == "table" and _is_plain_table(sql)
        return (kind, name, table, _plain(sql)) in self.objects


def _ours() -> _Ours:
    """All objects of all released schemas: what a migration changes is ours before and after it."""
    objects: set[_Object] = set()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        for step in steps():
            step(cast("Database", _Bare(conn)))
            objects.update((kind, name, table, _plain(sql)) for kind, name, table, sql in _objects(conn))
    former = {(*rest, sql.replace(_LATER_CHECK, "")) for *rest, sql in objects}
    objects |= cast("set[_Object]", former)
    return _Ours(frozenset(objects), frozenset(name.lower() for _, name, _, _ in objects))


def _objects(conn: sqlite3.Connection) -> Iterator[_Object]:
    for row in conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"):
        kind, name, table, sql = (each if isinstance(each, str) else "" for each in row)
        # SQLite makes the indexes without SQL itself, for keys of tables that stand here too.
        if not (kind == "index" and row[3] is None):
            yield kind, name, table, sql


def _plain(sql: str) -> str:
    """The SQL without what depends on the version of SQLite: quotes and white space."""
    return _SPACE.sub(" ", _QUOTES.sub("", sql)).strip()


def _is_made_by_libraries(name: str, sql: str) -> bool:
    if _RECORD.fullmatch(name):
        return _is_plain_table(sql) or _INDEX.fullmatch(sql) is not None
    return name.startswith("sqlite_") and _SQLITES.match(sql) is not None


def _is_plain_table(sql: str) -> bool:
    return _TABLE.match(sql) is not None and not _COMPUTED.search(sql)


def _is_data(found: _Object, ours: _Ours) -> bool:
    kind, name, table, sql = found
    if name.lower() in ours.names or table.lower() in ours.names or name.startswith("sqlite_"):
        return False
    return _is_plain_table(sql) if kind == "table" else kind == "index" and _INDEX.fullmatch(sql) is not None

"""What must not come back: hashes of what was forgotten, keyed with a random key of the database.

Whoever reads the database learns nothing from them but their number. Without the key, which is in the same file, they
cannot be compared with a text either; with it a guess can be checked, so the file stays private.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterable

from memcli.store.db import _HASHES
from memcli.text import content_hash

KEY = "forget_key"
_KEY_BYTES, _DIGEST_BYTES = 32, 16
# A shorter text without a time may well be said again by someone else.
_LEAST_CHARACTERS = 80


class Tombstones:
    """The marks of what was forgotten. While nothing was, each question is answered without asking the database."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        row = conn.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).fetchone()
        self._key: bytes = row[0] if row else b""

    def __bool__(self) -> bool:
        """Whether anything was ever forgotten."""
        return bool(self._key)

    def make_key(self) -> None:
        """Give the database its key, if it has none, in the transaction of the connection."""
        if not self._key:
            self._key = secrets.token_bytes(_KEY_BYTES)
            self._conn.execute("INSERT INTO meta VALUES (?, ?)", (KEY, self._key))

    def message(self, identity: bytes) -> bytes:
        """The mark of a message, or of one of the transcript records it was put together from."""
        return self._mark("message", identity)

    def said(self, role: str, timestamp: str | None, text: str) -> bytes | None:
        """The mark of a text at its time, by whoever and wherever; None where it may be said again by chance."""
        if timestamp is None and len(text) < _LEAST_CHARACTERS:
            return None
        return self._mark("said", role.encode(), (timestamp or "").encode(), content_hash(text))

    def text(self, text: str) -> bytes:
        """The mark of a text, whenever it is said."""
        return self._mark("text", content_hash(text))

    def session(self, agent: str, key: str) -> bytes:
        """The mark of a session."""
        return self._mark("session", agent.encode("utf-8", "replace"), key.encode("utf-8", "replace"))

    def tag(self, tag: str) -> bytes:
        """The mark of an environment tag."""
        return self._mark("tag", tag.encode("utf-8", "replace"))

    def line(self, head: str) -> bytes:
        """The mark of a rejected line, by its redacted head."""
        return self._mark("line", head.encode("utf-8", "replace"))

    def known(self, marks: Iterable[bytes | None]) -> set[bytes]:
        """Those of the marks that are of something forgotten: one query for any number."""
        blob = b"".join(mark for mark in marks if mark is not None) if self else b""
        if not blob:
            return set()
        select = "SELECT f.digest FROM hashes JOIN forgotten AS f ON f.digest = hashes.hash"
        return {row[0] for row in self._conn.execute(_HASHES + select, {"hashes": blob})}

    def identities(self, identities: Iterable[bytes]) -> set[bytes]:
        """Those of the identities of messages and records that were forgotten."""
        if not self:
            return set()
        marks = {self.message(each): each for each in identities}
        return {marks[mark] for mark in self.known(marks)}

    def write(self, kind: str, marks: Iterable[bytes | None], run_id: int) -> int:
        """Store marks, in the transaction of the connection; how many are new."""
        before = self._conn.total_changes
        self._conn.executemany(
            "INSERT OR IGNORE INTO forgotten VALUES (?, ?, ?)",
            [(mark, kind, run_id) for mark in marks if mark is not None],
        )
        return self._conn.total_changes - before

    def _mark(self, kind: str, *parts: bytes) -> bytes:
        mark = hashlib.blake2b(key=self._key, digest_size=_DIGEST_BYTES, person=kind.encode())
        for part in parts:
            mark.update(len(part).to_bytes(8, "little"))
            mark.update(part)
        return mark.digest()

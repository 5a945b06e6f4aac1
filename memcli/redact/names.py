"""Credentials in what tells things apart: agents, sessions, ids of messages, paths. Two of them must stay two.

The placeholder carries a short hash of the credential, keyed with a random key of the database: so a name stays the
same from run to run, and whoever sees it in a report or an export cannot try out what a weak password may have been.
With the key, which is in the same file, a guess can be checked, as it can with a tombstone.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache

from memcli.redact import redact

_KEY_BYTES = 32
_MARK_BYTES = 6  # a doubt whether two of a million are one: 1 in 500
_REMEMBERED = 1 << 12


class Names:
    """Names as a database stores them. May be asked by several threads at once.

    Args:
        key: that of the database, None where it has none yet; then one is made.
        redacts: False leaves every name as it is.
    """

    def __init__(self, key: bytes | None = None, *, redacts: bool = True) -> None:
        self._made = None if key else secrets.token_bytes(_KEY_BYTES)
        self._key = key or self._made or b""
        self._redacts = redacts
        self._is_used = False
        self._remembered = lru_cache(_REMEMBERED)(lambda name: self.redact(name)[0])
        self._remembered_path = lru_cache(_REMEMBERED)(lambda path: self.of("/".join(map(self.of, path.split("/")))))

    @property
    def new_key(self) -> bytes | None:
        """The key that was made, once a name depends on it: the database must keep it."""
        return self._made if self._is_used else None

    def redact(self, name: str) -> tuple[str, dict[str, int]]:
        """A name without credentials, and how many there were by kind."""
        return redact(name, self._mark) if self._redacts else (name, {})

    def of(self, name: str) -> str:
        """A name without credentials. What was named so already stays as it is."""
        return self._remembered(name)

    def of_path(self, path: str) -> str:
        """A path without credentials: none goes on behind a slash, and folders are named alike in all that is below."""
        return self._remembered_path(path)

    def _mark(self, secret: str) -> str:
        self._is_used = True
        raw = secret.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._key, digest_size=_MARK_BYTES, person=b"name").hexdigest()

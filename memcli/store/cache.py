"""The query cache: what searches have found and embedded, shared by all processes that search the same file.

Least recently used entries make room. `used` is a clock that ticks with each use, and the entries are counted as they
come and go: what to evict is one look at an index, however many there are.

The file may be read-only, or locked by a run: then nothing is remembered, and no search waits or fails for it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from memcli.store.db import Store

Kind = Literal["answer", "embedding"]
_HASH_BYTES = 16  # before each value
KINDS: tuple[Kind, ...] = ("answer", "embedding")


@dataclass(frozen=True, slots=True)
class Limits:
    """How many entries of each kind are kept, and for how many seconds answers hold."""

    size: int
    ttl: float


@dataclass(slots=True)
class Uses:
    """What one search has used of the cache and what it has to add, by key."""

    hits: dict[bytes, None] = field(default_factory=dict)
    hit_count: int = 0
    miss_count: int = 0
    new: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How often the cache has helped since the database was made, and how full it is."""

    entries: int
    hits: int
    misses: int


def look_up(store: Store, kind: Kind, keys: Sequence[bytes], limits: Limits) -> dict[bytes, bytes]:
    """The values of those of the 16-byte keys that are in the cache and not too old. Embeddings never are."""
    oldest = time.time() - limits.ttl if kind == "answer" else 0.0
    found = store.by_hashes(
        "SELECT c.key, c.value, c.created_at FROM hashes AS h CROSS JOIN search_cache AS c"
        " ON c.kind = :kind AND c.key = h.hash",
        keys,
        kind=kind,
    )
    whole = {key: payload(key, value) for key, value, created in found if created > oldest}
    return {key: value for key, value in whole.items() if value is not None}


def payload(key: bytes, stored: object) -> bytes | None:
    """What was remembered under a key, None where that is not what is stored there: then it counts as forgotten."""
    if not isinstance(stored, bytes) or _hash(key, stored[_HASH_BYTES:]) != stored[:_HASH_BYTES]:
        return None
    return stored[_HASH_BYTES:]


def _hash(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=_HASH_BYTES).digest()


def remember(store: Store, uses: Mapping[Kind, Uses], limits: Limits) -> bool:
    """Count uses and add what is new, in one transaction; False where the database cannot be written right now."""
    try:
        with closing(store.writer(busy_ms=0)) as conn:
            conn.execute("BEGIN IMMEDIATE")
            for kind, use in uses.items():
                _remember(conn, kind, use, limits)
            conn.execute("COMMIT")
    except sqlite3.Error:
        return False
    return True


def _remember(conn: sqlite3.Connection, kind: Kind, use: Uses, limits: Limits) -> None:
    entries, clock = conn.execute("SELECT entries, clock FROM search_cache_use WHERE kind = ?", (kind,)).fetchone()
    for key in use.hits:
        clock += 1
        conn.execute("UPDATE search_cache SET used = ? WHERE kind = ? AND key = ?", (clock, kind, key))
    for key, value in use.new.items():
        clock += 1
        conn.execute("DELETE FROM search_cache WHERE kind = ? AND key = ?", (kind, key))
        entries -= conn.execute("SELECT changes()").fetchone()[0]
        stored = _hash(key, value) + value
        conn.execute("INSERT INTO search_cache VALUES (?, ?, ?, ?, ?)", (kind, key, stored, time.time(), clock))
        entries += 1
    while entries > limits.size:
        conn.execute(
            "DELETE FROM search_cache WHERE kind = ?1 AND key ="
            " (SELECT key FROM search_cache WHERE kind = ?1 ORDER BY used LIMIT 1)",
            (kind,),
        )
        entries -= 1
    conn.execute(
        "UPDATE search_cache_use SET entries = ?, clock = ?, hits = hits + ?, misses = misses + ? WHERE kind = ?",
        (entries, clock, use.hit_count, use.miss_count, kind),
    )


def cache_use(store: Store) -> dict[str, CacheUse]:
    """How the cache is used, by kind."""
    rows = store.conn.execute("SELECT kind, entries, hits, misses FROM search_cache_use ORDER BY kind")
    return {kind: CacheUse(entries, hits, misses) for kind, entries, hits, misses in rows}

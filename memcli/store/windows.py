"""Stored windows, for tiers that have not seen them yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from memcli.model import Part
from memcli.store.db import Store

_PAGE = 4096

Span = tuple[int, int, int]


@dataclass(slots=True)
class StoredWindow:
    """A window and what became of each (tier, version) that has seen it; `messages` is how many it holds.

    It begins at character `start` of the message `first`.
    """

    id: int
    session_id: int
    agent: str
    messages: int
    first: int
    start: int
    tiers: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownStatement:
    """What a tier has taken from a place in the messages before; `spans` are (message id, start, end), ascending."""

    tier: str
    type: str
    content_hash: bytes
    spans: tuple[Span, ...]


_COLUMNS = (
    "w.id, w.session_id, s.agent_id, w.messages_kept, json_extract(w.source_message_ids, '$[0]'),"
    " json_extract(w.source_spans, '$[0][0]')"
)


def stored_windows(store: Store) -> Iterator[StoredWindow]:
    """Yield all windows in order. What is written meanwhile may be missed, and does no harm."""
    last = 0
    while True:
        rows = store.conn.execute(
            f"SELECT {_COLUMNS}, t.tier, t.version, t.status"
            " FROM (SELECT * FROM windows WHERE id > ? ORDER BY id LIMIT ?) AS w"
            " JOIN sessions AS s ON s.id = w.session_id LEFT JOIN window_tiers AS t ON t.window_id = w.id"
            " ORDER BY w.id",
            (last, _PAGE),
        ).fetchall()
        page: dict[int, StoredWindow] = {}
        for *row, tier, version, status in rows:
            window = page.setdefault(row[0], StoredWindow(*row))
            if tier is not None:
                window.tiers[tier, version] = status
        if not page:
            return
        yield from page.values()
        last = max(page)


def open_tiers(store: Store, tiers: Sequence[str], most_attempts: int) -> dict[int, dict[tuple[str, str], int]]:
    """By window, the (tier, version) of `tiers` that have not done it yet, with the number of attempts so far.

    Those that have failed `most_attempts` times are given up.
    """
    found: dict[int, dict[tuple[str, str], int]] = defaultdict(dict)
    for tier in tiers:
        for window_id, version, attempts in store.conn.execute(
            "SELECT window_id, version, attempts FROM window_tiers WHERE tier = ? AND status IN ('failed', 'waiting')"
            " AND attempts < ?",
            (tier, most_attempts),
        ):
            found[window_id][tier, version] = attempts
    return dict(sorted(found.items()))


def windows_of(store: Store, ids: Sequence[int]) -> list[StoredWindow]:
    """The windows `ids`, in order, without what has seen them."""
    return [
        StoredWindow(*row)
        for row in store.by_ids(
            f"SELECT {_COLUMNS} FROM json_each(:ids) AS wanted"
            " JOIN windows AS w ON w.id = wanted.value JOIN sessions AS s ON s.id = w.session_id ORDER BY w.id",
            ids,
        )
    ]


def window_parts(store: Store, ids: Sequence[int]) -> dict[int, list[Part]]:
    """The parts of the windows `ids`, in order: one query for all."""
    parts: dict[int, list[Part]] = defaultdict(list)
    for window_id, message_id, role, text, start, speaker, timestamp in store.by_ids(
        "SELECT w.id, m.id, m.role, substr(m.text, json_extract(span.value, '$[0]') + 1,"
        " json_extract(span.value, '$[1]') - json_extract(span.value, '$[0]')), json_extract(span.value, '$[0]'),"
        " m.speaker, m.timestamp FROM json_each(:ids) AS wanted JOIN windows AS w ON w.id = wanted.value"
        " JOIN json_each(w.source_message_ids) AS source"
        " JOIN json_each(w.source_spans) AS span ON span.key = source.key"
        " JOIN messages AS m ON m.id = source.value ORDER BY w.id, source.key",
        ids,
    ):
        parts[window_id].append(Part(message_id, role, text, start, speaker, timestamp))
    return parts


def known_statements(store: Store, message_ids: Sequence[int]) -> set[KnownStatement]:
    """Every statement that was taken from the messages before."""
    spans: dict[tuple[int, str, str, bytes], list[Span]] = defaultdict(list)
    for memory_id, method, kind, content_hash, *span in store.by_ids(
        'SELECT m.id, m.extraction_method, m.type, m.content_hash, p.message_id, p.start, p."end"'
        " FROM json_each(:ids) AS wanted JOIN provenance AS p ON p.message_id = wanted.value"
        " JOIN memories AS m ON m.id = p.memory_id",
        message_ids,
    ):
        spans[memory_id, method.partition(":")[0], kind, content_hash].append((span[0], span[1], span[2]))
    return {
        KnownStatement(tier, kind, content_hash, tuple(sorted(found)))
        for (_, tier, kind, content_hash), found in spans.items()
    }

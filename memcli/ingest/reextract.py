"""Stored windows that a tier, or its present version, has not seen: a new rule or tier reaches old transcripts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from memcli.ingest.resolve import Extracted
from memcli.protocols import Tier
from memcli.store import windows as window_rows
from memcli.store.db import Store
from memcli.store.windows import KnownStatement, StoredWindow
from memcli.text import content_hash


@dataclass(frozen=True, slots=True)
class Undone:
    """A stored window with the tiers that it still lacks."""

    window: StoredWindow
    tiers: tuple[Tier, ...]


def undone(
    store: Store, lacking: Callable[[StoredWindow], tuple[Tier, ...]], batch_size: int
) -> Iterator[list[Undone]]:
    """Yield groups of windows that lack a tier, as `lacking` tells, of about `batch_size` messages each."""
    windows = (Undone(window, lacking(window)) for window in window_rows.stored_windows(store))
    return _grouped((each for each in windows if each.tiers), batch_size)


def failed(
    store: Store, tiers: Sequence[Tier], wanted: Mapping[int, Collection[tuple[str, str]]], batch_size: int
) -> Iterator[list[Undone]]:
    """Yield the windows that tiers have failed on, `wanted` by id with (tier, version), in groups as above.

    Whatever version has failed, it is the present one that tries again.
    """
    windows = window_rows.windows_of(store, list(wanted))
    names = {window_id: {name for name, _ in lacking} for window_id, lacking in wanted.items()}
    lacking = (Undone(each, tuple(tier for tier in tiers if tier.tier in names[each.id])) for each in windows)
    return _grouped(lacking, batch_size)


def _grouped(lacking: Iterable[Undone], batch_size: int) -> Iterator[list[Undone]]:
    group: list[Undone] = []
    messages = 0
    for each in lacking:
        group.append(each)
        messages += each.window.messages
        if messages >= batch_size:
            yield group
            group, messages = [], 0
    if group:
        yield group


def without_known(store: Store, extracted: Sequence[Extracted]) -> list[Extracted]:
    """Leave out what the same tier took from the same place before: its provenance would say nothing new."""
    known = window_rows.known_statements(store, _message_ids(extracted))
    return [each for each in extracted if _statement(each) not in known]


def _message_ids(extracted: Iterable[Extracted]) -> list[int]:
    return list({source.message_id: None for each in extracted for source in each.candidate.sources})


def _statement(extracted: Extracted) -> KnownStatement:
    candidate = extracted.candidate
    return KnownStatement(
        candidate.method.partition(":")[0],
        candidate.type,
        content_hash(candidate.content),
        tuple(sorted((source.message_id, source.start, source.end) for source in candidate.sources)),
    )

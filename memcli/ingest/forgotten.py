"""What was forgotten does not come back: texts and statements that are known by their marks only."""

from __future__ import annotations

from collections.abc import Sequence

from memcli.ingest.resolve import Extracted
from memcli.store.db import Store
from memcli.store.tombstones import Tombstones


def without_forgotten(store: Store, extracted: Sequence[Extracted]) -> list[Extracted]:
    """Leave out statements that the user has had forgotten as texts."""
    tombstones = Tombstones(store.conn)
    if not tombstones:
        return list(extracted)
    marks = [tombstones.text(each.candidate.content) for each in extracted]
    known = tombstones.known(marks)
    return [each for each, mark in zip(extracted, marks, strict=True) if mark not in known]

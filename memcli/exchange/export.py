"""A database as a stream of records, and the vectors of its texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from memcli.exchange.records import (
    FORMAT,
    VERSION,
    Member,
    Merge,
    Parted,
    Record,
    Source,
    SourceMessage,
    Star,
    Undecided,
    memory_type,
)
from memcli.store import exchange as rows
from memcli.store.db import Store
from memcli.store.exchange import MemberRow, MessageRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memcli.store.vectors import Vectors

PAGE = 512


@dataclass(frozen=True, slots=True)
class Header:
    """What an export holds: active memories and the messages that they were taken from."""

    model_id: str | None
    agent: str | None
    messages: int
    memories: int

    def to_json(self) -> dict[str, object]:
        """The first line of an export."""
        return {
            "memcli": FORMAT,
            "version": VERSION,
            "model_id": self.model_id,
            "agent": self.agent,
            "messages": self.messages,
            "memories": self.memories,
        }


def header(store: Store, agent: str | None) -> Header:
    """What an export of an agent (None: of all) holds."""
    memories, messages = rows.counts(store, agent)
    return Header(store.meta("model_id"), agent, messages, memories)


def messages(store: Store, agent: str | None) -> Iterator[SourceMessage]:
    """Yield the messages that the memories of an agent (None: of all) were taken from."""
    return map(_message, rows.source_messages(store, agent))


def stars(store: Store, agent: str | None) -> Iterator[Star]:
    """Yield the active memories of an agent (None: of all) with their duplicates, oldest first."""
    after = 0
    while page := rows.stars_after(store, after, PAGE, agent):
        after = page[-1]
        sources, tags = rows.member_sources(store, page), rows.member_tags(store, page)
        for _, members in groupby(rows.members(store, page), key=attrgetter("star")):
            yield Star(
                tuple(
                    _member(row, tuple(Source(*each) for each in sources[row.id]), tuple(tags[row.id]))
                    for row in members
                )
            )


def parted(store: Store, agent: str | None) -> Iterator[Parted]:
    """Yield the pairs that the user has parted."""
    for one, one_hash, other, other_hash, cosine, overlap, gates in rows.parted(store, agent):
        yield Parted((one, one_hash), (other, other_hash), cosine, overlap, tuple(json.loads(gates)))


def undecided(store: Store, agent: str | None) -> Iterator[Undecided]:
    """Yield the pairs of active memories that the user is still to decide."""
    for one, one_hash, other, other_hash, cosine, overlap, gates, differences in rows.undecided(store, agent):
        texts = (one, one_hash), (other, other_hash)
        yield Undecided(*texts, cosine, overlap, tuple(json.loads(gates)), json.loads(differences))


def records(store: Store, agent: str | None) -> Iterator[Record]:
    """Yield all of an export but its header.

    Decisions come first, as who imports them must know these before the memories; what is about memories comes last.
    """
    return chain(parted(store, agent), messages(store, agent), stars(store, agent), undecided(store, agent))


def documents(store: Store, agent: str | None) -> Iterator[dict[str, object]]:
    """Yield the lines of an export."""
    yield header(store, agent).to_json()
    yield from (record.to_json() for record in records(store, agent))


def vectors(store: Store, found: Vectors, agent: str | None) -> Iterator[tuple[bytes, NDArray[np.float32]]]:
    """Yield (content hash, vector float32 (dim,)) of the memories of an agent (None: of all) that have one."""
    after = 0
    while page := rows.embedded_texts(store, agent, after, PAGE):
        after = page[-1][0]
        stored = found.rows([memory_id for memory_id, _ in page])
        yield from ((content_hash, stored[memory_id]) for memory_id, content_hash in page if memory_id in stored)


def _message(row: MessageRow) -> SourceMessage:
    records = sorted(bytes.fromhex(each) for each in (row.records or "").split(",") if each)
    return SourceMessage(
        identity=row.identity,
        agent=row.agent,
        session=row.session,
        role=row.role,
        text=row.text,
        file=row.file,
        start=row.start,
        end=row.end,
        external_id=row.external_id,
        speaker=row.speaker,
        timestamp=row.timestamp,
        model=row.model,
        records=tuple(records),
    )


def _member(row: MemberRow, sources: tuple[Source, ...], tags: tuple[str, ...]) -> Member:
    merge = None
    if row.kind is not None:
        gates = tuple(json.loads(row.gates_passed or "[]"))
        merge = Merge(row.kind, row.cosine or 0.0, row.overlap or 0.0, gates)
    return Member(
        id=row.id,
        agent=row.agent,
        session=row.session,
        type=memory_type(row.type),
        content=row.content,
        importance=row.importance,
        method=row.method,
        sources=sources,
        keywords=tuple(json.loads(row.keywords)),
        tags=tags,
        timestamp=row.timestamp,
        created_at=row.created_at,
        embedded=bool(row.embedded),
        merge=merge,
    )

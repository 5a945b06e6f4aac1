"""What was forgotten does not come back with an import: neither messages nor memories taken from them, nor tags."""

from __future__ import annotations

from dataclasses import replace

from memcli.exchange.feed import ReadBatch
from memcli.exchange.place import identity_of
from memcli.exchange.records import Member, SourceMessage, Star
from memcli.store.db import Store
from memcli.store.tombstones import Tombstones


def drop_forgotten(store: Store, batch: ReadBatch, gone: set[bytes]) -> int:
    """Take out of a batch what was forgotten; how many memories, or messages where there are more, that was.

    `gone` collects the identities of the messages that were left out, in this batch and in those before it.
    """
    tombstones = Tombstones(store.conn)
    if not tombstones:
        return 0
    gone |= _messages(tombstones, batch.messages)
    members = [member for star in batch.stars for member in star.members]
    sources = {source.message for member in members for source in member.sources}
    gone |= tombstones.identities([*sources, *map(identity_of, members)])
    texts = tombstones.known({tombstones.text(member.content) for member in members})

    def is_gone(member: Member) -> bool:
        identities = {identity_of(member), *(source.message for source in member.sources)}
        return bool(identities & gone) or tombstones.text(member.content) in texts

    marks = {tag: tombstones.tag(tag) for member in members for tag in member.tags}
    tags = tombstones.known(marks.values())

    def kept(member: Member) -> Member:
        return replace(member, tags=tuple(tag for tag in member.tags if marks[tag] not in tags))

    stars, dropped = [], 0
    for star in batch.stars:
        left = tuple(kept(member) for member in star.members if not is_gone(member))
        dropped += len(star.members) - len(left)
        if left:
            stars.append(Star(left))
    messages = [message for message in batch.messages if message.identity not in gone]
    dropped = max(dropped, len(batch.messages) - len(messages))
    batch.stars, batch.messages = stars, messages
    return dropped


def _messages(tombstones: Tombstones, messages: list[SourceMessage]) -> set[bytes]:
    """The identities of the messages that were forgotten, under this identity or as what was said."""
    marks = {
        each.identity: (
            tombstones.message(each.identity),
            tombstones.said(each.role, each.timestamp, each.text),
            tombstones.text(each.text),
            *map(tombstones.message, each.records),
        )
        for each in messages
    }
    known = tombstones.known(mark for group in marks.values() for mark in group)
    return {identity for identity, group in marks.items() if known.intersection(group)}

"""What the tests of export and import share: the memories of a database without the numbers that are its own."""

import csv
import io
import json

from memcli.exchange import export
from memcli.store.db import Store


def stars(db):
    """The memories of a database with their duplicates, sources and tags, without ids; sorted."""
    with Store.open(db) as store:
        return sorted((tuple(_member(each) for each in star.members) for star in export.stars(store, None)), key=repr)


def _member(each):
    sources = tuple(sorted((source.message, source.start, source.end, source.kind) for source in each.sources))
    merge = each.merge and (each.merge.kind, each.merge.cosine, each.merge.overlap, each.merge.gates_passed)
    return (
        each.agent, each.session, each.type, each.content, each.importance, each.method, sources, each.keywords,
        each.tags, each.timestamp, each.created_at, merge,
    )  # fmt: skip


def messages(db):
    """The messages that memories come from, by identity."""
    with Store.open(db) as store:
        return {each.identity: each for each in export.messages(store, None)}


def undecided(db):
    """The pairs that are still to be decided, whichever side was first; sorted."""
    with Store.open(db) as store:
        pairs = export.undecided(store, None)
        found = [
            (*sorted((each.one, each.other)), each.cosine, each.overlap, each.gates_failed, each.differences)
            for each in pairs
        ]
        return sorted(found, key=repr)


def parsed(text, kind="memory"):
    """The lines of one kind of an export."""
    return [record for record in map(json.loads, text.splitlines()) if record.get("kind") == kind]


def cells(text):
    """The rows of a CSV as objects."""
    return list(csv.DictReader(io.StringIO(text)))

"""Environment tags, `kind:value`: their form, their sessions, and how much of a memory they cover. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping

MAX_LENGTH = 100


def valid_tag(tag: str) -> str | None:
    """Return `tag` without control characters and surrounding space, at most 100 characters long.

    None where it is not `kind:value` with something on both sides.
    """
    shown = tag if tag.isprintable() else "".join(mark for mark in tag if unicodedata.category(mark)[0] != "C")
    kind, colon, value = (part.strip() for part in shown.partition(":"))
    if not (kind and colon and value) or len(kind) > MAX_LENGTH - 2:
        return None
    return f"{kind}:{value}"[:MAX_LENGTH].rstrip()


def group_tags(items: Iterable[tuple[int, str]]) -> dict[int, set[str]]:
    """Tags by session, from pairs of session and tag."""
    grouped: dict[int, set[str]] = {}
    for session, tag in items:
        grouped.setdefault(session, set()).add(tag)
    return grouped


def relevance(member_sessions: Collection[int], sessions_by_tag: Mapping[str, Collection[int]]) -> dict[str, float]:
    """For each tag the share of a memory's source sessions that carry it: above 0, at most 1.

    Sessions that are none of the memory's do not count; a tag without any session left is not in the result. The
    order is that of `sessions_by_tag`.
    """
    members = frozenset(member_sessions)
    shares = {tag: len(members.intersection(sessions)) for tag, sessions in sessions_by_tag.items()}
    return {tag: count / len(members) for tag, count in shares.items() if count}

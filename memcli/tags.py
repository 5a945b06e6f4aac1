"""How much of a memory its environment tags (`kind:value`) cover. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def relevance(member_sessions: Collection[int], sessions_by_tag: Mapping[str, Collection[int]]) -> dict[str, float]:
    """For each tag the share of a memory's source sessions that carry it: above 0, at most 1.

    Sessions that are none of the memory's do not count; a tag without any session left is not in the result. The
    order is that of `sessions_by_tag`.
    """
    members = frozenset(member_sessions)
    shares = {tag: len(members.intersection(sessions)) for tag, sessions in sessions_by_tag.items()}
    return {tag: count / len(members) for tag, count in shares.items() if count}

"""Cutting kept parts into windows. Pure: what waits comes in, what is full and what still waits goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from memcli.config import Profile
from memcli.model import Part
from memcli.text import digest


@dataclass(frozen=True, slots=True)
class Cut:
    """Full windows as (session id, parts) in the order they filled up, and what goes on waiting.

    `windowed` are the sessions of which a window was cut: nothing that waited in them before waits on as it did.
    """

    closed: tuple[tuple[int, tuple[Part, ...]], ...]
    waiting: tuple[tuple[int, Part], ...]
    windowed: tuple[int, ...]


def cut_full(pending: Mapping[int, Sequence[Part]], fresh: Iterable[tuple[int, Part]], max_messages: int) -> Cut:
    """Add `fresh` (session id, part) to what waits in `pending` and cut every window that is full."""
    closed: list[tuple[int, tuple[Part, ...]]] = []
    waiting: dict[int, list[Part]] = {}
    windowed: dict[int, None] = {}
    added: dict[int, int] = {}
    for session_id, part in fresh:
        parts = waiting.get(session_id)
        if parts is None:
            parts = waiting[session_id] = list(pending.get(session_id, ()))
            added[session_id] = len(parts)
        parts.append(part)
        while len(parts) >= max_messages:
            closed.append((session_id, tuple(parts[:max_messages])))
            del parts[:max_messages]
            windowed[session_id] = None
            added[session_id] = 0
    return Cut(
        tuple(closed),
        tuple((session_id, part) for session_id, parts in waiting.items() for part in parts[added[session_id] :]),
        tuple(windowed),
    )


def cut_all(session_id: int, parts: Sequence[Part], max_messages: int) -> list[tuple[int, tuple[Part, ...]]]:
    """Cut everything that waits in a session, the last window as short as it comes."""
    return [(session_id, tuple(parts[first : first + max_messages])) for first in range(0, len(parts), max_messages)]


def is_due(parts: int, newest: str | None, profile: Profile, now: datetime) -> bool:
    """Whether a partial window closes once all input is read.

    It does when it has the profile's minimum of messages and its session has been quiet for the profile's timeout,
    counted from its newest message (`newest`, ISO 8601; None counts as long ago).
    """
    if parts < profile.min_messages:
        return False
    if newest is None or profile.timeout_minutes <= 0:
        return True
    return now - datetime.fromisoformat(newest).astimezone(UTC) >= timedelta(minutes=profile.timeout_minutes)


def is_sampled(agent: str, session_id: int, first: tuple[int, int], rate: float) -> bool:
    """Whether the extraction rate lets a window through: always the same answer for the same window.

    `first` is where it begins: message id and character.
    """
    drawn = digest("rate", agent, str(session_id), str(first[0]), str(first[1]))
    return int.from_bytes(drawn[:8], "big") < rate * 2**64

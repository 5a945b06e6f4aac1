"""The frozen dataclasses that travel between the stages. No behaviour beyond what a value knows of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["user", "assistant", "system", "tool"]
Origin = Literal["typed", "tool_result", "injected"]
MemoryType = Literal["semantic", "episodic", "procedural"]
Decision = Literal["new", "exact", "near", "review"]

ROLES: tuple[Role, ...] = ("user", "assistant", "system", "tool")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a transcript has been consumed: `offset` bytes and `line` lines."""

    offset: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line: bytes `start` to `end` of the file (`end` is behind the newline), numbered from 1."""

    start: int
    end: int
    number: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One of the transcript records a message is put together from: its id, the text it contributes, and its time."""

    id: str
    text: str
    timestamp: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn as a reader found it, before redaction.

    `key` is the format's own id, None where the format has none. `records` are what the message was put together
    from, where the format's ids are unique among all sessions (Claude Code writes one message as several lines, and
    copies lines into other sessions); else empty. `start` and `end` are its byte span in the file, `line` the number of
    its last line. `timestamp` is UTC, ISO 8601 with milliseconds and Z. Where a line holds a whole conversation, `more`
    says that it holds more items behind this one: reading may go on at `start` then, but not yet at `end`.
    """

    session_key: str
    key: str | None
    role: Role
    text: str
    start: int
    end: int
    line: int
    timestamp: str | None = None
    origin: Origin = "typed"
    agent: str | None = None
    speaker: str | None = None
    model: str | None = None
    tags: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that is no message. It is counted by `kind`; what it tells of its session arrives as `tags`."""

    kind: str
    end: int
    line: int
    session_key: str | None = None
    agent: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that could not be read: why, and its first bytes (not yet redacted)."""

    start: int
    end: int
    line: int
    reason: str
    head: bytes


Item = Message | Skipped | Rejected


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a stored message that a window covers; `start` is where `text` begins in the stored text."""

    message_id: int
    role: str
    text: str
    start: int = 0
    speaker: str | None = None
    timestamp: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive parts of one session, the unit of extraction."""

    id: int
    session_id: int
    agent: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Characters `start` to `end` of the stored text of one message."""

    message_id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A statement that an extractor took from a window; it becomes a memory, whatever dedup says of it."""

    content: str
    type: MemoryType
    importance: float
    method: str
    sources: tuple[Provenance, ...]
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one tier made of one window, and what it cost."""

    candidates: tuple[Candidate, ...]
    tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model's answer about one window comes to.

    `links` are pairs of places in `candidates`; `rejected` is the number of statements that were not taken, by reason.
    """

    candidates: tuple[Candidate, ...]
    links: tuple[tuple[int, int], ...] = ()
    rejected: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call of a model that a dry run leaves out: `messages` in its window, `at` the time of the newest of them."""

    tier: str
    model: str
    agent: str
    messages: int
    at: str | None
    system: str
    user: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """The evidence about two texts: names of the gates passed and failed, and what differed, by gate."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]
    overlap: float
    differences: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """A merge: `loser` goes into `winner`, with the evidence."""

    loser: int
    winner: int
    kind: str
    cosine: float
    overlap: float
    gates_passed: tuple[str, ...]


def as_cosine(product: float) -> float:
    """The cosine that a product of two stored vectors stands for: compressed ones are not quite of unit length."""
    return max(-1.0, min(1.0, product))


@dataclass(frozen=True, slots=True)
class Known:
    """A stored memory as dedup sees it.

    `link` is its live merge link, None for an active memory.
    """

    id: int
    agent: str
    type: str
    method: str
    content: str
    content_hash: bytes
    embedded: bool
    link: Link | None


@dataclass(frozen=True, slots=True)
class NewReview:
    """A pair above the threshold whose evidence failed."""

    memory: int
    other: int
    cosine: float
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the user decided of two texts, for good: they are the same fact (`accepted`), or they are not.

    Each side is (memory id, agent, content hash). It holds for the texts within their agents, and where both texts are
    one, for these two memories.
    """

    one: tuple[int, str, bytes]
    other: tuple[int, str, bytes]
    accepted: bool


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where a file has been read, and what proves that it is still that file.

    `size` is -1 while a part of the file that was there has not been read yet. `head_hash` covers the first 4 KB and
    `tail_hash` the last 4 KB before the offset (less where the offset is smaller).
    """

    file_id: int
    path: str
    format: str
    inode: int | None = None
    size: int = -1
    mtime_ns: int = 0
    position: Position = Position()
    head_hash: bytes = b""
    tail_hash: bytes = b""
    state: dict[str, str] = field(default_factory=dict)

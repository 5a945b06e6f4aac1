"""What an export is made of: source messages and stars of memories, and how they are written as JSON objects.

The format, version 1, is JSON Lines. The first line is a header: {"memcli": "export", "version": 1, "model_id": ...,
"messages": n, "memories": n}. Then come the pairs that the user has parted ({"kind": "parted", ...}), all messages that
the memories were taken from ({"kind": "message", ...}), the active memories, each with the duplicates that went into it
({"kind": "memory", ...}), and the pairs of them that nobody has decided ({"kind": "review", ...}). Ids of memories are
those of the exporting database and mean something within the file only; ids of messages are their identities, the same
in every database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from memcli.dedup.judge import VERBATIM
from memcli.model import ROLES, MemoryType, as_cosine
from memcli.readers.fields import normalise_timestamp
from memcli.tags import relevance
from memcli.text import normalise

FORMAT, VERSION = "export", 1
MESSAGE, MEMORY, PARTED, REVIEW = "message", "memory", "parted", "review"
TYPES: tuple[MemoryType, ...] = ("semantic", "episodic", "procedural")
_HASH_BYTES = 16
# How far above 1 a cosine of an older database may lie: vectors compressed to int8 are not quite of unit length.
_COSINE_SLACK = 0.05

_T = TypeVar("_T")
_D = TypeVar("_D")


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """A message that memories were taken from; `records` are the identities of the transcript records in it."""

    identity: bytes
    agent: str
    session: str
    role: str
    text: str
    file: str
    start: int
    end: int
    external_id: str | None = None
    speaker: str | None = None
    timestamp: str | None = None
    model: str | None = None
    records: tuple[bytes, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The message as a line of an export."""
        document = {
            "kind": MESSAGE,
            "id": self.identity.hex(),
            "agent": self.agent,
            "session": self.session,
            "role": self.role,
            "text": self.text,
            "file": self.file,
            "start": self.start,
            "end": self.end,
        }
        optional = {name: getattr(self, name) for name in ("external_id", "speaker", "timestamp", "model")}
        document |= {name: value for name, value in optional.items() if value is not None}
        return document | ({"records": [each.hex() for each in self.records]} if self.records else {})


@dataclass(frozen=True, slots=True)
class Source:
    """Characters `start` to `end` of the text of a message; `kind` is message or import."""

    message: bytes
    start: int
    end: int
    kind: str = "message"


@dataclass(frozen=True, slots=True)
class Merge:
    """Why a memory is a duplicate of its star's first one."""

    kind: str
    cosine: float
    overlap: float
    gates_passed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A memory as it was stored. `id` is of the exporting database; `merge` is None for the first of a star."""

    id: int
    agent: str
    session: str
    type: MemoryType
    content: str
    importance: float
    method: str
    sources: tuple[Source, ...]
    keywords: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    timestamp: str | None = None
    created_at: str | None = None
    embedded: bool = True
    merge: Merge | None = None


@dataclass(frozen=True, slots=True)
class Star:
    """An active memory, the first of `members`, and the duplicates that went into it."""

    members: tuple[Member, ...]

    @property
    def importance(self) -> float:
        """The highest of its members."""
        return max(member.importance for member in self.members)

    @property
    def mentions(self) -> int:
        """How many messages say it."""
        return len({source.message for member in self.members for source in member.sources})

    @property
    def keywords(self) -> list[str]:
        """Those of all members, in their order."""
        return list(dict.fromkeys(word for member in self.members for word in member.keywords))

    def tags(self) -> dict[str, float]:
        """The environment tags of its sessions, each with its relevance."""
        sessions = {(member.agent, member.session): number for number, member in enumerate(self.members)}
        carried: dict[str, set[int]] = {}
        for member in self.members:
            for tag in member.tags:
                carried.setdefault(tag, set()).add(sessions[member.agent, member.session])
        return relevance(sessions.values(), {tag: carried[tag] for tag in sorted(carried)})

    def to_json(self) -> dict[str, object]:
        """The star as a line of an export: what it adds up to, then its members as they are stored."""
        first = self.members[0]
        return {
            "kind": MEMORY,
            "id": first.id,
            "agent": first.agent,
            "type": first.type,
            "content": first.content,
            "importance": self.importance,
            "mentions": self.mentions,
            "keywords": self.keywords,
            "tags": self.tags(),
            "members": [_member_json(member, first) for member in self.members],
        }


@dataclass(frozen=True, slots=True)
class Parted:
    """Two texts of agents, (agent, content hash) each, that the user has said are not the same, and the evidence."""

    one: tuple[str, bytes]
    other: tuple[str, bytes]
    cosine: float
    overlap: float
    gates_failed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The pair as a line of an export."""
        return {
            "kind": PARTED,
            "texts": [[agent, content_hash.hex()] for agent, content_hash in (self.one, self.other)],
            "cosine": self.cosine,
            "overlap": self.overlap,
            "gates_failed": list(self.gates_failed),
        }


@dataclass(frozen=True, slots=True)
class Undecided:
    """Two texts of agents, as in Parted, that the user is still to decide; `differences` are in words, by gate."""

    one: tuple[str, bytes]
    other: tuple[str, bytes]
    cosine: float
    overlap: float
    gates_failed: tuple[str, ...]
    differences: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        """The pair as a line of an export."""
        pair = Parted(self.one, self.other, self.cosine, self.overlap, self.gates_failed).to_json()
        return pair | {"kind": REVIEW, "differences": dict(self.differences)}


Record = SourceMessage | Star | Parted | Undecided


def _member_json(member: Member, first: Member) -> dict[str, object]:
    own = {name: getattr(member, name) for name in ("agent", "type", "content")}
    document: dict[str, object] = {"id": member.id, "session": member.session}
    document |= {name: value for name, value in own.items() if value != getattr(first, name)}
    document |= {"importance": member.importance, "method": member.method, "embedded": member.embedded}
    lists = {"keywords": list(member.keywords), "tags": list(member.tags)}
    times = {"timestamp": member.timestamp, "created_at": member.created_at}
    document |= {name: value for name, value in (lists | times).items() if value}
    document["sources"] = [_source_json(source) for source in member.sources]
    if member.merge is not None:
        document["merge"] = {
            "kind": member.merge.kind,
            "cosine": member.merge.cosine,
            "overlap": member.merge.overlap,
            "gates_passed": list(member.merge.gates_passed),
        }
    return document


def _source_json(source: Source) -> dict[str, object]:
    document: dict[str, object] = {"message": source.message.hex(), "start": source.start, "end": source.end}
    return document | ({} if source.kind == "message" else {"provenance": source.kind})


# --- reading ---------------------------------------------------------------------------------------------------------


def parse_message(record: Mapping[str, object]) -> SourceMessage:
    """A line of an export as a message.

    Raises:
        ValueError: it is none; says which field is wrong.
    """
    return SourceMessage(
        identity=_hash(record, "id"),
        agent=_name(record, "agent"),
        session=_name(record, "session"),
        role=role(_get(record, "role", str)),
        text=_get(record, "text", str),
        file=_get(record, "file", str),
        start=_count(record, "start"),
        end=_count(record, "end"),
        external_id=_optional(record, "external_id", str, None),
        speaker=_optional(record, "speaker", str, None),
        timestamp=moment_of(record, "timestamp"),
        model=_optional(record, "model", str, None),
        records=tuple(_bytes(each, "records") for each in _optional(record, "records", list, [])),
    )


def parse_star(record: Mapping[str, object]) -> Star:
    """A line of an export as a star.

    Raises:
        ValueError: it is none; says which field is wrong.
    """
    members: list[Member] = []
    for document in _objects(record, "members"):
        members.append(_member(document, record, is_first=not members))
    if not members:
        raise ValueError("members is empty")
    first = members[0]
    if first.method == VERBATIM and any(
        each.method != VERBATIM and normalise(each.content) == normalise(first.content) for each in members
    ):
        raise ValueError("a verbatim memory has won over one of a rule or a model with its text")
    return Star(tuple(members))


def parse_parted(record: Mapping[str, object]) -> Parted:
    """A line of an export as a pair that the user has parted.

    Raises:
        ValueError: it is none.
    """
    texts = _get(record, "texts", list)
    if len(texts) != 2 or not all(  # noqa: PLR2004 - a pair
        isinstance(each, list) and len(each) == 2 and isinstance(each[0], str) and each[0]  # noqa: PLR2004 - agent and hash
        for each in texts
    ):
        raise ValueError("texts is no pair of agents and hashes")
    one, other = ((agent, _bytes(found, "texts")) for agent, found in texts)
    gates = tuple(str(each) for each in _optional(record, "gates_failed", list, []))
    return Parted(one, other, cosine(record), share(record, "overlap"), gates)


def parse_undecided(record: Mapping[str, object]) -> Undecided:
    """A line of an export as a pair that the user is still to decide.

    Raises:
        ValueError: it is none.
    """
    pair = parse_parted(record)
    told: Mapping[str, object] = _optional(record, "differences", dict, {})
    differences = {gate: str(said) for gate, said in told.items()}
    return Undecided(pair.one, pair.other, pair.cosine, pair.overlap, pair.gates_failed, differences)


def _member(document: Mapping[str, object], star: Mapping[str, object], *, is_first: bool) -> Member:
    whole = {name: star[name] for name in ("agent", "type", "content") if name in star} | dict(document)
    content = _get(whole, "content", str)
    if not content.strip():
        raise ValueError("content is empty")
    merge = None
    if not is_first:
        evidence = _object(document, "merge")
        kind = _get(evidence, "kind", str)
        if kind not in {"exact", "near"}:
            raise ValueError("merge.kind is neither exact nor near")
        gates = tuple(str(each) for each in _optional(evidence, "gates_passed", list, []))
        merge = Merge(kind, cosine(evidence), share(evidence, "overlap"), gates)
    return Member(
        id=_count(document, "id"),
        agent=_name(whole, "agent"),
        session=_name(whole, "session"),
        type=memory_type(_get(whole, "type", str)),
        content=content,
        importance=share(document, "importance"),
        method=_get(document, "method", str),
        sources=tuple(_source(each) for each in _objects(document, "sources")),
        keywords=words(document, "keywords"),
        tags=words(document, "tags"),
        timestamp=moment_of(document, "timestamp"),
        created_at=moment_of(document, "created_at"),
        embedded=document.get("embedded") is not False,
        merge=merge,
    )


def _source(document: Mapping[str, object]) -> Source:
    start, end = _count(document, "start"), _count(document, "end")
    if end < start:
        raise ValueError("a source ends before it starts")
    kind = _optional(document, "provenance", str, "message")
    return Source(_hash(document, "message"), start, end, "import" if kind == "import" else "message")


def memory_type(value: str) -> MemoryType:
    """A memory type.

    Raises:
        ValueError: there is no such type.
    """
    for known in TYPES:
        if value == known:
            return known
    raise ValueError(f"type is none of {', '.join(TYPES)}")


def role(value: str) -> str:
    """A role.

    Raises:
        ValueError: there is no such role.
    """
    if value not in ROLES:
        raise ValueError(f"role is none of {', '.join(ROLES)}")
    return value


def moment_of(record: Mapping[str, object], name: str) -> str | None:
    """A time as messages have it, None where there is none.

    Raises:
        ValueError: it is no time.
    """
    value = record.get(name)
    moment = normalise_timestamp(value)
    if moment is None and value is not None:
        raise ValueError(f"{name} is no time")
    return moment


def share(record: Mapping[str, object], name: str) -> float:
    """A number from 0 to 1.

    Raises:
        ValueError: it is none.
    """
    return _number(record, name, 0, 1)


def cosine(record: Mapping[str, object]) -> float:
    """The cosine of two stored vectors.

    Raises:
        ValueError: it is none.
    """
    return as_cosine(_number(record, "cosine", -1, 1, _COSINE_SLACK))


def _number(record: Mapping[str, object], name: str, least: int, most: int, slack: float = 1e-6) -> float:
    # Shares are rounded.
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least - slack <= value <= most + slack:
        raise ValueError(f"{name} is no number from {least} to {most}")
    return float(value)


def words(record: Mapping[str, object], name: str) -> tuple[str, ...]:
    """A list of strings, none twice; absent it is empty.

    Raises:
        ValueError: it is none.
    """
    value = record.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} is no list of strings")
    return tuple(dict.fromkeys(each for each in value if each))


def _get(record: Mapping[str, object], name: str, kind: type[_T]) -> _T:
    if name not in record:
        raise ValueError(f"{name} is missing")
    value = record[name]
    if isinstance(value, kind):
        return value
    raise ValueError(f"{name} is of the wrong type")


def _name(record: Mapping[str, object], name: str) -> str:
    value = _get(record, name, str)
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return value


def _optional(record: Mapping[str, object], name: str, kind: type[_T], default: _D) -> _T | _D:
    return default if record.get(name) is None else _get(record, name, kind)


def _count(record: Mapping[str, object], name: str) -> int:
    value = _get(record, name, int)
    if isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"{name} is no count")
    return value


def _objects(record: Mapping[str, object], name: str) -> Sequence[Mapping[str, object]]:
    value: list[object] = _get(record, name, list)
    found = [each for each in value if isinstance(each, dict)]
    if len(found) != len(value):
        raise ValueError(f"{name} is no list of objects")
    return found


def _object(record: Mapping[str, object], name: str) -> Mapping[str, object]:
    value: Mapping[str, object] = _get(record, name, dict)
    return value


def _hash(record: Mapping[str, object], name: str) -> bytes:
    return _bytes(_get(record, name, str), name)


def _bytes(value: object, name: str) -> bytes:
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        found = b""
    if len(found) != _HASH_BYTES:
        raise ValueError(f"{name} is no hash of {2 * _HASH_BYTES} hex digits")
    return found

"""Lines that some other program wrote, {"id", "content", "metadata", "importance"}, as messages and memories.

Such a line is its own source: it becomes a message, of which its memories are the pieces, and their provenance is of
kind `import`. What `metadata` says beyond what memcli knows becomes environment tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from memcli.exchange.records import Member, Source, SourceMessage, Star, memory_type, moment_of, role, share, words
from memcli.redact import Redactor, redact
from memcli.text import content_hash, digest, pieces

METHOD = "import"
SESSION = "import"
_DEFAULT_IMPORTANCE = 0.5
_TEXTS = ("content", "text", "memory")
_FIELDS = {
    "agent": ("agent", "agent_id"),
    "session": ("session", "session_id"),
    "timestamp": ("timestamp", "created_at"),
    "type": ("type",),
    "role": ("role",),
    "speaker": ("speaker",),
    "importance": ("importance",),
    "keywords": ("keywords",),
    "tags": ("tags",),
}
_KNOWN = frozenset(name for names in _FIELDS.values() for name in names)


def parse_plain(
    record: Mapping[str, object], file: str, span: tuple[int, int], agent: str | None, redactor: Redactor = redact
) -> tuple[SourceMessage, list[Star], dict[str, int]]:
    """A line as the message and the memories that it becomes, and what was redacted in it, by kind.

    Args:
        record: the line.
        file: the path it was read from.
        span: the bytes that it takes there.
        agent: whose memory it is, where the user said so; else the line's own word counts, else "default".
        redactor: replaces credentials.

    Raises:
        ValueError: it cannot become a memory; says why.
    """
    content = next((record[name] for name in _TEXTS if name in record), None)
    if not isinstance(content, str) or not content.strip():
        raise ValueError("content is missing or empty" if content is None or content == "" else "content is no text")
    metadata = record.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError("metadata is no object")
    fields = _fields(record, metadata or {})
    tags = tuple(sorted({redactor(tag)[0] for tag in _tags(fields, metadata or {})}))
    text, redacted = redactor(content.strip())
    owner = agent or _text(fields, "agent") or "default"
    # Tags belong to sessions: lines without one share a session with those that have the same tags.
    session = _text(fields, "session") or (f"{SESSION}:{digest(*tags).hex()[:8]}" if tags else SESSION)
    kind = memory_type(_text(fields, "type") or "semantic")
    own_id = _id(record.get("id"))
    moment = moment_of(fields, "timestamp")
    message = SourceMessage(
        identity=digest("import", owner, session, own_id or "", kind, content_hash(text).hex()),
        agent=owner,
        session=session,
        role=role(_text(fields, "role") or "user"),
        text=text,
        file=file,
        start=span[0],
        end=span[1],
        external_id=own_id,
        speaker=_text(fields, "speaker"),
        timestamp=moment,
    )
    member = Member(
        id=0,
        agent=owner,
        session=session,
        type=kind,
        content=text,
        importance=share(fields, "importance") if fields.get("importance") is not None else _DEFAULT_IMPORTANCE,
        method=METHOD,
        sources=(),
        keywords=words(fields, "keywords"),
        tags=tags,
        timestamp=moment,
    )
    return message, [_piece(member, message.identity, start, end) for start, end in pieces(text)], redacted


def _piece(whole: Member, message: bytes, start: int, end: int) -> Star:
    """A stretch of a text as a memory of its own."""
    return Star((replace(whole, content=whole.content[start:end], sources=(Source(message, start, end, "import"),)),))


def _fields(record: Mapping[str, object], metadata: Mapping[str, object]) -> dict[str, object]:
    """What the line says of itself; its own fields count before those of its metadata."""
    both = (record, metadata)
    return {
        field: next((where[name] for where in both for name in names if where.get(name) is not None), None)
        for field, names in _FIELDS.items()
    }


def _tags(fields: Mapping[str, object], metadata: Mapping[str, object]) -> Iterator[str]:
    tags = fields.get("tags")
    # An export of memcli has tags with their relevance.
    own = words({"tags": list(tags) if isinstance(tags, dict) else tags}, "tags")
    more = (f"{key}:{value}" for key, value in _scalars("", metadata) if key not in _KNOWN)
    yield from (*own, *more)


def _scalars(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield what is told by an object as (path, text); a list counts as several values of one name."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _scalars(f"{prefix}.{key}" if prefix else str(key), part)
    elif isinstance(value, list):
        for part in value:
            yield from _scalars(prefix, part)
    elif value is not None and value != "":
        yield prefix, str(value).lower() if isinstance(value, bool) else str(value)


def _text(fields: Mapping[str, object], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value or None


def _id(value: object) -> str | None:
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
        return None if value is None else str(value)
    raise ValueError("id is neither a text nor a number")

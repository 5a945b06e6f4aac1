"""Which of the messages read are new, and what of them is kept: identity, redaction, noise filter.

Identity is computed from the text as read, before redaction; everything later sees the redacted text only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from memcli.config import FilterLevel
from memcli.filters import (
    BEFORE_SINCE,
    CONFIRMATION,
    GREETING,
    INJECTED,
    ROLE,
    SYSTEM_PROMPT,
    TOO_SHORT,
    FilterRules,
    recall_lines,
    screen,
    strip_recalled,
)
from memcli.ingest.feed import Incoming, ReadBatch
from memcli.ingest.restated import told_lines
from memcli.model import Part
from memcli.redact import redact, untouched
from memcli.redact.names import Names
from memcli.redact.seams import redact_pieces
from memcli.store import memories as memory_rows
from memcli.store import messages as message_rows
from memcli.store.db import Store
from memcli.store.messages import NewMessage
from memcli.store.tombstones import Tombstones
from memcli.text import clean, content_hash, digest

SEPARATOR = "\n\n"
FORGOTTEN = "forgotten"
# Messages dropped for these reasons keep their text: people wrote it and it is short. What machines put into a
# transcript (tool results, injected blocks, system prompts) is large, and stays where it is: in the transcript.
_TEXT_IS_KEPT = frozenset({TOO_SHORT, GREETING, CONFIRMATION})


@dataclass(frozen=True, slots=True)
class Intake:
    """What is taken in: roles, the earliest time (ISO 8601 as messages have it), and the profile's noise filter.

    `told` asks for what system prompts and boot files say, for models that say it again. `redact` False takes
    credentials in as they are; `names` are those that the database has.
    """

    roles: frozenset[str]
    min_chars: int
    filters: FilterLevel
    since: str | None = None
    told: bool = False
    redact: bool = True
    names: Names = field(default_factory=Names)


@dataclass(slots=True)
class Identified:
    """What a batch adds to the messages: rows to insert, texts that grew, identities, sessions, and the kept parts."""

    new: list[NewMessage] = field(default_factory=list)
    grown: dict[int, str] = field(default_factory=dict)
    records: list[tuple[bytes, int]] = field(default_factory=list)
    counts: dict[tuple[int, bytes], int] = field(default_factory=dict)
    sessions: dict[int, tuple[str, str]] = field(default_factory=dict)
    new_sessions: list[tuple[int, str, str]] = field(default_factory=list)
    new_tags: list[tuple[int, str]] = field(default_factory=list)
    tags: dict[int, set[str]] = field(default_factory=dict)
    parts: list[tuple[int, Part]] = field(default_factory=list)
    message_ids: list[int] = field(default_factory=list)
    duplicate: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    told: set[tuple[str, bytes]] = field(default_factory=set)


@dataclass(slots=True)
class _Fresh:
    """Text that is stored for the first time: of a new message, or added to a known one (`row` None: stored).

    `agent` is named as the database has it. `pieces` are the texts of the records, of which `text` is made.
    """

    incoming: Incoming
    agent: str
    session_id: int
    message_id: int
    row: NewMessage | None
    text: str
    pieces: list[str]
    reason: str | None = None
    recall: list[tuple[int, int, str]] = field(default_factory=list)


def identify(store: Store, batch: ReadBatch, intake: Intake) -> Identified:
    """Find the new messages of a batch and decide what of them is kept. Reads the database, writes nothing."""
    result = Identified()
    tombstones = Tombstones(store.conn)
    sessions = _sessions(store, batch, result, tombstones, intake)
    fresh = _fresh(store, batch, sessions, result, tombstones)
    rules = FilterRules(intake.min_chars, intake.filters)
    stored = message_rows.texts(store, [each.message_id for each in fresh if each.row is None])
    said = dict(stored)
    for each in fresh:
        _screen(each, intake, rules, said, result)
    _drop_known(store, fresh, intake, result)
    if tombstones:
        fresh = _without_forgotten(tombstones, fresh, result)
        _drop_forgotten_sessions(tombstones, result)
    if intake.told:
        result.told.update((each.agent, line) for each in fresh for line in _told(each))
    _place(stored, fresh, result)
    return result


def _sessions(
    store: Store, batch: ReadBatch, result: Identified, tombstones: Tombstones, intake: Intake
) -> dict[tuple[str, str], int]:
    """Ids of all sessions of the batch, new ones included, and their environment tags."""
    tags: dict[tuple[str, str], set[str]] = {}
    for incoming in batch.messages:
        tags.setdefault((incoming.agent, incoming.message.session_key), set()).update(incoming.message.tags)
    for agent, session_key, more in batch.tags:
        tags.setdefault((agent, session_key), set()).update(more)
    names, redactor = intake.names, redact if intake.redact else untouched
    stored = {key: (names.of(clean(key[0])), names.of(clean(key[1]))) for key in tags}
    ids = message_rows.session_ids(store, list(dict.fromkeys(stored.values())))
    known_tags = message_rows.session_tags(store, list(ids.values()))
    next_id = store.next_id("sessions")
    for read, key in stored.items():
        if key not in ids:
            ids[key] = next_id + len(result.new_sessions)
            result.new_sessions.append((ids[key], *key))
            for name in read:
                result.redacted.update(names.redact(clean(name))[1])
    for key, found in tags.items():
        session_id = ids[stored[key]]
        result.sessions[session_id] = stored[key]
        session = result.tags.setdefault(session_id, set(known_tags.get(session_id, ())))
        grown = {redactor(clean(tag))[0] for tag in found} - session
        session |= grown
        result.new_tags.extend((session_id, tag) for tag in sorted(grown))
    if tombstones:
        marks = {tag: tombstones.tag(tag) for tag in {tag for _, tag in result.new_tags}}
        gone = tombstones.known(marks.values())
        result.new_tags = [(session_id, tag) for session_id, tag in result.new_tags if marks[tag] not in gone]
        for session in result.tags.values():
            session -= {tag for tag, mark in marks.items() if mark in gone}
    return {key: ids[value] for key, value in stored.items()}


def _identities(
    store: Store, batch: ReadBatch, result: Identified
) -> tuple[list[bytes], dict[bytes, tuple[int, bytes]]]:
    """The identity of every message: (agent, session key, message key), a message without id by its occurrence.

    And for each of the latter what counts its occurrences.
    """
    digests = []
    nameless = []
    for incoming in batch.messages:
        message = incoming.message
        if message.key is not None:
            digests.append(digest(incoming.agent, message.session_key, message.key))
            continue
        found = digest(incoming.agent, message.session_key, message.role, message.timestamp or "", message.text)
        digests.append(found)
        nameless.append(found)
    numbered: dict[bytes, tuple[int, bytes]] = {}
    if not nameless:
        return digests, numbered
    counts = message_rows.occurrences(store, dict.fromkeys(nameless))
    for place, incoming in enumerate(batch.messages):
        if incoming.message.key is None:
            seen = (incoming.file_id, digests[place])
            before = 0 if incoming.file_id in batch.restarted else counts.get(seen, 0)
            number = result.counts.get(seen, before) + 1
            result.counts[seen] = number
            digests[place] = digest(digests[place].hex(), str(number))
            numbered[digests[place]] = seen
    return digests, numbered


@dataclass(frozen=True, slots=True)
class _Record:
    """A transcript record: its identity, and what is equal for its copies in other sessions (a resume copies them)."""

    identity: bytes
    copy: bytes
    text: str

    def is_in(self, seen: set[bytes]) -> bool:
        return self.identity in seen or self.copy in seen


def _records(incoming: Incoming) -> list[_Record]:
    agent, message = incoming.agent, incoming.message
    return [
        _Record(
            digest(agent, message.session_key, "record", record.id),
            digest(agent, "copy", record.id, message.role, record.timestamp or "", record.text),
            record.text,
        )
        for record in message.records
    ]


def _fresh(
    store: Store,
    batch: ReadBatch,
    sessions: dict[tuple[str, str], int],
    result: Identified,
    tombstones: Tombstones,
) -> list[_Fresh]:
    identities, numbered = _identities(store, batch, result)
    records = [_records(incoming) for incoming in batch.messages]
    known = message_rows.known_messages(store, identities)
    copies = [found for group in records for record in group for found in (record.identity, record.copy)]
    seen = message_rows.known_records(store, copies)
    gone = tombstones.identities([*identities, *copies])
    seen |= gone
    for identity in gone & numbered.keys():
        result.counts.pop(numbered[identity], None)  # else a hash of the text would come back
    rows: dict[int, NewMessage] = {}
    next_id = store.next_id("messages")
    fresh: list[_Fresh] = []
    for incoming, identity, group in zip(batch.messages, identities, records, strict=True):
        session_id = sessions[incoming.agent, incoming.message.session_key]
        message_id = known.get(identity)
        unseen = [record for record in group if not record.is_in(seen)]
        is_gone = not unseen and message_id is None and any(record.is_in(gone) for record in group)
        if identity in gone or is_gone:
            result.filtered[FORGOTTEN] += 1
            continue
        if not unseen and (group or message_id is not None):
            result.duplicate += 1
            continue
        if message_id is None:
            message_id = known[identity] = next_id + len(rows)
            rows[message_id] = _row(incoming, message_id, session_id, identity)
            result.new.append(rows[message_id])
        else:
            result.duplicate += 1
        pieces = [incoming.message.text]
        if len(group) > 1 or len(unseen) < len(group):
            pieces = [record.text for record in unseen if record.text]
        pieces = list(map(clean, pieces))
        hashes = [found for record in unseen for found in (record.identity, record.copy)]
        seen.update(hashes)
        result.records.extend((found, message_id) for found in hashes)
        result.message_ids.append(message_id)
        agent, _ = result.sessions[session_id]
        fresh.append(
            _Fresh(incoming, agent, session_id, message_id, rows.get(message_id), SEPARATOR.join(pieces), pieces)
        )
    return fresh


def _row(incoming: Incoming, message_id: int, session_id: int, identity: bytes) -> NewMessage:
    message = incoming.message
    return NewMessage(
        id=message_id,
        session_id=session_id,
        identity=identity,
        external_id=None if message.key is None else clean(message.key),
        role=message.role,
        speaker=None if message.speaker is None else clean(message.speaker),
        text="",
        timestamp=message.timestamp,
        model=None if message.model is None else clean(message.model),
        filter_reason=None,
        file_id=incoming.file_id,
        start=message.start,
        end=message.end,
    )


def _redact_names(each: _Fresh, names: Names, result: Identified) -> None:
    """Redact the message's id and who speaks: a transcript may hold anything there, and models are shown the latter."""
    message = each.incoming.message
    if each.row is not None and each.row.external_id is not None:
        each.row.external_id, kinds = names.redact(each.row.external_id)
        result.redacted.update(kinds)
    (speaker, one), (model, other) = (redact(name or "") for name in (message.speaker, message.model))
    if not one and not other:
        return
    for kinds in (one, other):
        result.redacted.update(kinds)
    message = replace(message, speaker=speaker or None, model=model or None)
    each.incoming = replace(each.incoming, message=message)
    if each.row is not None:
        each.row.speaker, each.row.model = clean(speaker) or None, clean(model) or None


def _screen(each: _Fresh, intake: Intake, rules: FilterRules, said: dict[int, str], result: Identified) -> None:
    """Decide of a text what is kept; `said` has what the messages say so far."""
    if intake.redact:
        _redact_names(each, intake.names, result)
    message = each.incoming.message
    # Who asks for the role `tool` wants tool results.
    wanted_tool = message.role == "tool" and "tool" in intake.roles
    origin = "typed" if wanted_tool else message.origin
    if message.role not in intake.roles and origin == "typed":
        each.reason = ROLE
    elif intake.since is not None and message.timestamp is not None and message.timestamp < intake.since:
        each.reason = BEFORE_SINCE
    else:
        text, before = each.text, said.get(each.message_id, "")
        if intake.redact:
            text, kinds = redact_pieces(before, each.pieces, SEPARATOR)
            result.redacted.update(kinds)
            if message.records:
                said[each.message_id] = before + SEPARATOR + text if before else text
        each.text, each.reason = screen(message.role, origin, text, rules)
        if each.reason is None:
            each.recall = recall_lines(message.role, each.text)


def _drop_known(store: Store, fresh: list[_Fresh], intake: Intake, result: Identified) -> None:
    """Drop repeated system prompts, and memories of the agent that come back through a prompt."""
    statements = {content_hash(statement) for each in fresh for _, _, statement in each.recall}
    recalled = {(agent, key) for agent, key, _ in memory_rows.recalled(store, statements)}
    left = [_without_recalled(each, recalled, intake.min_chars) for each in fresh]
    is_prompt = [each.reason is None and each.incoming.message.role == "system" for each in fresh]
    prompts = [
        digest(text)
        for each, (remaining, _), prompt in zip(fresh, left, is_prompt, strict=True)
        if prompt
        for text in (each.text, remaining)
    ]
    known = message_rows.known_system_prompts(store, dict.fromkeys(prompts))
    for each, (text, reason), prompt in zip(fresh, left, is_prompt, strict=True):
        agent = each.agent
        if prompt and (agent, digest(each.text)) in known:
            each.reason = SYSTEM_PROMPT
        elif each.reason is None:
            each.text, each.reason = text, reason
            if prompt and reason is None and (agent, digest(text)) in known:
                each.reason = SYSTEM_PROMPT
            elif prompt and reason is None:
                known.add((agent, digest(text)))
        if each.reason is not None:
            result.filtered[each.reason] += 1


def _without_forgotten(tombstones: Tombstones, fresh: list[_Fresh], result: Identified) -> list[_Fresh]:
    """Leave out texts that were forgotten and come back from elsewhere, with the rows that were made for them."""
    marks = []
    for each in fresh:
        message, is_kept = each.incoming.message, each.reason is None or each.reason in _TEXT_IS_KEPT
        said = tombstones.said(message.role, message.timestamp, each.text) if is_kept and each.text else None
        marks.append((said, tombstones.text(each.text) if is_kept and each.text else None))
    known = tombstones.known(mark for pair in marks for mark in pair)
    gone = [each for each, pair in zip(fresh, marks, strict=True) if known.intersection(pair)]
    for each in gone:
        if each.reason is not None:
            result.filtered[each.reason] -= 1
        result.filtered[FORGOTTEN] += 1
    ids = {each.message_id for each in gone if each.row is not None}
    passed = ids | {each.message_id for each in gone}
    result.new = [row for row in result.new if row.id not in ids]
    result.records = [(found, message_id) for found, message_id in result.records if message_id not in passed]
    result.message_ids = [message_id for message_id in result.message_ids if message_id not in passed]
    left = {id(each) for each in gone}
    return [each for each in fresh if id(each) not in left and each.message_id not in ids]


def _drop_forgotten_sessions(tombstones: Tombstones, result: Identified) -> None:
    """Leave out sessions that were forgotten and of which nothing new was said."""
    spoken = {row.session_id for row in result.new}
    marks = {number: tombstones.session(agent, key) for number, agent, key in result.new_sessions}
    known = tombstones.known(marks.values())
    gone = {number for number, mark in marks.items() if mark in known and number not in spoken}
    result.new_sessions = [session for session in result.new_sessions if session[0] not in gone]
    result.new_tags = [(number, tag) for number, tag in result.new_tags if number not in gone]


def _told(each: _Fresh) -> set[bytes]:
    """Hashes of what a message says that nobody typed: a system prompt, a boot file, a block that was injected."""
    role, text = each.incoming.message.role, clean(each.incoming.message.text)
    if role == "system" or each.reason == INJECTED:
        return told_lines(text)
    is_stripped = role == "user" and each.reason is None and each.text != text
    return told_lines(text) - told_lines(each.text) if is_stripped else set()


def _without_recalled(each: _Fresh, recalled: set[tuple[str, bytes]], min_chars: int) -> tuple[str, str | None]:
    """What is left of a text without the lines that are memories of its agent, and the reason to drop it, if any."""
    spans = [(start, end) for start, end, said in each.recall if (each.agent, content_hash(said)) in recalled]
    return strip_recalled(each.text, spans, min_chars) if spans else (each.text, None)


def _place(grown: dict[int, str], fresh: list[_Fresh], result: Identified) -> None:
    """Give every text its place in a stored message, and list the kept parts; `grown` has the texts that are stored."""
    for each in fresh:
        row, message = each.row, each.incoming.message
        before = grown[each.message_id] if row is None else row.text
        if each.reason is not None:
            if row is not None and row.filter_reason is None and not before:
                row.filter_reason = each.reason
                row.text = each.text if each.reason in _TEXT_IS_KEPT else ""
            continue
        start = len(before) + len(SEPARATOR) if before else 0
        text = before + SEPARATOR + each.text if before else each.text
        if row is None:
            grown[each.message_id] = text
            result.grown[each.message_id] = text
        else:
            row.text, row.filter_reason = text, None
        result.parts.append(
            (each.session_id, Part(each.message_id, message.role, each.text, start, message.speaker, message.timestamp))
        )

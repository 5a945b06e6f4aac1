"""Statements of a model that only say again what the agent was told: by prompts, boot files, its own memories."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from memcli.filters import strip_injected
from memcli.model import Candidate, Part, Reading, Window
from memcli.store import calls as call_rows
from memcli.store import memories as memory_rows
from memcli.store.db import Store
from memcli.text import content_hash, digest, normalise, sentences

BOOT_FILE = "boot_file"
RECALLED = "recalled"

# Shorter lines ("Testing", "Use tabs") are said by anyone.
_LEAST_LETTERS = 16
_EDGES = " \t\"'“”„«»`*_-•+#>.:;,!?()[]"


def told_lines(text: str) -> set[bytes]:
    """Hashes of the sentences and lines of a text, by which `without_restated` knows them again."""
    spans = [text[start:end] for start, end in sentences(text)]
    keys = (_key(said) for said in {*spans, *text.split("\n")})
    return {key for key in keys if key is not None}


def without_restated(
    store: Store, read: Sequence[tuple[Window, Reading]], told: set[tuple[str, bytes]]
) -> list[Reading]:
    """The readings of a batch without such statements, which count as rejected; `told` is new in this batch.

    A statement that quotes a user is left in place, unless it quotes what a harness put into the user's message:
    people repeat themselves, and that is a mention.
    """
    hashes = {content_hash(each.content) for _, reading in read for each in reading.candidates}
    recalled: dict[tuple[str, bytes], set[int | None]] = defaultdict(set)
    for agent, key, window_id in memory_rows.recalled(store, hashes):
        recalled[agent, key].add(window_id)
    keys = {key for window, reading in read for each in reading.candidates for key in _keys(each, window)}
    known = told | call_rows.told(store, keys)
    return [_screened(window, reading, known, recalled) for window, reading in read]


def _screened(
    window: Window,
    reading: Reading,
    told: set[tuple[str, bytes]],
    recalled: Mapping[tuple[str, bytes], set[int | None]],
) -> Reading:
    reasons = [_reason(each, window, told, recalled) for each in reading.candidates]
    kept = [place for place, reason in enumerate(reasons) if reason is None]
    if len(kept) == len(reasons):
        return reading
    new = {place: number for number, place in enumerate(kept)}
    rejected = Counter(reading.rejected) + Counter(reason for reason in reasons if reason is not None)
    return Reading(
        tuple(reading.candidates[place] for place in kept),
        tuple((new[one], new[other]) for one, other in reading.links if one in new and other in new),
        dict(rejected),
    )


def _reason(
    candidate: Candidate,
    window: Window,
    told: set[tuple[str, bytes]],
    recalled: Mapping[tuple[str, bytes], set[int | None]],
) -> str | None:
    quoted = list(_quoted(candidate, window))
    # Nothing is stripped from what an assistant wrote: no harness injects there.
    if not any(part.role == "assistant" or quote in strip_injected(part.text) for part, quote, _ in quoted):
        return BOOT_FILE
    if any(part.role == "user" for part, _, _ in quoted):
        return None
    if any((window.agent, key) in told for key in _keys(candidate, window)):
        return BOOT_FILE
    # What was taken from this very window, by another tier or version, is no memory that was handed to the agent in it.
    elsewhere = recalled.get((window.agent, content_hash(candidate.content)), set()) - {window.id}
    return RECALLED if elsewhere else None


def _quoted(candidate: Candidate, window: Window) -> Iterator[tuple[Part, str, str]]:
    """The parts that a candidate quotes, with the quotes and the lines that these stand in."""
    for source in candidate.sources:
        for part in window.parts:
            start, end = source.start - part.start, source.end - part.start
            if part.message_id == source.message_id and 0 <= start < len(part.text):
                stop = part.text.find("\n", end)
                line = part.text[part.text.rfind("\n", 0, start) + 1 : stop if stop >= 0 else len(part.text)]
                yield part, part.text[start:end], line


def _keys(candidate: Candidate, window: Window) -> list[bytes]:
    """What may be known of a statement: its text, its quotes, and their lines."""
    texts = {candidate.content, *(text for _, *found in _quoted(candidate, window) for text in found)}
    return [key for text in texts if (key := _key(text)) is not None]


def _key(text: str) -> bytes | None:
    said = normalise(text).casefold().strip(_EDGES)
    return digest("told", said) if sum(mark.isalpha() for mark in said) >= _LEAST_LETTERS else None

"""Values that every dialect reads alike: timestamps, identifiers, tags, the session of a file that names none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from memcli.model import Line, Rejected, Role, Skipped
from memcli.protocols import Source
from memcli.readers.lines import FILL, read_records
from memcli.text import digest

TAG_LENGTH = 100
# So much of what becomes a tag is looked at.
MAX_TAG_SOURCE = 1000
SESSION_STATE = "session"
# Under this a source brings the session of a file that was rewritten.
KEPT_SESSION_STATE = "kept-session"
# Tool results are dropped by the filter; this much is enough to see what was dropped.
RESULT_LENGTH = 2000
ROLE_NAMES: dict[str, Role] = {
    **dict.fromkeys(("human", "user", "customer"), "user"),
    **dict.fromkeys(("assistant", "gpt", "ai", "bot", "model", "chatgpt", "bing", "agent"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "function_call", "tool_result"), "tool"),
}

_MAX_TAG_SETS = 1000
_TEXT_PARTS = (None, "text", "input_text", "output_text")
_TEXT_FIELDS = ("text", "content", "parts", "value")
# An object holding a list of objects that hold their text is the deepest that was seen.
_DEPTH = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# 1973 to 2200: the widest range in which seconds, milliseconds and microseconds cannot be mistaken for each other, nor
# a counter or a date written as digits for any of them.
_FIRST_SECOND = 10**8
_END_SECOND = 7_258_118_400
_FIRST_YEAR, _LAST_YEAR = "1970", "2199"
_PLAIN = re.compile(
    r"(\d{4})-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z", re.ASCII
)
_NUMBER = re.compile(r"\d{1,20}(?:\.\d{1,20})?", re.ASCII)
_LONGEST_TIMESTAMP = 64
_KIND = re.compile(r"[A-Za-z0-9_.:-]{1,40}")


def normalise_timestamp(value: object) -> str | None:
    """Give a moment as "YYYY-MM-DDTHH:MM:SS.mmmZ" (UTC); None for what is no moment between 1970 and 2199.

    Takes ISO 8601 with a zone or without (then UTC), and the Unix epoch in seconds, milliseconds or microseconds (1973
    and later) as a number or as its digits.
    """
    if isinstance(value, str):
        # Days 29 to 31 take the slow way, where the calendar is checked.
        match = _PLAIN.fullmatch(value)
        if match and _FIRST_YEAR <= match[1] <= _LAST_YEAR:
            return value
        return _from_text(value.strip())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_epoch(value)
    return None


def identifier(value: object) -> str | None:
    """Give an id or a name as a string; numbers become their digits; None for anything else and for white space."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def tag(kind: str, value: object) -> str | None:
    """Build the environment tag `kind:value`, the value trimmed and cut to 100 characters; None when it is empty."""
    text = value.strip()[:TAG_LENGTH].rstrip() if isinstance(value, str) else ""
    return f"{kind}:{text}" if text else None


class TagSets:
    """Environment tags; the same surroundings give the same tuple object, so that callers can compare by identity."""

    def __init__(self) -> None:
        self._sets: dict[tuple[object, ...], tuple[str, ...]] = {}

    def of(self, cwd: object, branch: object, model: str | None, tools: tuple[str, ...]) -> tuple[str, ...]:
        """Give the tags of a working folder (its last part is the project), a branch, a model and the tools used."""
        cwd = cwd[-MAX_TAG_SOURCE:] if isinstance(cwd, str) else ""
        branch = branch[:MAX_TAG_SOURCE] if isinstance(branch, str) else ""
        key = (cwd, branch, model, tools)
        tags = self._sets.get(key)
        if tags is None:
            project = cwd.replace("\\", "/").rstrip("/").rpartition("/")[2]
            found = [tag("project", project), tag("branch", branch), tag("model", model)]
            found += [tag("tool", tool) for tool in tools]
            tags = tuple(dict.fromkeys(each for each in found if each))
            if len(self._sets) >= _MAX_TAG_SETS:
                self._sets.clear()
            self._sets[key] = tags
        return tags


def text_of(content: object, depth: int = _DEPTH) -> str | None:
    """Give the text of a content value, "" when it holds none; None for a value that cannot hold any (a number)."""
    if isinstance(content, str):
        return content
    if content is None or depth == 0:
        return ""
    if isinstance(content, list):
        parts = (
            text_of(part, depth - 1)
            for part in content
            if not (isinstance(part, dict) and part.get("type") not in _TEXT_PARTS)
        )
        return "\n\n".join(part for part in parts if part and not part.isspace())
    if isinstance(content, dict):
        values = (content[name] for name in _TEXT_FIELDS if content.get(name) is not None)
        return text_of(next(values, None), depth - 1)
    return None


def kind_name(value: object, absent: str) -> str:
    """Name a record's or a block's type for counting; names that cannot be one share the name "other"."""
    if value is None:
        return absent
    return value if isinstance(value, str) and _KIND.fullmatch(value) else "other"


def read_in_session(
    source: Source, *, keeps: bool = True
) -> Iterator[tuple[Line, dict[str, object]] | Skipped | Rejected]:
    """Yield what `read_records` yields; from the first record on `source.state["session"]` is set.

    It is the session of records that name none: a digest of the file's first record or, with `keeps`, what
    `KEPT_SESSION_STATE` says. A file that lost its first lines goes on with the session it had, so that the lines that
    stayed are known again.
    """
    state = source.state
    kept = state.get(KEPT_SESSION_STATE) if keeps else None
    for found in read_records(source):
        if isinstance(found, tuple) and SESSION_STATE not in state:
            state[SESSION_STATE] = kept or digest(found[0].raw.strip(FILL).decode()).hex()
        yield found


def nearest(name: str, known: Iterable[str]) -> str:
    """Give "; did you mean ...?" with the known name that is most like `name`, or nothing when none is alike."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _from_text(text: str) -> str | None:
    if not text or len(text) > _LONGEST_TIMESTAMP:
        return None
    if _NUMBER.fullmatch(text) and (written := _from_epoch(float(text) if "." in text else int(text))):
        return written
    try:
        parsed = datetime.fromisoformat(text.upper())
        moment = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    written = _written(moment)
    return written if _FIRST_YEAR <= written[:4] <= _LAST_YEAR else None


def _from_epoch(number: float) -> str | None:
    for per_second in (1, 1_000, 1_000_000):
        if _FIRST_SECOND * per_second <= number < _END_SECOND * per_second:
            # Floats may miss a whole millisecond from below, by far less than a microsecond.
            milliseconds = min(int(number * 1_000 / per_second + 0.001), _END_SECOND * 1_000 - 1)
            return _written(_EPOCH + timedelta(milliseconds=milliseconds))
    return None


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"

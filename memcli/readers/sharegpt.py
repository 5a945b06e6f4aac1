"""ShareGPT sets: conversations of `from` and `value`, in an array or one per line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memcli.model import Item
from memcli.protocols import Source
from memcli.readers.conversations import Turn, content_text, read_conversations, timestamp_of, tool_names
from memcli.readers.fields import identifier

_ROLE = ("from", "role")
_CONTENT = ("value", "content", "text")


class ShareGPTReader:
    """Reads `{"id", "conversations": [{"from", "value"}], "system"?, "tools"?}`."""

    name = "sharegpt"
    agent = "default"

    def sniff(self, records: Sequence[object]) -> bool:
        """Tell whether any of the first records holds a list of turns with a speaker."""
        return any(_is_own(record) for record in records)

    def read(self, source: Source) -> Iterator[Item]:
        """Yield one item per turn, `system` as the first, see `read_conversations`."""
        return read_conversations(source, "conversations", _turns)


def _turns(record: dict[str, object], conversation: list[object]) -> list[Turn | str]:
    turns = [_turn(turn) for turn in conversation]
    system = record.get("system")
    if isinstance(system, str) and system.strip():
        turns.insert(0, Turn("system", system))
    return turns


def _turn(turn: object) -> Turn | str:
    if not isinstance(turn, dict):
        return "turn/not-an-object"
    said_by = next((name for field in _ROLE if (name := identifier(turn.get(field)))), None)
    text = content_text(turn, _CONTENT)
    tools = tool_names(text) if said_by == "function_call" else ()
    return Turn(said_by, text, identifier(turn.get("id")), timestamp_of(turn), tools)


def _is_own(record: object) -> bool:
    turns = record.get("conversations") if isinstance(record, dict) else None
    return isinstance(turns, list) and any(
        isinstance(each, dict) and any(name in each for name in _ROLE) for each in turns[:2]
    )

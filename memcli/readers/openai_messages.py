"""OpenAI messages: one conversation per line or element of an array, as in chat requests and fine-tuning sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memcli.model import Item
from memcli.protocols import Source
from memcli.readers.conversations import Turn, content_text, read_conversations, timestamp_of, tool_names
from memcli.readers.fields import identifier

_CONTENT = ("content", "refusal")


class OpenAIMessagesReader:
    """Reads `{"messages": [{"role", "content"}, ...]}` per line."""

    name = "openai-messages"
    agent = "default"

    def sniff(self, records: Sequence[object]) -> bool:
        """Tell whether any of the first records holds a list of messages with roles."""
        return any(_is_own(record) for record in records)

    def read(self, source: Source) -> Iterator[Item]:
        """Yield one item per message of every conversation, see `read_conversations`."""
        return read_conversations(source, "messages", lambda _, messages: [_turn(message) for message in messages])


def _turn(message: object) -> Turn | str:
    if not isinstance(message, dict):
        return "turn/not-an-object"
    tools = tool_names(message.get("tool_calls")) + tool_names(message.get("function_call"))
    return Turn(
        identifier(message.get("role")),
        content_text(message, _CONTENT),
        identifier(message.get("id")),
        timestamp_of(message),
        tools,
    )


def _is_own(record: object) -> bool:
    messages = record.get("messages") if isinstance(record, dict) else None
    return isinstance(messages, list) and any(isinstance(each, dict) and "role" in each for each in messages[:2])

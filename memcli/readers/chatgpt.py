"""ChatGPT exports: a stream of conversations, each a tree of which the branch that was shown last is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memcli.model import Item, Message, Origin, Skipped
from memcli.protocols import Source
from memcli.readers.conversations import Entry, read_entries
from memcli.readers.fields import (
    MAX_TAG_SOURCE,
    RESULT_LENGTH,
    ROLE_NAMES,
    TagSets,
    identifier,
    kind_name,
    normalise_timestamp,
    text_of,
)
from memcli.text import clean, digest

# The fields that hold a content type's text. What the assistant writes for a program, and what that answers.
_TOOL_FIELDS = {
    "code": ("text",),
    "execution_output": ("text",),
    "tether_quote": ("text",),
    "tether_browsing_display": ("result", "summary"),
    "tether_browsing_code": ("result", "text"),
}
# The profile that the user wrote once and that stands hidden in every conversation.
_PROFILE = "user_editable_context"
_PROFILE_FIELDS = ("user_profile", "user_instructions")
_SPOKEN = ("text", "multimodal_text")
_PROJECT_PREFIX = "g-p-"

_Fields = dict[str, object]


class ChatGPTReader:
    """Reads `conversations.json` and `conversations-NNN.json` of an export."""

    name = "chatgpt"
    agent = "chatgpt"

    def sniff(self, records: Sequence[object]) -> bool:
        """Tell whether any of the first conversations is a tree of messages."""
        return any(isinstance(record, dict) and isinstance(record.get("mapping"), dict) for record in records)

    def read(self, source: Source) -> Iterator[Item]:
        """Yield one item per node of every conversation; the last of a conversation carries the position behind it.

        The nodes from the root to `current_node` come in this order; then the other ones, edits and regenerations,
        are counted as "side-branch". See `read_entries` for arrays.
        """
        tags = TagSets()
        for entry in read_entries(source, wrapped=True):
            if not isinstance(entry, Entry):
                yield entry
            elif isinstance(mapping := entry.record.get("mapping"), dict):
                yield from _items(entry, mapping, tags)
            else:
                yield entry.reject("no conversation: mapping is missing or no object")


def _items(entry: Entry, mapping: _Fields, tags: TagSets) -> Iterator[Message | Skipped]:
    record = entry.record
    session_key = identifier(record.get("conversation_id")) or identifier(record.get("id")) or digest(*mapping).hex()
    template = record.get("conversation_template_id") or record.get("gizmo_id")
    project = template if isinstance(template, str) and template.startswith(_PROJECT_PREFIX) else None
    branch = _branch(mapping, record.get("current_node"))
    shown = set(branch)
    nodes = branch + [node for node in mapping if node not in shown]
    if not nodes:
        yield entry.skipped("empty-conversation", session_key, tags=tags.of(project, None, None, ()))
    ids: set[str] = set()
    last = len(nodes) - 1
    for place, node in enumerate(nodes):
        more = place < last
        fields = _dict(mapping[node])
        message = fields.get("message")
        if not isinstance(message, dict):
            yield entry.skipped("no-message", session_key, more=more)
        elif node not in shown:
            yield entry.skipped("side-branch", session_key, more=more)
        else:
            key = identifier(message.get("id")) or node
            key = node if key in ids else key
            ids.add(key)
            yield _Node(entry, session_key, project, message, tags).item(key, more=more)


def _branch(mapping: _Fields, current: object) -> list[str]:
    """Give the nodes from the root to `current`, or to the last leaf where that is none of the nodes."""
    node: object = current if isinstance(current, str) and current in mapping else _last_leaf(mapping)
    path: dict[str, None] = {}
    # Links may lead in a circle, or nowhere.
    while isinstance(node, str) and node in mapping and node not in path:
        path[node] = None
        node = _dict(mapping[node]).get("parent")
    return list(reversed(path))


def _last_leaf(mapping: _Fields) -> str | None:
    parents = {parent for node in mapping.values() if isinstance(parent := _dict(node).get("parent"), str)}
    return next((node for node in reversed(mapping) if node not in parents), next(reversed(mapping), None))


class _Node:
    """One message of the branch that was shown, with what its conversation tells."""

    def __init__(self, entry: Entry, session_key: str, project: str | None, message: _Fields, tags: TagSets) -> None:
        self._entry = entry
        self._session_key = session_key
        self._message = message
        self._metadata = _dict(message.get("metadata"))
        author = _dict(message.get("author"))
        self._said_by = identifier(author.get("role"))
        self._role = ROLE_NAMES.get((self._said_by or "").lower())
        self._model = identifier(self._metadata.get("model_slug"))
        self._tags = tags.of(project, None, self._model, self._tools(author))

    def item(self, key: str, *, more: bool) -> Message | Skipped:
        content = self._message.get("content")
        kind = kind_name(content.get("content_type"), absent="text") if isinstance(content, dict) else "text"
        name = f"{kind_name(self._said_by, absent='no-role')}/{kind}"
        text = _text(content, kind)
        if text is None or self._said_by is None:
            return self._skipped(name, more=more)
        origin = self._origin(kind)
        if origin == "tool_result":
            text = text[:RESULT_LENGTH]
        elif not text or text.isspace():
            return self._skipped(f"{name}/empty", more=more)
        entry = self._entry
        return Message(
            self._session_key, key, self._role or "user", clean(text), entry.start, entry.end, entry.number,
            normalise_timestamp(self._message.get("create_time")), origin,
            speaker=None if self._role else self._said_by,
            model=self._model if self._role == "assistant" else None, tags=self._tags, more=more,
        )  # fmt: skip

    def _skipped(self, name: str, *, more: bool) -> Skipped:
        return self._entry.skipped(name, self._session_key, more=more, tags=self._tags)

    def _origin(self, kind: str) -> Origin:
        if kind in _TOOL_FIELDS or self._role == "tool" or self._recipient() is not None:
            return "tool_result"
        if kind == _PROFILE or self._metadata.get("is_visually_hidden_from_conversation") is True:
            return "injected"
        return "typed"

    def _recipient(self) -> str | None:
        """The tool that an assistant's message is for."""
        recipient = self._message.get("recipient")
        return recipient if isinstance(recipient, str) and recipient not in ("", "all", "assistant") else None

    def _tools(self, author: _Fields) -> tuple[str, ...]:
        name = author.get("name") if self._role == "tool" else self._recipient()
        return (name[:MAX_TAG_SOURCE],) if isinstance(name, str) else ()


def _text(content: object, kind: str) -> str | None:
    """Text of a content object, "" when it holds none; None for a content type that holds no words of the talk."""
    if not isinstance(content, dict):
        return text_of(content)
    if kind in _SPOKEN:
        return _parts(content.get("parts", content.get("text")))
    names = _PROFILE_FIELDS if kind == _PROFILE else _TOOL_FIELDS.get(kind)
    if names is None:
        return None
    return "\n\n".join(text for name in names if isinstance(text := content.get(name), str) and text.strip())


def _parts(parts: object) -> str:
    """Texts among the parts: what is no string is an image, a file or a sound, the last with what was said in it."""
    listed = parts if isinstance(parts, list) else [parts]
    found = (part.get("text") if isinstance(part, dict) else part for part in listed)
    return "\n\n".join(text for text in found if isinstance(text, str) and text.strip())


def _dict(value: object) -> _Fields:
    return value if isinstance(value, dict) else {}

"""OpenAI messages: a conversation per line, the identity of its messages, content and tools; lines or an array."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from memcli.model import Message, Position, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers.openai_messages import OpenAIMessagesReader

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def user(content, **more):
    return {"role": "user", "content": content, **more}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def read(*records, position=None, state=None):
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    source = Source(io.BytesIO(raw), position or Position(), state={} if state is None else state)
    return list(OpenAIMessagesReader().read(source))


def fixture(path):
    return list(OpenAIMessagesReader().read(Source(io.BytesIO((FIXTURES / path).read_bytes()))))


def test_all_messages_of_a_line_have_its_span_and_only_the_last_lets_reading_go_on_behind_it():
    before, first, silent, last = read(
        {"messages": [user("x")]}, {"id": "c1", "messages": [user("a"), assistant(None), assistant("b")]}
    )
    assert (first.start, first.end, first.line, first.more) == (before.end, last.end, 2, True)
    assert (last.start, last.end, last.line, last.more) == (before.end, last.end, 2, False)
    assert (silent.end, silent.line) == (before.end, 1)
    assert (before.end, before.line) == (first.start, 1)


def test_a_conversation_that_ends_in_silence_lets_reading_go_on_behind_that():
    message, silent = read({"messages": [user("a"), assistant("")]})
    assert message.more
    assert (silent.kind, silent.end, silent.line) == ("assistant/empty", message.end, 1)


def test_sessions_are_the_records_ids_or_else_their_content():
    first, second, third, copy, other = read(
        {"id": 7, "messages": [user("x")]},
        {"conversation_id": "c2", "messages": [user("x")]},
        {"messages": [user("x")], "loss_weight": 1},
        {"messages": [user("x")]},
        {"messages": [user("y")]},
    )
    assert (first.session_key, second.session_key) == ("7", "c2")
    assert third.session_key == copy.session_key != other.session_key
    assert third.key == copy.key


def test_messages_are_known_by_their_ids_or_by_place_and_text():
    items = read({"id": "c", "messages": [user("yes"), user("yes"), user("yes", id="m3"), user("more", id="m3")]})
    keys = [item.key for item in items]
    assert len(set(keys)) == 4
    assert keys[2] == "m3"
    assert [key.partition(":")[0] for key in (keys[0], keys[1], keys[3])] == ["0", "1", "3"]
    longer = read(
        {"id": "c", "messages": [user("yes"), user("yes"), user("yes", id="m3"), user("more", id="m3"), user("z")]}
    )
    assert [item.key for item in longer[:4]] == keys


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (
            [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}, {"type": "image_url", "image_url": {}}],
            "a\n\nb",
        ),
        ([{"type": "input_text", "text": "a"}, "b"], "a\n\nb"),
    ],
)
def test_content_is_a_string_or_parts(content, text):
    (message,) = read({"messages": [user(content)]})
    assert message.text == text


@pytest.mark.parametrize(
    ("role", "expected", "origin"),
    [("developer", "system", "typed"), ("tool", "tool", "tool_result"), ("function", "tool", "tool_result")],
)
def test_roles_are_folded(role, expected, origin):
    (message,) = read({"messages": [{"role": role, "content": "x"}]})
    assert (message.role, message.origin, message.speaker) == (expected, origin, None)


def test_tools_and_model_become_tags():
    call = {"id": "t1", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}
    tools = json.dumps([{"type": "function", "function": {"name": "search"}}])
    silent, spoken = read(
        {"model": "m-1", "tools": tools, "messages": [assistant(None, tool_calls=[call]), assistant("done")]}
    )
    assert (silent.kind, silent.tags) == ("assistant/tool_calls", ("model:m-1", "tool:search", "tool:lookup"))
    assert (spoken.model, spoken.tags) == ("m-1", ("model:m-1", "tool:search"))


def test_the_nasty_shapes_are_told_apart():
    items = fixture("nasty/openai-shapes.jsonl")
    assert [(item.line, item.reason) for item in items if isinstance(item, Rejected)] == [
        (line, "no conversation: messages is missing or no list") for line in (2, 3, 4)
    ]
    assert [item.kind for item in items if isinstance(item, Skipped)] == [
        "empty-conversation", *["turn/not-an-object"] * 4, "user/not-text", "user/empty", *["turn/no-role"] * 2,
        "assistant/tool_calls",
    ]  # fmt: skip
    assert [item.text for item in items if isinstance(item, Message)] == [
        "the only message", "first", "second", "third", "seconds of the record", "its own", "yes", "yes", "yes", "yes",
        "an object", "a name as role", "42", "I cannot help with that.",
    ]  # fmt: skip
    assert [item.speaker for item in items if isinstance(item, Message) and item.speaker] == ["Caroline"]
    assert {item.timestamp for item in items if isinstance(item, Message) and item.line == 7} == {
        "2026-03-02T08:00:00.000Z"
    }


def test_an_array_counts_its_elements():
    first, second, rejected, last = fixture("nasty/openai-array.json")
    assert [(item.start, item.end, item.line, item.more) for item in (first, second, last)] == [
        (0, 1, 1, True), (0, 1, 1, False), (2, 3, 3, False),
    ]  # fmt: skip
    assert (rejected.start, rejected.end, rejected.reason, rejected.head) == (1, 2, "a number, not an object", b"5")


def test_an_array_and_lines_of_the_same_conversations_are_the_same_messages():
    records = [{"messages": [user("a"), assistant("b")]}, {"messages": [user("c")]}]
    source = Source(io.BytesIO(json.dumps(records).encode()))
    array = [(item.session_key, item.key, item.text) for item in OpenAIMessagesReader().read(source)]
    assert array == [(item.session_key, item.key, item.text) for item in read(*records)]


def test_lines_that_begin_with_a_list_are_no_array():
    raw = b'[1, 2]\n{"messages": [{"role": "user", "content": "hi"}]}\n'
    rejected, message = OpenAIMessagesReader().read(Source(io.BytesIO(raw)))
    assert (rejected.reason, message.text, message.end) == ("a list, not an object", "hi", len(raw))

"""The ShareGPT dialect: speakers, system prompts and tools; arrays, and what of a damaged one is read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from memcli.model import Message, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers import detect
from memcli.readers.sharegpt import ShareGPTReader

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def turn(said_by, value):
    return {"from": said_by, "value": value}


def read(*records):
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    return list(ShareGPTReader().read(Source(io.BytesIO(raw))))


def nasty(name):
    return list(ShareGPTReader().read(Source(io.BytesIO((FIXTURES / "nasty" / name).read_bytes()))))


@pytest.mark.parametrize(
    ("names", "role", "origin"),
    [
        ("human user", "user", "typed"),
        ("gpt assistant chatgpt bing", "assistant", "typed"),
        ("system", "system", "typed"),
        ("function_call observation tool", "tool", "tool_result"),
    ],
)
def test_speakers_become_roles(names, role, origin):
    for name in names.split():
        (message,) = read({"conversations": [turn(name, "x")]})
        assert (message.role, message.origin, message.speaker) == (role, origin, None)


def test_the_system_field_is_the_first_message():
    system, question, answer = read(
        {"id": "c1", "system": "Be brief.", "conversations": [turn("human", "a"), turn("gpt", "b")]}
    )
    assert (system.role, system.text, system.session_key, system.more) == ("system", "Be brief.", "c1", True)
    assert (question.more, answer.more) == (True, False)


def test_tools_become_tags():
    call = turn("function_call", '{"name": "lookup", "arguments": {}}')
    first, second = read({"tools": '[{"name": "search"}]', "conversations": [turn("human", "a"), call]})
    assert (first.tags, second.tags) == (("tool:search",), ("tool:search", "tool:lookup"))
    assert read({"tools": "none", "conversations": [turn("human", "a")]})[0].tags == ()


def test_the_nasty_shapes_are_told_apart():
    items = nasty("sharegpt-shapes.jsonl")
    assert [item.reason for item in items if isinstance(item, Rejected)] == [
        "no conversation: conversations is missing or no list"
    ] * 2
    assert [item.kind for item in items if isinstance(item, Skipped)] == [
        "empty-conversation", *["turn/not-an-object"] * 3, "user/empty", "assistant/not-text", *["turn/no-role"] * 2,
    ]  # fmt: skip
    assert [item.text for item in items if isinstance(item, Message)] == [
        "the only turn", "a name as speaker", "OpenAI names", "not JSON", "a\n\nlist",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "whole", "reason"),
    [
        ("sharegpt-truncated.json", 2, "behind 2 conversations: the file ends in the middle of the array"),
        ("sharegpt-glued.json", 3, "behind 3 conversations: parse error: trailing garbage"),
    ],
)
def test_what_is_whole_of_a_damaged_array_is_read_and_then_one_reason_is_given(name, whole, reason):
    *items, rejected = nasty(name)
    assert [item.session_key for item in items] == [f"tide_{number}" for number in range(whole) for _ in "qa"]
    assert (rejected.start, rejected.end, rejected.line, rejected.reason) == (whole, whole, whole + 1, reason)
    assert detect((FIXTURES / "nasty" / name).read_bytes()).name == "sharegpt"

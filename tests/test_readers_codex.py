"""The Codex dialect: turns that are told twice, what the header and the turns tell, and the older forms."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from memcli.model import Message, Position, Skipped
from memcli.protocols import Source
from memcli.readers.codex import MAX_UNPAIRED, CodexReader
from memcli.readers.fields import RESULT_LENGTH

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
AT = "2026-02-11T09:00:00.000Z"


def item(**payload):
    return {"timestamp": AT, "type": "response_item", "payload": payload}


def said(role, text, **more):
    return item(type="message", role=role, content=[{"type": "input_text", "text": text}], **more)


def event(kind, text):
    return {"timestamp": AT, "type": "event_msg", "payload": {"type": kind, "message": text}}


def meta(**payload):
    return {"timestamp": AT, "type": "session_meta", "payload": payload}


def turn(**payload):
    return {"timestamp": AT, "type": "turn_context", "payload": payload}


def read(*records, position=None, state=None):
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    return list(
        CodexReader().read(Source(io.BytesIO(raw), position or Position(), state={} if state is None else state))
    )


def fixture(path):
    return list(CodexReader().read(Source(io.BytesIO((FIXTURES / path).read_bytes()))))


def texts(items):
    return [item.text for item in items if isinstance(item, Message)]


def kinds(items):
    return [item.kind for item in items if isinstance(item, Skipped)]


def test_a_response_item_becomes_a_message():
    _, message = read(meta(id="s1", cwd="/srv/tide", git={"branch": "main"}), said("user", "hi", id="msg_1"))
    assert message == Message(
        "s1", "msg_1", "user", "hi", message.start, message.end, 2, AT, tags=("project:tide", "branch:main")
    )


@pytest.mark.parametrize(("role", "kind"), [("user", "user_message"), ("assistant", "agent_message")])
def test_a_turn_that_is_told_twice_is_one_message_whichever_copy_comes_first(role, kind):
    items = read(said(role, "hi there"), event(kind, "hi  there\n"))
    assert texts(items) == ["hi there"]
    assert kinds(items) == [f"event_msg/{kind}"]
    items = read(event(kind, "hi there"), said(role, "hi there"))
    assert texts(items) == ["hi there"]
    assert kinds(items) == ["response_item/message/copy"]


def test_a_file_of_events_only_loses_no_turn_and_no_repetition():
    items = fixture("nasty/codex-events-only.jsonl")
    assert texts(items) == ["Hello, is the gauge online?", "It is, since 08:40."] * 2
    assert kinds(items) == [
        "session_meta",
        "response_item/function_call",
        "event_msg/user_message",
        "event_msg/user_message",
    ]


def test_only_the_other_copy_of_a_turn_is_a_copy():
    assert texts(fixture("nasty/codex-copies.jsonl")) == [
        "continue", "Step one is done.", "continue", "Only the event tells this.", "Only the item tells this.",
        "<image name=[Image #1]>\n\n</image>\n\nWhat is on this  picture?", "continue",
    ]  # fmt: skip
    assert texts(read(said("user", "yes"), event("agent_message", "yes"))) == ["yes", "yes"]
    assert texts(read(said("user", "yes"), said("user", "yes"))) == ["yes", "yes"]


def test_copies_are_known_to_a_later_run():
    state = {}
    (first,) = read(event("user_message", "hi"), state=state)
    assert kinds(read(said("user", "hi"), state=state, position=Position(first.end, 1))) == [
        "response_item/message/copy"
    ]
    assert texts(read(said("user", "hi"), state=state, position=Position(first.end + 100, 2))) == ["hi"]


def test_what_is_remembered_of_turns_is_bounded():
    state = {}
    read(*(said("user", f"turn {number} " + "x" * 5000) for number in range(10 * MAX_UNPAIRED)), state=state)
    assert len(state["unpaired"].split()) == MAX_UNPAIRED
    assert sum(map(len, state.values())) < 1000


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("<environment_context>\n<cwd>/x</cwd>\n</environment_context>", "injected"),
        (
            "\n<user_instructions>be brief</user_instructions>\n\n<environment_context>x</environment_context> ",
            "injected",
        ),
        ("<environment_context>x</environment_context> and what I typed", "typed"),
        ("what does <environment_context> mean?", "typed"),
    ],
)
def test_an_item_is_injected_when_all_of_it_is(text, origin):
    (message,) = read(said("user", text))
    assert message.origin == origin
    (message,) = read(said("assistant", text))
    assert message.origin == "typed"


def test_the_first_header_and_the_last_turn_context_count():
    items = fixture("nasty/codex-fork.jsonl")
    assert {item.session_key for item in items} == {"tide-child"}
    assert items[2].tags == ("project:tidewatch", "branch:spring")
    assert items[4].tags == ("project:api", "branch:spring", "model:gpt-5.1-codex")
    assert (items[2].model, items[4].model) == (None, "gpt-5.1-codex")


def test_a_later_run_remembers_session_folder_branch_and_model():
    state = {}
    before = read(meta(id="s1", cwd="/srv/tide", git={"branch": "main"}), turn(model="m-1"), state=state)
    (message,) = read(said("assistant", "hi"), state=state, position=Position(before[-1].end, 2))
    assert (message.session_key, message.model) == ("s1", "m-1")
    assert message.tags == ("project:tide", "branch:main", "model:m-1")


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("done", "done"),
        ({"content": "done", "success": True}, "done"),
        ([{"type": "input_text", "text": "a"}, {"type": "input_image"}], "a"),
        (None, ""),
        (7, ""),
        ("x" * 5000, "x" * RESULT_LENGTH),
    ],
)
@pytest.mark.parametrize("kind", ["function_call_output", "custom_tool_call_output"])
def test_what_a_tool_answers_is_a_tool_result(kind, output, text):
    (message,) = read(item(type=kind, output=output))
    assert (message.role, message.origin, message.text) == ("tool", "tool_result", text)


@pytest.mark.parametrize(
    ("payload", "tag"),
    [
        ({"type": "function_call", "name": "shell"}, "tool:shell"),
        ({"type": "custom_tool_call", "name": "apply_patch"}, "tool:apply_patch"),
        ({"type": "web_search_call", "action": {}}, "tool:web_search"),
        ({"type": "local_shell_call"}, "tool:local_shell"),
    ],
)
def test_a_call_is_skipped_and_its_tool_becomes_a_tag_of_the_session(payload, tag):
    (call,) = read(item(**payload))
    assert (call.kind, call.tags) == (f"response_item/{payload['type']}", (tag,))
    assert call.session_key


def test_the_older_form_is_read():
    items = fixture("transcripts/codex/2025/06/02/rollout-2025-06-02-3f1c7b9a-50d2-4a7e-8f0e-6f1d2c3b4a59.jsonl")
    user, result, assistant = (item for item in items if isinstance(item, Message))
    assert {item.session_key for item in items} == {"3f1c7b9a-50d2-4a7e-8f0e-6f1d2c3b4a59"}
    assert (user.role, result.role, assistant.role, assistant.key) == ("user", "tool", "assistant", "msg_1")
    assert user.tags == ("branch:main",)
    assert kinds(items) == [
        "session_meta",
        "state",
        "response_item/reasoning",
        "state",
        "response_item/function_call",
        "state",
    ]


def test_the_oldest_form_is_read():
    items = fixture("nasty/codex-oldest.jsonl")
    assert texts(items) == ["A line of role and content.", "And its answer.", "With an id."]
    assert {item.session_key for item in items} == {"tide-old"}


def test_the_nasty_shapes_are_told_apart():
    items = fixture("nasty/codex-shapes.jsonl")
    assert [item.text for item in items if isinstance(item, Message) and item.origin != "injected"] == [
        "a string as content", "a bare string\n\nand a part", "be brief", "an unknown speaker",
        "What does <environment_context> mean?", "an object", "a list", "", "A timestamp in seconds.",
        "No timestamp at all.",
    ]  # fmt: skip
    assert [item.speaker for item in items if isinstance(item, Message) and item.speaker] == ["critic"]
    assert kinds(items)[:7] == [
        "session_meta", "session_meta", "response_item", "response_item", "response_item/message/no-role",
        "response_item/message/no-role", "response_item/message/empty",
    ]  # fmt: skip
    assert kinds(items)[-5:] == ["event_msg/other", "event_msg/untyped", "compacted", "world_state", "other"]
    assert len({item.session_key for item in items}) == 1


def test_files_without_a_header_are_told_apart_by_their_first_record():
    (first,) = read(said("user", "one"))
    (second,) = read(said("user", "two"))
    assert len(first.session_key) == 32
    assert first.session_key != second.session_key

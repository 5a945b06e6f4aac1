"""The pi dialect: header, messages, results of tools, and what is no message."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from memcli.model import Message, Position, Skipped
from memcli.protocols import Source
from memcli.readers.fields import RESULT_LENGTH
from memcli.readers.pi import PiReader

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
HEADER = {"type": "session", "id": "s1", "timestamp": "2026-01-19T07:30:00.000Z", "cwd": "/srv/tide"}


def message(role, content=None, **more):
    return {
        "type": "message",
        "timestamp": "2026-01-19T07:31:00.000Z",
        "message": {"role": role, "content": content, **more},
    }


def read(*records, position=None, state=None):
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    return list(PiReader().read(Source(io.BytesIO(raw), position or Position(), state={} if state is None else state)))


def nasty(name):
    return list(PiReader().read(Source(io.BytesIO((FIXTURES / "nasty" / f"{name}.jsonl").read_bytes()))))


def test_a_message_has_the_headers_session_and_folder():
    header, found = read(HEADER, {**message("user", [{"type": "text", "text": "hi"}]), "id": "e1"})
    assert found == Message(
        "s1", "e1", "user", "hi", found.start, found.end, 2, "2026-01-19T07:31:00.000Z", tags=("project:tide",)
    )
    assert header == Skipped("session", header.end, 1, "s1", tags=("project:tide",))


def test_a_later_run_remembers_the_header():
    state = {}
    (header,) = read(HEADER, state=state)
    (found,) = read(message("user", "hi"), state=state, position=Position(header.end, 1))
    assert (found.session_key, found.tags) == ("s1", ("project:tide",))


def test_model_and_tools_become_tags():
    call = {"type": "toolCall", "name": "read", "arguments": {}}
    text = {"type": "text", "text": "I will look."}
    spoken, silent = read(
        message("assistant", [text, call, call], model="m-1"), message("assistant", [call], model="m-1")
    )
    assert (spoken.text, spoken.model, spoken.tags) == ("I will look.", "m-1", ("model:m-1", "tool:read"))
    assert (silent.kind, silent.tags) == ("assistant/toolCall", ("model:m-1", "tool:read"))


@pytest.mark.parametrize(
    ("record", "text", "tags"),
    [
        (message("toolResult", [{"type": "text", "text": "42 rows"}], toolName="read"), "42 rows", ("tool:read",)),
        (message("toolResult", [{"type": "image"}]), "", ()),
        (message("toolResult", [{"type": "text", "text": "x" * 5000}]), "x" * RESULT_LENGTH, ()),
        (message("bashExecution", command="make", output="42 passed"), "42 passed", ("tool:bash",)),
        (message("bashExecution", command="true"), "", ("tool:bash",)),
    ],
)
def test_results_of_tools_and_of_commands_are_tool_results(record, text, tags):
    (found,) = read(record)
    assert (found.role, found.origin, found.text, found.tags) == ("tool", "tool_result", text, tags)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"type": "compaction", "summary": "so far"}, "compaction"),
        ({"type": "model_change", "modelId": "m"}, "model_change"),
        (message("assistant", [], errorMessage="Request was aborted"), "assistant/error"),
        (message("assistant", []), "assistant/empty"),
        (message("assistant", [{"type": "thinking", "thinking": "hm"}]), "assistant/thinking"),
        (message("custom", "from an extension"), "message/custom"),
        ({"type": "message", "message": "a string"}, "message"),
        ({"id": "x"}, "untyped"),
    ],
)
def test_what_is_no_message_is_skipped_and_counted_by_its_kind(record, kind):
    (found,) = read(record)
    assert found.kind == kind


def test_what_was_said_before_an_error_is_kept():
    (found,) = read(message("assistant", "Cut off in the mid", errorMessage="terminated"))
    assert (found.text, found.origin) == ("Cut off in the mid", "typed")


def test_the_nasty_shapes_are_told_apart():
    items = nasty("pi-shapes")
    assert [(item.text, item.timestamp is None) for item in items if isinstance(item, Message)] == [
        ("a string as content", False), ("a bare string\n\nand a block", False), ("only the inner timestamp", False),
        ("no timestamp", True), ("Cut off in the mid", False), ("", False), ("", False),
    ]  # fmt: skip
    assert [item.kind for item in items if isinstance(item, Skipped)] == [
        "session", "message", "message", "message/no-role", "user/empty", "user/image", "assistant/toolCall",
        "assistant/thinking", "message/custom", "message/other", "custom", "untyped",
    ]  # fmt: skip
    assert next(item.timestamp for item in items if getattr(item, "text", "") == "only the inner timestamp") == (
        "2026-03-02T08:00:00.123Z"
    )

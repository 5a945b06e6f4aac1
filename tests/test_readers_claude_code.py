"""The Claude Code dialect: one message out of several records, whose it is, what is no message, what a restart sees."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest

from memcli.model import Message, Position, Record, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers.claude_code import MAX_HELD, RESULT_LENGTH, ClaudeCodeReader
from memcli.readers.lines import MAX_LINE_BYTES

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "transcripts" / "claude-code"
AT = "2026-03-02T08:00:00.000Z"


def user(uuid, content, **more):
    return {"type": "user", "uuid": uuid, "sessionId": "s1", "timestamp": AT, **more,
            "message": {"role": "user", "content": content}}  # fmt: skip


def assistant(uuid, message_id, *blocks, model="opus", **more):
    content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    return {"type": "assistant", "uuid": uuid, "sessionId": "s1", "timestamp": AT, **more,
            "message": {"id": message_id, "role": "assistant", "model": model, "content": content}}  # fmt: skip


def tool(name="Bash"):
    return {"type": "tool_use", "id": "t1", "name": name, "input": {}}


def result(content):
    return {"type": "tool_result", "tool_use_id": "t1", "content": content}


PROGRESS = {"type": "progress", "sessionId": "s1"}


def encoded(*records):
    return b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in records)


def read_bytes(raw, *, position=None, state=None):
    source = Source(io.BytesIO(raw), position or Position(), state={} if state is None else state)
    return list(ClaudeCodeReader().read(source))


def read(*records, **more):
    return read_bytes(encoded(*records), **more)


def nasty(name):
    return read_bytes((FIXTURES / "nasty" / f"{name}.jsonl").read_bytes())


def messages(items):
    return [item for item in items if isinstance(item, Message)]


def kinds(items):
    return [item.kind for item in items if isinstance(item, Skipped)]


def ids(message):
    return [record.id for record in message.records]


def test_records_of_one_message_become_one_message():
    records = [user("u1", "hi"), assistant("a1", "m1", "one"), assistant("a2", "m1", "two"), user("u2", "thanks")]
    raw = encoded(*records)
    first, both, last = read_bytes(raw)
    assert (both.key, both.text, both.role, ids(both)) == ("m1", "one\n\ntwo", "assistant", ["a1", "a2"])
    assert raw[both.start : both.end] == encoded(*records[1:3])
    assert (both.line, both.timestamp) == (3, AT)
    assert (first.key, first.role, first.line, last.key) == ("u1", "user", 1, "u2")


def test_records_that_are_no_message_do_not_break_a_message():
    records = [user("u1", "hi"), assistant("a1", "m1", "one"), PROGRESS, assistant("a2", "m1", tool()), b"\n",
               assistant("a3", "m1", "two"), PROGRESS, user("u2", "thanks")]  # fmt: skip
    items = read(*records)
    assert [message.text for message in messages(items)] == ["hi", "one\n\ntwo", "thanks"]
    assert kinds(items) == ["progress", "assistant/tool_use", "blank", "progress"]
    # Whoever stops before the message was yielded must find its first record again.
    start = len(encoded(records[0]))
    assert [(item.end, item.line) for item in items[1:4]] == [(start, 1)] * 3


@pytest.mark.parametrize(
    "between",
    [user("u9", "wait"), user("u9", [result("done")]), assistant("a9", "m9", "other"), b"{broken\n"],
    ids=["user", "tool result", "assistant", "rejected"],
)
def test_any_other_message_ends_a_message_and_the_rest_comes_under_the_same_key(between):
    items = read(assistant("a1", "m1", "one"), between, assistant("a2", "m1", "two"))
    first, _, last = items
    assert (first.key, first.text, ids(first)) == ("m1", "one", ["a1"])
    assert (last.key, last.text, ids(last)) == ("m1", "two", ["a2"])


def test_a_record_that_is_repeated_in_a_message_is_ignored():
    one, two = assistant("a1", "m1", "one"), assistant("a2", "m1", "two")
    items = read(one, one, two, one, two)
    (message,) = messages(items)
    assert (message.text, ids(message)) == ("one\n\ntwo", ["a1", "a2"])
    assert kinds(items) == ["repeated-record"] * 3


def test_a_message_that_follows_in_a_later_run_brings_only_its_new_records():
    first, second = encoded(assistant("a1", "m1", "one")), encoded(assistant("a2", "m1", "two"))
    state = {}
    (before,) = read_bytes(first, state=state)
    (after,) = read_bytes(second, position=Position(before.end, before.line), state=state)
    assert (after.key, after.text, ids(after), after.line) == ("m1", "two", ["a2"], 2)


def test_sessions_are_part_of_a_messages_identity():
    items = read(assistant("a1", "m1", "one"), assistant("a2", "m1", "two", sessionId="s2"))
    assert [(message.session_key, message.text) for message in items] == [("s1", "one"), ("s2", "two")]


def test_an_assistant_record_without_message_id_goes_by_its_uuid():
    items = read(assistant("a1", None, "one"), assistant("a2", None, "two"))
    assert [(message.key, ids(message)) for message in items] == [("a1", ["a1"]), ("a2", ["a2"])]


def test_a_record_without_uuid_is_known_by_its_content():
    items = read(assistant(None, "m1", "one"), assistant(None, "m1", "one"), assistant(None, "m1", "two"))
    (message,) = messages(items)
    assert message.text == "one\n\ntwo"
    assert len(set(ids(message))) == 2
    assert all(len(each) == 32 for each in ids(message))


def test_a_message_without_any_id_has_no_key_and_no_records():
    items = read(assistant(None, None, "one"), assistant(None, None, "one"), user(None, "hi"))
    assert [(message.key, message.records) for message in items] == [(None, ())] * 3


def test_each_record_keeps_the_text_it_contributes():
    first, second, third = read(user("u1", "hi"), assistant("a1", "m1", "one", "more"), user("u2", [result("done")]))
    assert first.records == (Record("u1", "hi", first.timestamp),)
    assert second.records == (Record("a1", "one\n\nmore", second.timestamp),)
    assert third.records == (Record("u2", "done", third.timestamp),)


def test_a_message_waits_for_a_bounded_time_only():
    items = read(assistant("a1", "m1", "one"), *[PROGRESS] * (MAX_HELD + 5), assistant("a2", "m1", "two"))
    assert [message.text for message in messages(items)] == ["one", "two"]
    assert len(items) == MAX_HELD + 7


def test_a_message_grows_to_a_bounded_size_only(monkeypatch):
    monkeypatch.setattr("memcli.readers.claude_code.MAX_LINE_BYTES", 1000)
    items = read(*(assistant(f"a{n}", "m1", "x" * 200) for n in range(10)))
    assert MAX_LINE_BYTES > 1000
    assert sum(len(ids(message)) for message in items) == 10
    assert all(message.end - message.start <= 1000 for message in items)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}], "a\n\nb"),
        (["a", {"type": "text", "text": "b"}, None, 7], "a\n\nb"),
        ({"type": "text", "text": "a"}, "a"),
        ([result("listing"), {"type": "text", "text": "typed"}], "typed"),
    ],
)
def test_user_text_is_taken_from_strings_and_text_blocks(content, text):
    (message,) = read(user("u1", content))
    assert (message.text, message.origin, message.key, ids(message)) == (text, "typed", "u1", ["u1"])


@pytest.mark.parametrize(
    ("content", "text"),
    [("done", "done"), ([{"type": "text", "text": "a"}, {"type": "image"}, "b"], "a\n\nb"), (None, ""), ({}, "")],
)
def test_a_user_record_of_tool_results_only_is_a_tool_result(content, text):
    (message,) = read(user("u1", [result(content), {"type": "image"}]))
    assert (message.text, message.origin, message.role) == (text, "tool_result", "user")


def test_a_tool_result_is_cut():
    (message,) = read(user("u1", [result("x" * 5 * RESULT_LENGTH)]))
    assert len(message.text) == RESULT_LENGTH


@pytest.mark.parametrize(
    "record",
    [
        user("u1", "Caveat", isMeta=True),
        user("u1", "Summary so far", isCompactSummary=True),
        assistant("a1", "m1", "API Error: 529", model="<synthetic>", isApiErrorMessage=True),
    ],
)
def test_what_nobody_typed_is_marked_as_injected(record):
    (message,) = read(record)
    assert message.origin == "injected"
    assert message.model is None
    assert message.tags == ()


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (assistant("a1", "m1", tool()), "assistant/tool_use"),
        (assistant("a1", "m1", {"type": "thinking", "thinking": "hm"}), "assistant/thinking"),
        (assistant("a1", "m1", {"type": "thinking"}, tool()), "assistant/tool_use"),
        (assistant("a1", "m1", {"type": "fallback"}), "assistant/fallback"),
        (assistant("a1", "m1", "  \n"), "assistant/empty"),
        (assistant("a1", "m1"), "assistant/empty"),
        (user("u1", None), "user/empty"),
        (user("u1", " "), "user/empty"),
        (user("u1", [{"typ": "text"}]), "user/empty"),
        (user("u1", [{"type": "image"}]), "user/image"),
        ({"type": "user"}, "user/empty"),
        ({"type": "user", "message": ["x"]}, "user/empty"),
        ({"type": "system", "subtype": "api_error"}, "system/api_error"),
        ({"type": "system"}, "system"),
        ({"type": "summary", "summary": "x"}, "summary"),
        ({"type": "tomorrows-kind"}, "tomorrows-kind"),
        ({"type": 5}, "other"),
        ({"summary": "x"}, "untyped"),
    ],
)
def test_what_is_no_message_is_skipped_and_counted_by_its_kind(record, kind):
    (item,) = read(record)
    assert isinstance(item, Skipped)
    assert item.kind == kind


def test_a_message_may_be_a_bare_string():
    (message,) = read({"type": "user", "uuid": "u1", "sessionId": "s1", "message": "just text"})
    assert (message.text, message.timestamp) == ("just text", None)


def test_surroundings_become_tags_on_messages_and_on_skipped_records():
    around = {"cwd": "/home/mira/parcelhook/", "gitBranch": "fix/lease"}
    items = read(user("u1", "hi", **around), assistant("a1", "m1", "one", tool("Read"), **around),
                 assistant("a2", "m2", tool("Bash"), tool("Edit"), **around), {**PROGRESS, **around})  # fmt: skip
    common = ("project:parcelhook", "branch:fix/lease")
    assert items[0].tags == common
    assert items[1].tags == (*common, "model:opus", "tool:Read")
    assert (items[2].tags, items[2].session_key) == ((*common, "model:opus", "tool:Bash", "tool:Edit"), "s1")
    assert items[3].tags is items[0].tags


@pytest.mark.parametrize(
    ("cwd", "tags"),
    [
        ("C:\\Users\\mira\\parcelhook", ("project:parcelhook",)),
        ("/", ()),
        ("", ()),
        (None, ()),
        (7, ()),
        ("p" * 300, ("project:" + "p" * 100,)),
    ],
)
def test_the_project_is_the_last_part_of_the_folder(cwd, tags):
    (message,) = read(user("u1", "hi", cwd=cwd))
    assert message.tags == tags


def test_the_tags_of_a_message_are_those_of_all_its_records():
    (message,) = read(assistant("a1", "m1", "one", tool("Read")), assistant("a2", "m1", "two", tool("Edit")))
    assert message.tags == ("model:opus", "tool:Read", "tool:Edit")


def test_a_fork_resolves_to_what_it_is_a_copy_of():
    original = [user("u1", "hi"), assistant("a1", "m1", "one")]
    forked = [
        each | {"sessionId": "s2", "uuid": "new", "forkedFrom": {"sessionId": "s1", "messageUuid": each["uuid"]}}
        for each in original
    ]
    for copy, source in zip(read(*forked), read(*original), strict=True):
        assert (copy.session_key, copy.key, copy.records) == (source.session_key, source.key, source.records)
    (broken,) = read(user("u1", "hi", forkedFrom={"sessionId": None}))
    assert (broken.session_key, broken.key) == ("s1", "u1")


def test_a_missing_session_is_the_last_one_seen_or_else_the_file_itself():
    nameless = user("u0", "first", sessionId=None)
    summary = {"type": "summary", "summary": "x"}
    items = messages(read(summary, nameless, user("u1", "second"), user("u2", "third", sessionId=None)))
    assert [item.session_key for item in items[1:]] == ["s1", "s1"]
    assert len(items[0].session_key) == 32
    assert messages(read(summary, user("u5", "other", sessionId=None)))[0].session_key == items[0].session_key
    assert messages(read(nameless))[0].session_key != items[0].session_key


def test_a_later_run_remembers_the_session():
    state = {}
    (first,) = read(user("u1", "hi"), state=state)
    (second,) = read(user("u2", "ho", sessionId=None), state=state, position=Position(first.end, 1))
    assert second.session_key == "s1"


def test_a_skipped_record_names_no_session_but_its_own():
    items = read(user("u1", "hi"), {"type": "summary", "summary": "x"}, PROGRESS)
    assert [item.session_key for item in items] == ["s1", None, "s1"]


def test_damaged_lines_are_rejected_and_the_rest_is_read():
    items = nasty("claude-corrupt")
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert [item.line for item in rejected] == [2, 3, 4, 5]
    assert all(item.reason.startswith("not JSON: ") for item in rejected)
    assert [message.key for message in messages(items)] == ["u1", "m1"]
    assert kinds(items) == ["blank"]


def test_the_nasty_shapes_are_told_apart():
    items = nasty("claude-shapes")
    found = {message.key: message.text for message in messages(items)}
    assert found == {
        "u1": "plain string", "u2": "a bare string as message", "u4": "an object as content",
        "u5": "a bare string in a list\n\nand a block", "u12": "", "u13": "42 rows", "u14": "typed beside a result",
        "a6": "a string as assistant content", "a7": "an id that is no id", "m8": "kept",
    }  # fmt: skip
    assert Counter(kinds(items)) == {
        "user/empty": 8, "user/image": 1, "assistant/empty": 2, "assistant/thinking": 1, "assistant/tool_use": 2,
        "untyped": 1, "other": 2, "system": 1, "system/compact_boundary": 1, "tomorrows-kind": 1,
    }  # fmt: skip
    assert not [item for item in items if isinstance(item, Rejected)]


def test_a_session_of_summaries_and_snapshots_holds_no_message():
    items = nasty("claude-summary-only")
    assert kinds(items) == ["summary"] + ["file-history-snapshot"] * 4
    assert len(items) == 5


def test_links_and_times_out_of_order_do_not_matter():
    items = nasty("claude-links")
    assert [(message.key, ids(message)) for message in messages(items)] == [
        ("u2", ["u2"]), ("u1", ["u1"]), ("u3", ["u3"]), ("m1", ["a1"]), ("u3", ["u3"]), ("m1", ["a2", "a1"]),
    ]  # fmt: skip
    assert items[1].timestamp < items[0].timestamp


def test_the_demo_session_that_was_resumed_repeats_the_identities_of_the_first():
    folder = FIXTURES / "transcripts" / "claude-code"
    found = {path: messages(read_bytes(path.read_bytes())) for path in sorted(folder.rglob("*.jsonl"))}
    (forked,) = (path for path in found if b'"forkedFrom"' in path.read_bytes())
    copied = {(message.session_key, message.key) for message in found[forked]}
    (original,) = (
        path for path in found if path != forked and copied & {(each.session_key, each.key) for each in found[path]}
    )
    shared = copied & {(each.session_key, each.key) for each in found[original]}
    assert len(shared) >= 4
    assert copied - shared


@pytest.mark.parametrize(
    ("path", "expected"),
    [("large.jsonl", 126), ("tiny.jsonl", 3), ("sample.jsonl", 2), ("summary-only.jsonl", 0)],
)
def test_a_real_session_has_as_many_assistant_messages_as_ids_with_text(path, expected):
    if not SHARED.exists():
        pytest.skip("the shared transcripts are not here")
    items = read_bytes((SHARED / path).read_bytes())
    assert len({message.key for message in messages(items) if message.role == "assistant"}) == expected


def test_no_line_of_the_real_sessions_is_rejected():
    if not SHARED.exists():
        pytest.skip("the shared transcripts are not here")
    for path in SHARED.rglob("*.jsonl"):
        assert not [item for item in read_bytes(path.read_bytes()) if isinstance(item, Rejected)], path.name

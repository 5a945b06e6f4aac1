"""The flat dialect: field names, mapping, roles, content of every shape, sessions without an id."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcli.errors import UsageError
from memcli.model import Message, Position, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers.fields import identifier, normalise_timestamp, tag
from memcli.readers.flat import TARGETS, FlatReader, parse_map

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def read(*records, mapping=None, position=None, state=None):
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    source = Source(io.BytesIO(raw), position or Position(), state={} if state is None else state)
    return list(FlatReader(mapping).read(source))


def one(record, mapping=None):
    (item,) = read(record, mapping=mapping)
    return item


def nasty(name):
    return list(FlatReader().read(Source(io.BytesIO((FIXTURES / "nasty" / f"{name}.jsonl").read_bytes()))))


def test_all_fields_of_a_record_arrive():
    item = one({
        "role": "assistant", "content": "The parcel left.", "session_id": "s1", "id": "m1", "agent_id": "desk",
        "timestamp": "2026-01-12T09:00:48Z", "model": "m-2",
    })  # fmt: skip
    assert item == Message(
        "s1", "m1", "assistant", "The parcel left.", 0, item.end, 1, "2026-01-12T09:00:48.000Z",
        agent="desk", model="m-2", tags=("model:m-2",),
    )  # fmt: skip


@pytest.mark.parametrize("role", TARGETS["role"])
@pytest.mark.parametrize("content", TARGETS["content"])
@pytest.mark.parametrize("timestamp", TARGETS["timestamp"])
def test_every_common_field_name_is_known(role, content, timestamp):
    item = one({role: "user", content: "Good morning", timestamp: 1772438400})
    assert (item.role, item.text, item.timestamp) == ("user", "Good morning", "2026-03-02T08:00:00.000Z")


@pytest.mark.parametrize(
    ("names", "role"),
    [
        ("human user customer USER", "user"),
        ("assistant gpt ai bot model chatgpt bing agent Assistant", "assistant"),
        ("system developer", "system"),
        ("tool function observation function_call tool_result", "tool"),
    ],
)
def test_known_roles_are_folded_and_name_no_speaker(names, role):
    for name in names.split():
        item = one({"role": name, "content": "x"})
        assert (item.role, item.speaker, item.origin) == (role, None, "tool_result" if role == "tool" else "typed")


@pytest.mark.parametrize(("role", "speaker"), [("Caroline", "Caroline"), (" Dr. Wu ", "Dr. Wu"), (17, "17")])
def test_any_other_role_is_a_user_whose_name_is_kept(role, speaker):
    item = one({"speaker": role, "text": "Hello there"})
    assert (item.role, item.speaker) == ("user", speaker)


def test_ids_that_are_numbers_become_strings():
    item = one({"role": "user", "content": "x", "id": 5, "session_id": 12, "agent_id": 3})
    assert (item.key, item.session_key, item.agent) == ("5", "12", "3")


@pytest.mark.parametrize("value", [None, "", "  ", True, [1], {"a": 1}])
def test_ids_that_are_none_are_left_out(value):
    item = one({"role": "user", "content": "x", "id": value, "agent_id": value, "model": value})
    assert (item.key, item.agent, item.model, item.tags) == (None, None, None, ())


def test_records_without_a_session_share_one_that_the_first_record_of_the_file_gives():
    state = {}
    first = {"role": "user", "content": "first", "session_id": "named"}
    items = read(first, {"role": "user", "content": "second"}, {"role": "user", "content": "third"}, state=state)
    assert items[0].session_key == "named"
    assert items[1].session_key == items[2].session_key == state["session"] != "named"
    resumed = read({"role": "user", "content": "fourth"}, position=Position(500, 3), state=state)
    assert resumed[0].session_key == items[1].session_key
    assert read({"role": "user", "content": "first of another file"})[0].session_key != items[1].session_key


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"text": "b"}, {"value": "c"}, "d"], "a\n\nb\n\nc\n\nd"),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}], "a\n\nb"),
        ([{"type": "image_url", "text": "alt"}, {"type": "text", "text": "a"}, None, 5, " "], "a"),
        ({"text": "a"}, "a"),
        ({"content": "a", "type": "markdown"}, "a"),
        ({"parts": ["a", {"text": "b"}]}, "a\n\nb"),
        ([{"type": "text", "text": {"value": "a"}}], "a"),
        ({"role": "assistant", "content": "a"}, "a"),
    ],
)
def test_content_of_every_shape_gives_its_text(content, text):
    assert one({"role": "user", "content": content}).text == text


def test_a_message_object_may_hold_role_and_content():
    item = one({"message": {"role": "assistant", "content": [{"text": "inside"}]}})
    assert (item.role, item.text) == ("assistant", "inside")
    assert one({"role": "user", "message": {"role": "assistant", "content": "x"}}).role == "user"


@pytest.mark.parametrize(
    "record",
    [
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "assistant", "tool_calls": [{}]},
        {"role": "assistant", "function_call": {}},
        {"role": "user", "content": None},
        {"role": "user", "content": ""},
        {"role": "user", "content": " \n"},
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
        {"message": {"role": "user", "content": None}},
        {"role": "user", "content": [[[[[["too deep"]]]]]]},
    ],
)
def test_records_without_text_are_skipped_and_counted(record):
    assert one(record | {"session_id": "s1"}) == Skipped("no-text", one(record | {"session_id": "s1"}).end, 1, "s1")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"role": "user"}, "no text: none of content, text, value, message (name it with --map content=...)"),
        ({}, "no text: none of content, text, value, message (name it with --map content=...)"),
        ({"content": "x"}, "no role: none of role, from, speaker (name it with --map role=...)"),
        ({"content": "x", "role": None}, "no role: none of role, from, speaker (name it with --map role=...)"),
        ({"content": "x", "role": {"name": "y"}}, "the role is not a name: none of role, from, speaker"),
        ({"content": 7, "role": "user"}, "the content is not text: none of content, text, value, message"),
        ({"content": False, "role": "user"}, "the content is not text: none of content, text, value, message"),
    ],
)
def test_records_that_are_no_messages_are_rejected_with_what_was_looked_for(record, reason):
    item = one(record)
    assert isinstance(item, Rejected)
    assert item.reason.startswith(reason)
    assert item.head == json.dumps(record).encode()


def test_a_null_field_gives_way_to_the_next_name():
    assert one({"role": None, "from": "human", "content": None, "text": "x"}).text == "x"


def test_mapped_names_replace_the_common_ones():
    mapping = {"role": "author", "content": "body", "session_id": "thread.id", "id": "n", "timestamp": "when"}
    item = one({"author": "bot", "body": "x", "thread": {"id": 4}, "n": 9, "when": 1772438400, "role": "user"}, mapping)
    assert (item.role, item.text, item.session_key, item.key) == ("assistant", "x", "4", "9")
    assert item.timestamp == "2026-03-02T08:00:00.000Z"
    assert one({"author": "bot", "content": "x"}, mapping).reason.startswith("no text: none of body (name it")


def test_dots_reach_into_objects_unless_the_name_itself_has_them():
    mapping = {"role": "author.name"}
    assert one({"author": {"name": "Ann"}, "content": "x"}, mapping).speaker == "Ann"
    assert one({"author.name": "Ben", "content": "x"}, mapping).speaker == "Ben"
    assert one({"author": "Cy", "content": "x"}, mapping).reason.startswith("no role: none of author.name")


def test_a_mapping_is_parsed():
    assert parse_map("role=author, content = body.text") == {"role": "author", "content": "body.text"}
    assert parse_map("content=a=b") == {"content": "a=b"}


@pytest.mark.parametrize("text", ["", "role", "role=", "=author", "role=a,", "role=a,role=b", "role:author"])
def test_a_mapping_of_bad_syntax_is_refused(text):
    with pytest.raises(UsageError, match="--map"):
        parse_map(text)


@pytest.mark.parametrize("make", [lambda: parse_map("rol=author"), lambda: FlatReader({"rol": "author"})])
def test_an_unknown_target_is_refused_with_the_nearest_known_one(make):
    with pytest.raises(UsageError) as caught:
        make()
    assert "did you mean 'role'" in caught.value.message
    assert all(target in caught.value.hint for target in TARGETS)


def test_the_nasty_shapes_are_told_apart():
    items = nasty("flat-shapes")
    assert [type(item).__name__[0] for item in items] == list("MMMMMMSSSSRRRRRRRMMM")
    assert items[2].speaker == "Caroline"
    assert items[-1].text == "the second name holds it"


def test_text_that_sqlite_cannot_store_is_repaired_and_line_separators_are_kept():
    first, second, third, fourth = nasty("surrogates")
    assert (first.text, first.session_key, first.key) == ("half an emoji: �, and the other half: �", "s�", "one�")
    assert (second.text, third.text) == ("a whole one: 😀", "a NUL � in the text")
    assert fourth.text == r"an escaped backslash: \ud83d is no emoji"
    separators = nasty("line-separators")
    assert len(separators) == 2
    assert "\u2028" in separators[0].text


def test_timestamps_of_every_kind_are_normalised_or_left_out():
    moment = "2026-03-02T08:00:00.000Z"
    assert [item.timestamp for item in nasty("timestamps")] == [
        None, None, moment, "2026-03-02T06:00:00.123Z", moment, "2026-03-02T00:00:00.000Z",
        moment, "2026-03-02T08:00:00.123Z", "2026-03-02T08:00:00.123Z", "2026-03-02T08:00:00.500Z",
        None, None, None, None, None, None, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2025-10-08T18:51:28.903Z", "2025-10-08T18:51:28.903Z"),
        ("2024-02-29T18:51:28.903Z", "2024-02-29T18:51:28.903Z"),
        ("2025-02-29T18:51:28.903Z", None),
        ("2025-13-01T18:51:28.903Z", None),
        ("2025-10-08T24:51:28.903Z", None),
        ("2025-10-08t18:51:28z", "2025-10-08T18:51:28.000Z"),
        (" 2025-10-08T18:51:28-07:00 ", "2025-10-09T01:51:28.000Z"),
        ("20251008", "2025-10-08T00:00:00.000Z"),
        ("20251008185128", None),
        (1759949488.903, "2025-10-08T18:51:28.903Z"),
        ("1759949488903", "2025-10-08T18:51:28.903Z"),
        (7258118399.99999, "2199-12-31T23:59:59.999Z"),
        (7258118400, None),
        ("2200-01-01T00:00:00.000Z", None),
        ("1969-12-31T23:59:59.000Z", None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        ("9" * 5000, None),
        ("２０２５-10-08T18:51:28.903Z", None),
        ("", None),
    ],
)
def test_a_timestamp_is_utc_with_milliseconds_or_nothing(value, expected):
    assert normalise_timestamp(value) == expected


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.datetimes().map(str)))
def test_a_normalised_timestamp_stays_as_it_is(value):
    once = normalise_timestamp(value)
    assert once is None or (len(once) == 24 and normalise_timestamp(once) == once)


def test_tags_are_trimmed_and_cut():
    assert tag("branch", "  " + "b" * 200 + " ") == "branch:" + "b" * 100
    assert tag("branch", "  ") is None
    assert tag("branch", 5) is None
    assert identifier(1.5) == "1.5"

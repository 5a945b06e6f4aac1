"""The contract that every reader keeps, on good, nasty and cut files and on rubbish; and the choice of a reader."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcli.errors import UsageError
from memcli.model import ROLES, Message, Position, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers import READERS, detect, lines, make_reader

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "transcripts"
TRANSCRIPTS = sorted((FIXTURES / "transcripts").rglob("*.jsonl"))
FILES = TRANSCRIPTS + sorted((FIXTURES / "nasty").glob("*.jsonl"))

reader_names = pytest.mark.parametrize("name", READERS)
files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:24])


def read(name, raw, *, position=None, state=None, final=False):
    source = Source(io.BytesIO(raw), position or Position(), final, {} if state is None else state)
    return list(make_reader(name).read(source))


def accounted(items):
    """How many lines the items stand for: a message is made of its records, anything else of one line."""
    return sum(max(1, len(item.records)) if isinstance(item, Message) else 1 for item in items)


def content(items):
    """What a store would hold of the items: messages by identity with the text of each record once; rejected lines."""
    messages = defaultdict(dict)
    for item in items:
        if isinstance(item, Message):
            identity = (item.session_key, item.key, item.role, item.origin, item.agent, item.speaker)
            once = item.records or [(item.timestamp, item.text)]
            messages[identity].update(dict.fromkeys(once))
    return messages, {(item.start, item.line, item.reason) for item in items if isinstance(item, Rejected)}


def test_there_are_fixtures():
    assert len(TRANSCRIPTS) >= 5
    assert len(FILES) - len(TRANSCRIPTS) >= 9


@reader_names
@files
def test_every_line_becomes_exactly_one_item_or_part_of_a_message(name, path):
    raw = path.read_bytes()
    assert accounted(read(name, raw)) == raw.count(b"\n") > 0


@reader_names
@files
def test_items_come_in_file_order_and_reach_the_end(name, path):
    raw = path.read_bytes()
    items = read(name, raw)
    ends = [(item.end, item.line) for item in items]
    assert ends == sorted(ends)
    assert ends[-1] == (len(raw), raw.count(b"\n"))


@reader_names
@files
def test_values_are_of_their_kind(name, path):
    for item in read(name, path.read_bytes()):
        if isinstance(item, Message):
            assert item.role in ROLES
            assert item.session_key
            assert item.key is None or item.key
            assert not item.records or "\n\n".join(record.text for record in item.records) == item.text
            assert item.text.strip() or item.origin == "tool_result"
            (item.text + item.session_key + "".join(item.tags)).encode()
            assert all(":" in tag and tag == tag.strip() for tag in item.tags)
        elif isinstance(item, Rejected):
            assert 0 < len(item.reason) < 120
            assert len(item.head) <= 4096
            assert "\n" not in item.reason


@reader_names
@files
def test_reading_may_stop_after_any_item_and_go_on_there(name, path):
    raw = path.read_bytes()
    whole = content(read(name, raw))
    source = Source(io.BytesIO(raw))
    before = []
    for item in make_reader(name).read(source):
        before.append(item)
        position = Position(max(0, item.end), item.line)
        rest = read(name, raw[position.offset :], position=position, state=dict(source.state))
        assert content([*before, *rest]) == whole
        assert not rest or (rest[-1].end, rest[-1].line) == (len(raw), raw.count(b"\n"))


@reader_names
@files
def test_a_file_that_grows_in_small_steps_gives_the_same_in_the_end(name, path):
    raw = path.read_bytes()
    seen, position, state = [], Position(), {}
    for end in [*range(0, len(raw), 1 + len(raw) // 60), len(raw)]:
        for item in read(name, raw[position.offset : end], position=position, state=state):
            seen.append(item)
            position = Position(item.end, item.line)
    assert content(seen) == content(read(name, raw))
    assert (position.offset, position.line) == (len(raw), raw.count(b"\n"))


@reader_names
@files
def test_chunk_borders_make_no_difference(name, path, monkeypatch):
    raw = path.read_bytes()
    whole = read(name, raw)
    monkeypatch.setattr(lines, "CHUNK_BYTES", 61)
    assert read(name, raw) == whole


@reader_names
@files
def test_crlf_nul_runs_and_blank_lines_change_no_message(name, path):
    raw = path.read_bytes()
    # A session without an id is known by its first record, which stays the same.
    changed = raw.replace(b"\n", b"\r\n\x00\x00\x00\r\n\n")
    texts, changed_texts = (
        [(item.session_key, item.key, item.text) for item in read(name, each) if isinstance(item, Message)]
        for each in (raw, changed)
    )
    assert texts == changed_texts
    assert accounted(read(name, changed)) == changed.count(b"\n")


@reader_names
@files
def test_a_byte_order_mark_and_a_missing_last_newline_change_no_message(name, path):
    raw = path.read_bytes()
    assert content(read(name, raw))[0] == content(read(name, b"\xef\xbb\xbf" + raw.removesuffix(b"\n")))[0]


@reader_names
@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_raise_and_none_are_lost(name, raw):
    items = read(name, raw, final=True)
    assert accounted(items) == raw.count(b"\n") + (not raw.endswith(b"\n") and raw != b"")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("type", "subtype", "uuid", "sessionId", "message", "cwd", "gitBranch", "timestamp", "isMeta", "forkedFrom",
          "role", "from", "content", "text", "session_id", "id", "agent_id", "model", "tool_calls")  # fmt: skip
kinds = st.sampled_from(["user", "assistant", "system", "summary", "text", "tool_use", "tool_result"])
blocks = st.lists(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("type", "text", "name", "content"), kinds | json_values))
)
messages = st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "role", "model", "content"), json_values | blocks))
records = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, kinds | json_values | messages | blocks))


@reader_names
@settings(deadline=None)
@given(st.lists(records, max_size=6))
def test_no_shape_of_a_record_raises_and_none_is_lost(name, shapes):
    raw = b"".join(json.dumps(shape).encode() + b"\n" for shape in shapes)
    assert accounted(read(name, raw)) == len(shapes)


@reader_names
@pytest.mark.parametrize("depth", [900, 5_000, 200_000])
@pytest.mark.parametrize("field", ["type", "timestamp", "cwd", "uuid", "message", "content", "role"])
def test_deep_nesting_in_any_field_is_survived(name, field, depth):
    record = {"type": "assistant", "role": "user", "content": "x", "message": {"content": "x"}, field: "DEEP"}
    raw = json.dumps(record).replace('"DEEP"', "[" * depth + "]" * depth).encode() + b"\n"
    assert accounted(read(name, raw)) == 1


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem[:24])
def test_the_transcripts_of_the_demo_are_recognised_and_hold_no_bad_line(path):
    reader = detect(path.read_bytes()[:4096])
    assert reader is not None
    assert reader.name == ("flat" if path.parent.name == "agents" else "claude-code")
    items = read(reader.name, path.read_bytes())
    assert not [item for item in items if isinstance(item, Rejected)]
    assert any(isinstance(item, Message) for item in items)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("claude-corrupt", "claude-code"),
        ("claude-shapes", "claude-code"),
        ("claude-summary-only", "claude-code"),
        ("claude-links", "claude-code"),
        ("flat-shapes", "flat"),
        ("timestamps", "flat"),
        ("surrogates", "flat"),
        ("not-objects", "flat"),
    ],
)
def test_nasty_files_are_recognised_too(name, expected):
    reader = detect((FIXTURES / "nasty" / f"{name}.jsonl").read_bytes())
    assert reader is not None
    assert reader.name == expected


FOREIGN = {
    "codex": [{"timestamp": "2026-01-05T12:00:00.000Z", "type": "response_item", "payload": {"type": "message",
              "role": "user", "content": [{"type": "input_text", "text": "hi"}]}}],
    "codex, older": [{"id": "c1", "timestamp": "2025-05-01T00:00:00Z", "instructions": None},
                     {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    "pi": [{"type": "session", "id": "p1", "timestamp": "2025-11-20T23:33:50.805Z", "cwd": "/srv"},
           {"type": "message", "message": {"role": "user", "content": [{"type": "text", "text": "hi"}]}}],
    "openai": [{"messages": [{"role": "user", "content": "hi"}]}],
    "sharegpt": [{"id": "g1", "conversations": [{"from": "human", "value": "hi"}], "system": "be brief"}],
    "a log": [{"level": "info", "message": "started", "time": 1}],
    "nothing": [],
}  # fmt: skip


@pytest.mark.parametrize("rows", FOREIGN.values(), ids=FOREIGN)
def test_other_dialects_are_claimed_by_no_reader(rows):
    assert detect(b"".join(json.dumps(row).encode() + b"\n" for row in rows)) is None


@pytest.mark.parametrize("folder", ["codex", "pi", "openai-messages", "sharegpt", "locomo"])
def test_real_files_of_other_dialects_are_claimed_by_no_reader(folder):
    if not SHARED.exists():
        pytest.skip("the shared transcripts are not here")
    for path in (SHARED / folder).iterdir():
        assert detect(path.read_bytes()) is None, path.name
        assert detect(path.read_bytes()[:1000]) is None, path.name


def test_a_first_line_longer_than_the_head_is_recognised_by_its_visible_part():
    claude = (
        b'{"parentUuid":null,"isSidechain":false,"sessionId":"s1","type":"user","message":{"role":"user","content":"'
    )
    flat = b'{"role":"user","content":"'
    for head, name in ((claude, "claude-code"), (flat, "flat")):
        reader = detect(head + b"A" * 70_000)
        assert reader is not None
        assert reader.name == name


def test_with_a_mapping_flat_claims_what_has_the_mapped_fields():
    head = b'{"author":{"name":"Ann"},"body":"Good morning","type":"post"}\n'
    assert detect(head) is None
    reader = detect(head, {"role": "author.name", "content": "body"})
    assert reader is not None
    assert reader.name == "flat"
    assert [item.speaker for item in reader.read(Source(io.BytesIO(head)))] == ["Ann"]


def test_claude_code_is_asked_before_a_mapped_flat():
    head = b'{"type":"user","uuid":"u1","sessionId":"s1","message":{"role":"user","content":"hi"}}\n'
    reader = detect(head, {"role": "message.role", "content": "message.content"})
    assert reader is not None
    assert reader.name == "claude-code"


@reader_names
def test_nothing_is_claimed_of_nothing(name):
    reader = make_reader(name)
    assert reader.name == name
    assert reader.agent
    assert not reader.sniff([])
    assert not reader.sniff([1, None, "x", [], {}])


def test_an_unknown_format_is_refused_with_the_nearest_and_all_known_names():
    with pytest.raises(UsageError) as caught:
        make_reader("claude_code")
    assert "claude_code" in caught.value.message
    assert "did you mean 'claude-code'" in caught.value.message
    assert all(name in caught.value.hint for name in READERS)


def test_skipped_lines_are_counted_by_a_short_kind():
    raw = b'{"type":"%s","sessionId":"s"}\n{"type":"ai-title","sessionId":"s"}\n\n' % (b"x" * 500)
    items = read("claude-code", raw)
    assert [item.kind for item in items if isinstance(item, Skipped)] == ["other", "ai-title", "blank"]

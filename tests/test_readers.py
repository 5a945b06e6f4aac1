"""The contract that every reader keeps, on good, nasty and cut files and on rubbish; and the choice of a reader."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from copy import deepcopy
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from memcli.errors import UsageError
from memcli.model import ROLES, Line, Message, Position, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers import FORMATS, READERS, SUFFIXES, arrays, detect, is_array, lines, make_reader
from memcli.readers.arrays import WRAPPED_ARRAY, array_kind
from memcli.readers.conversations import ARRAY_STATE
from memcli.readers.fields import normalise_timestamp
from memcli.readers.lines import FILL, parse

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "transcripts"
TRANSCRIPTS = sorted((FIXTURES / "transcripts").rglob("*.json*"))
NASTY = sorted((FIXTURES / "nasty").glob("*.json*"))
# What ends in the middle, or is no array behind some element: none of it can be counted by its bytes alone.
BROKEN = {"chatgpt-corrupt", "chatgpt-glued", "chatgpt-truncated", "sharegpt-glued", "sharegpt-truncated", "unfinished"}
FILES = [path for path in TRANSCRIPTS + NASTY if path.stem not in BROKEN]
# Readers that take a whole conversation out of one line or element.
CONVERSATIONS = {"chatgpt", "openai-messages", "sharegpt"}


def own(path):
    """The reader a fixture is meant for."""
    reader = detect(path.read_bytes())
    return reader.name if reader else "flat"


# Every reader on every file; and where that takes long, on its own ones and on two of nobody's.
pairs = [(name, path) for name in READERS for path in FILES]
own_pairs = [(own(path), path) for path in FILES if not path.stem.startswith("no-transcript")]
own_pairs += [(name, FIXTURES / "nasty" / f"{stem}.jsonl") for name in READERS for stem in ("not-objects", "bytes")]


def short(value):
    return getattr(value, "stem", value)[:24]


reader_names = pytest.mark.parametrize("name", READERS)
files = pytest.mark.parametrize(("name", "path"), pairs, ids=short)
own_files = pytest.mark.parametrize(("name", "path"), own_pairs, ids=short)


def read(name, raw, *, position=None, state=None, final=False):
    """Read a file from `position` on, as a caller does: the stream of an array stands at its beginning."""
    position, state = position or Position(), {} if state is None else state
    stream = io.BytesIO(raw if ARRAY_STATE in state else raw[position.offset :])
    return list(make_reader(name).read(Source(stream, position, final, state)))


def position_of(item):
    """Where reading may go on behind an item."""
    if isinstance(item, Message) and item.more:
        return Position(item.start, item.line - 1)
    return Position(item.end, item.line)


def units(name, raw, *, final=False):
    """How many lines or elements a file has, and the position behind the last one."""
    if name in CONVERSATIONS and (kind := array_kind(raw, wrapped=name == "chatgpt")):
        elements = json.loads(raw.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b" "))
        count = len(elements["conversations"] if kind == WRAPPED_ARRAY else elements)
        return count, Position(count, count)
    last = raw.rpartition(b"\n")[2]
    # A last line without a newline is taken when it is whole, or when nothing can come any more.
    taken = bool(last) and (final or (last.startswith(b"{") and last.endswith(b"}")))
    count = raw.count(b"\n") + taken
    return count, Position(len(raw) if taken else len(raw) - len(last), count)


def accounted(name, items):
    """How many lines or elements the items stand for.

    A message is made of its records, anything else of one line; but of a conversation only the last item counts.
    """
    if name not in CONVERSATIONS:
        return sum(max(1, len(item.records)) if isinstance(item, Message) else 1 for item in items)
    offsets = [0, *(position_of(item).offset for item in items)]
    return sum(after > before for before, after in pairwise(offsets))


def content(items):
    """What a store would hold of the items: messages by identity with the text of each record once; rejected lines."""
    messages = defaultdict(dict)
    for item in items:
        if isinstance(item, Message):
            identity = (item.session_key, item.key, item.role, item.origin, item.agent, item.speaker)
            once = item.records or [(item.timestamp, item.text)]
            messages[identity].update(dict.fromkeys(once))
    return messages, {(item.start, item.line, item.reason) for item in items if isinstance(item, Rejected)}


def test_there_are_fixtures_for_every_reader():
    assert {own(path) for path in TRANSCRIPTS} == set(READERS)
    assert {path.stem.split("-")[0] for path in NASTY} >= {
        "claude",
        "codex",
        "pi",
        "chatgpt",
        "openai",
        "sharegpt",
        "flat",
    }
    assert {path.stem for path in NASTY} >= BROKEN


@files
def test_every_line_or_element_becomes_an_item_or_part_of_a_message(name, path):
    raw = path.read_bytes()
    count, end = units(name, raw)
    items = read(name, raw)
    assert accounted(name, items) == count
    positions = [position_of(item) for item in items]
    assert positions == sorted(positions, key=lambda position: (position.offset, position.line))
    assert (positions[-1] if positions else Position()) == end


@files
def test_values_are_of_their_kind(name, path):
    for item in read(name, path.read_bytes()):
        if isinstance(item, Message):
            assert item.role in ROLES
            assert item.session_key
            assert item.key is None or item.key
            assert not item.records or "\n\n".join(record.text for record in item.records) == item.text
            assert item.text.strip() or item.origin == "tool_result"
            assert item.start < item.end
            assert item.timestamp is None or normalise_timestamp(item.timestamp) == item.timestamp
            (item.text + item.session_key + "".join(item.tags)).encode()
            assert all(":" in tag and tag == tag.strip() for tag in item.tags)
            # Half a line cannot be read again unless its messages are known by a key.
            assert item.key or not (item.more or name in CONVERSATIONS)
        elif isinstance(item, Rejected):
            assert 0 < len(item.reason) < 120
            assert len(item.head) <= 4096
            assert "\n" not in item.reason
        else:
            assert 0 < len(item.kind) < 60


@own_files
def test_reading_may_stop_after_any_item_and_go_on_there(name, path):
    raw = path.read_bytes()
    whole = content(read(name, raw))
    _, end = units(name, raw)
    source = Source(io.BytesIO(raw))
    before = []
    for item in make_reader(name).read(source):
        before.append(item)
        rest = read(name, raw, position=position_of(item), state=dict(source.state))
        assert content([*before, *rest]) == whole
        assert not rest or position_of(rest[-1]) == end


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name, path in own_pairs if path.suffix == ".jsonl"], ids=short
)
def test_a_file_that_grows_in_small_steps_gives_the_same_in_the_end(name, path):
    raw = path.read_bytes()
    seen, position, state = [], Position(), {}
    for end in [*range(0, len(raw), 1 + len(raw) // 60), len(raw)]:
        for item in read(name, raw[:end], position=position, state=state):
            seen.append(item)
            position = position_of(item)
    assert content(seen) == content(read(name, raw))
    assert position == units(name, raw)[1]


@pytest.mark.parametrize(("name", "path"), [pair for pair in own_pairs if pair[1].suffix == ".json"], ids=short)
def test_an_array_that_is_cut_anywhere_gives_what_is_whole_and_one_reason(name, path):
    raw = path.read_bytes()
    whole = content(read(name, raw))[0]
    count, _ = units(name, raw)
    last = raw.rstrip(FILL + b"}]").__len__()
    reached = 0
    first = next(end for end in range(last) if array_kind(raw[:end], wrapped=name == "chatgpt"))
    for end in range(first, last, 1 + last // 60):
        *items, rejected = read(name, raw[:end])
        assert isinstance(rejected, Rejected)
        done = position_of(items[-1]).offset if items else 0
        assert (rejected.start, rejected.end, rejected.line) == (done, done, done + 1)
        assert reached <= done < count
        reached = done
        assert content(items)[0].items() <= whole.items()


@files
def test_whether_a_file_is_an_array_is_told_as_its_reader_finds_it(name, path):
    raw, state = path.read_bytes(), {}
    read(name, raw, state=state)
    assert is_array(name, raw) == (ARRAY_STATE in state)


@own_files
def test_chunk_borders_make_no_difference(name, path, monkeypatch):
    raw = path.read_bytes()
    whole = read(name, raw)
    monkeypatch.setattr(lines, "CHUNK_BYTES", 61)
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 61)
    assert read(name, raw) == whole


@own_files
def test_crlf_nul_runs_and_blank_lines_change_no_message(name, path):
    raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    # A session without an id is known by its first record, which stays the same.
    changed = raw.replace(b"\n", b"\r\n\x00\x00\x00\r\n\n")
    texts, changed_texts = (
        [(item.session_key, item.key, item.text) for item in read(name, each) if isinstance(item, Message)]
        for each in (raw, changed)
    )
    assert texts == changed_texts
    if array_kind(raw, wrapped=name == "chatgpt") is None:
        assert accounted(name, read(name, changed)) == changed.count(b"\n")


@own_files
def test_a_byte_order_mark_and_a_missing_last_newline_change_no_message(name, path):
    raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    assert content(read(name, raw))[0] == content(read(name, b"\xef\xbb\xbf" + raw.removesuffix(b"\n")))[0]


@reader_names
@settings(deadline=None)
@given(st.binary(max_size=400).filter(lambda raw: not raw.lstrip(FILL).startswith((b"[", b"{"))))
def test_no_bytes_raise_and_none_are_lost(name, raw):
    items = read(name, raw, final=True)
    assert accounted(name, items) == units(name, raw, final=True)[0]


@own_files
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_no_mutated_file_raises_and_any_item_of_it_may_be_the_last(name, path, data):
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(start, min(len(raw), start + 50)))
        raw[start:end] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"", b"]", b"}", b'"', b"\n", b"[{", b"\\"])
        )
    raw = bytes(raw)
    state = {}
    items = read(name, raw, state=state, final=True)
    if not (items and isinstance(items[-1], Rejected) and ARRAY_STATE in state):
        count = units(name, raw, final=True)[0] if ARRAY_STATE not in state else accounted(name, items)
        assert accounted(name, items) == count
    source = Source(io.BytesIO(raw), final=True)
    stop = data.draw(st.integers(0, max(0, len(items) - 1)))
    before = list(islice(make_reader(name).read(source), stop))
    position = position_of(before[-1]) if before else Position()
    rest = read(name, raw, position=position, state=dict(source.state) if before else {}, final=True)
    assert content([*before, *rest]) == content(items)


def records_of(path):
    raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf").strip(FILL)
    if array_kind(raw):
        return [element for element in json.loads(raw.replace(b"\0", b" ")) if isinstance(element, dict)]
    parsed = (parse(line) for line in lines.read_lines(Source(io.BytesIO(raw))) if isinstance(line, Line))
    return [record for record in parsed if isinstance(record, dict)]


RECORDS = [record for path in FILES for record in records_of(path)]
ODD = (None, True, 0, -1.5, 10**18, "", " ", "x", [], {}, [[]], [None], ["x"], {"a": {}}, [{"type": "text"}],
       {"text": 7}, "a", {"role": []}, [{"from": {}}], "\0", "1e999", "2026-02-30T00:00:00Z")  # fmt: skip


def spots(value):
    """Every place in a record that something else can be put into."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from spots(inner)


@st.composite
def shapes(draw):
    """Three records of any dialect, with up to three values of each replaced by odd ones."""
    drawn = []
    for _ in range(3):
        record = deepcopy(draw(st.sampled_from(RECORDS)))
        for _ in range(draw(st.integers(1, 3))):
            container, key = draw(st.sampled_from([*spots(record), (record, "type")]))
            container[key] = deepcopy(draw(st.sampled_from(ODD)))
        drawn.append(record)
    return drawn


@reader_names
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes())
def test_no_shape_of_a_record_raises_and_none_is_lost(name, drawn):
    # An object with a list of conversations is a whole export: what stands behind it is one piece of rubbish.
    assume(name != "chatgpt" or not any(isinstance(shape.get("conversations"), list) for shape in drawn))
    raw = b"".join(json.dumps(shape).encode() + b"\n" for shape in drawn)
    assert accounted(name, read(name, raw)) == len(drawn)


@pytest.mark.parametrize("name", sorted(CONVERSATIONS))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes(), st.sampled_from(ODD))
def test_no_shape_of_an_element_raises_and_none_is_lost(name, drawn, odd):
    assert accounted(name, read(name, json.dumps([*drawn, odd]).encode())) == len(drawn) + 1


@reader_names
@pytest.mark.parametrize("depth", [900, 5_000, 200_000])
@pytest.mark.parametrize(
    "field", ["type", "timestamp", "cwd", "uuid", "message", "content", "role", "payload", "messages", "mapping"]
)
def test_deep_nesting_in_any_field_is_survived(name, field, depth):
    record = {"type": "assistant", "role": "user", "content": "x", "message": {"content": "x"}, field: "DEEP"}
    raw = json.dumps(record).replace('"DEEP"', "[" * depth + "]" * depth).encode() + b"\n"
    assert accounted(name, read(name, raw)) == 1


EXPECTED = {"agents": "flat", "openai": "openai-messages"}


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem[:24])
def test_the_transcripts_of_the_demo_are_recognised_and_hold_no_bad_line(path):
    reader = detect(path.read_bytes()[:4096])
    assert reader is not None
    folder = path.relative_to(FIXTURES / "transcripts").parts[0]
    assert reader.name == EXPECTED.get(folder, folder)
    items = read(reader.name, path.read_bytes())
    assert not [item for item in items if isinstance(item, Rejected)]
    assert any(isinstance(item, Message) for item in items)


@pytest.mark.parametrize("path", NASTY, ids=lambda path: path.stem)
def test_nasty_files_are_recognised_too_and_what_is_no_transcript_is_not(path):
    reader = detect(path.read_bytes())
    if path.stem.startswith("no-transcript"):
        assert reader is None
        return
    begins = path.stem.split("-")[0]
    assert reader is not None
    assert reader.name == next((name for name in READERS if name.startswith(begins)), "flat")


FOREIGN = {
    "a log": [{"level": "info", "message": "started", "time": 1}],
    "alpaca": [{"instruction": "hi", "input": "", "output": "hello"}],
    "locomo": [{"sample_id": "1", "conversation": {"session_1": [{"speaker": "A", "dia_id": "D1:1", "text": "hi"}]}}],
    "geojson": [{"type": "Feature", "id": 1, "payload": {"role": "x"}}],
    "nothing": [],
}


@pytest.mark.parametrize("rows", FOREIGN.values(), ids=FOREIGN)
def test_what_is_of_no_dialect_is_claimed_by_no_reader(rows):
    assert detect(b"".join(json.dumps(row).encode() + b"\n" for row in rows)) is None
    for indent in (None, 1):
        assert detect(json.dumps(rows, indent=indent).encode()) is None


REAL = {"codex": "codex", "pi": "pi", "openai-messages": "openai-messages", "sharegpt": "sharegpt", "locomo": None}


@pytest.mark.parametrize("folder", REAL)
def test_real_files_are_claimed_by_their_reader(folder):
    if not SHARED.exists():
        pytest.skip("the shared transcripts are not here")
    for path in (SHARED / folder).iterdir():
        raw = path.read_bytes()
        # One file holds instructions and outputs, which is no dialect of conversations.
        expected = None if b'"instruction"' in raw[:100] else REAL[folder]
        for head in (raw, raw[: 1 << 16], raw[:1000], raw[:300]):
            reader = detect(head)
            assert (reader.name if reader else None) == expected, path.name


def test_real_files_hold_no_rejected_line_and_every_line_is_accounted_for():
    if not SHARED.exists():
        pytest.skip("the shared transcripts are not here")
    for path in sorted(SHARED.rglob("*.json*")):
        raw = path.read_bytes()
        reader = detect(raw[: 1 << 18])
        if reader is None:
            continue
        items = read(reader.name, raw)
        assert not [item for item in items if isinstance(item, Rejected)], path.name
        assert accounted(reader.name, items) == units(reader.name, raw)[0], path.name


def test_formats_say_what_their_readers_say():
    for format_info in FORMATS:
        reader = make_reader(format_info.name)
        assert (reader.name, reader.agent) == (format_info.name, format_info.agent)
        assert format_info.where
        assert format_info.may_be_array == (reader.name in CONVERSATIONS)
    assert set(SUFFIXES) == {".jsonl", ".ndjson", ".json", ".zip"}


@pytest.mark.parametrize("name", sorted(CONVERSATIONS))
def test_an_element_longer_than_the_head_is_recognised_by_its_visible_part(name):
    heads = {
        "chatgpt": b'[{"title":"x","mapping":{"n":{"id":"n","message":{"content":"',
        "openai-messages": b'[\n {"messages": [{"role": "user", "content": "',
        "sharegpt": b'[{"id":"1","conversations":[{"from":"human","value":"',
    }
    reader = detect(heads[name] + b"A" * 70_000)
    assert reader is not None
    assert reader.name == name
    wrapped = detect(b'{"n":1,"conversations":[{"mapping":{"n":{"message":"' + b"A" * 70_000)
    assert wrapped is not None
    assert wrapped.name == "chatgpt"


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

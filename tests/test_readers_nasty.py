"""Each nasty thing that a real file may hold, on every reader: as it is, compressed, and in a zip."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from test_readers import FILES, content, own, read

from memcli.model import Message, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers import READERS, arrays, detect, make_reader
from memcli.readers.archives import open_stream, zip_members
from memcli.readers.lines import MAX_LINE_BYTES

NASTY = Path(__file__).resolve().parents[1] / "fixtures" / "nasty"
AT = "2026-03-02T08:00:00.000Z"


def packed(folder, raw, packing, name):
    """What the reader of that name makes of bytes that were packed: what is packed is whole, its last line too."""
    path = folder / f"a.jsonl{packing}"
    if packing == ".gz":
        path.write_bytes(gzip.compress(raw))
    elif packing == ".zst":
        zstandard = pytest.importorskip("zstandard", reason="the package for .zst is not here")
        path.write_bytes(zstandard.ZstdCompressor().compress(raw))
    elif packing == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("conversations.json", raw)
        ((_, items),) = ((member, _items(name, stream)) for member, stream in zip_members(str(path)))
        return items
    else:
        path.write_bytes(raw)
    with open_stream(str(path)) as stream:
        return _items(name, stream)


def _items(name, stream):
    return list(make_reader(name).read(Source(stream, final=True)))


packings = pytest.mark.parametrize("packing", ["", ".gz", ".zst", ".zip"])
reader_names = pytest.mark.parametrize("name", READERS)


@packings
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:24])
def test_a_packed_file_says_what_it_says_unpacked(tmp_path, path, packing):
    name, raw = own(path), path.read_bytes()
    assert content(packed(tmp_path, raw, packing, name)) == content(read(name, raw, final=True))


# --- bytes -----------------------------------------------------------------------------------------------------------

SAID = [
    "behind a byte order mark",
    "behind NUL",
    "before\u2028after, before\u2029after, before\x85after",
    "half an emoji \N{REPLACEMENT CHARACTER} here",
    "an escaped \N{REPLACEMENT CHARACTER} here",
    "the last whole one",
]
REASONS = [
    "invalid UTF-8 at byte",
    "not JSON: Invalid control character at column",
    "not JSON: Expecting ',' delimiter at column|not JSON: Unterminated string|not JSON: Expecting|not JSON: Invalid",
    "not JSON: Extra data at column",
    "not JSON: Expecting property name enclosed in double quotes at column 2",
    "a number, not an object",
    "a string, not an object",
    "a list, not an object",
    "null, not an object",
    "a number, not an object",
]


@packings
@pytest.mark.parametrize("path", sorted(NASTY.glob("*-bytes.jsonl")), ids=lambda path: path.stem)
def test_of_nasty_bytes_the_whole_lines_are_kept_and_each_other_has_its_reason(tmp_path, path, packing):
    reader = detect(path.read_bytes())
    assert reader.name == next(name for name in READERS if name.startswith(path.stem.split("-")[0]))
    items = packed(tmp_path, path.read_bytes(), packing, reader.name)
    assert [item.text for item in items if isinstance(item, Message)] == SAID
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert [item.line for item in rejected] == [6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    for item, reasons in zip(rejected, REASONS, strict=True):
        assert item.reason.startswith(tuple(reasons.split("|")))
    blank = [item.line for item in items if isinstance(item, Skipped) and item.kind == "blank"]
    assert blank == [2, 3, 5, 20]


def test_there_are_nasty_bytes_of_every_dialect():
    stems = {path.name for path in NASTY.glob("*bytes*")}
    lines = {f"{name.split('-')[0]}-bytes.jsonl" for name in READERS if name != "flat"}
    assert stems == {*lines, "bytes.jsonl", "chatgpt-bytes.json", "openai-bytes.json", "sharegpt-bytes.json"}


@packings
@pytest.mark.parametrize("path", sorted(NASTY.glob("*-bytes.json")), ids=lambda path: path.stem)
def test_nasty_bytes_between_the_elements_of_an_array_lose_nothing(tmp_path, path, packing):
    reader = detect(path.read_bytes())
    items = packed(tmp_path, path.read_bytes(), packing, reader.name)
    assert [item.text for item in items if isinstance(item, Message)] == [*SAID[:3], *SAID[4:]]
    assert [(item.line, item.reason) for item in items if isinstance(item, Rejected)] == [
        (3, "a number, not an object"),
        (4, "a string, not an object"),
        (5, "a list, not an object"),
        (6, "null, not an object"),
        (7, "true or false, not an object"),
    ]


# --- what a record may look like -------------------------------------------------------------------------------------


def claude_code(text, at=AT, n=1):
    return {"type": "user", "uuid": f"u{n}", "sessionId": "s", "timestamp": at,
            "message": {"role": "user", "content": text}}  # fmt: skip


def codex(text, at=AT, n=1):
    return {"timestamp": at, "type": "response_item",
            "payload": {"type": "message", "role": "user", "content": text, "id": f"m{n}"}}  # fmt: skip


def pi(text, at=AT, n=1):
    return {"type": "message", "id": f"e{n}", "timestamp": at, "message": {"role": "user", "content": text}}


def chatgpt(text, at=AT, n=1):
    held = text if isinstance(text, dict) else {"content_type": "text", "parts": text}
    message = {"id": f"m{n}", "author": {"role": "user"}, "create_time": at, "content": held}
    return {"conversation_id": "s", "current_node": "n", "mapping": {"n": {"parent": None, "message": message}}}


def openai_messages(text, at=AT, n=1):
    return {"id": f"s{n}", "messages": [{"role": "user", "content": text, "timestamp": at}]}


def sharegpt(text, at=AT, n=1):
    return {"id": f"s{n}", "conversations": [{"from": "human", "value": text, "timestamp": at}]}


def flat(text, at=AT, n=1):
    return {"role": "user", "content": text, "timestamp": at, "id": n}


RECORDS = {
    "claude-code": claude_code, "codex": codex, "pi": pi, "chatgpt": chatgpt, "openai-messages": openai_messages,
    "sharegpt": sharegpt, "flat": flat,
}  # fmt: skip


def items_of(name, *records):
    """What is read of records, as the items of whole lines."""
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    return read(name, raw)


def test_every_reader_has_a_record_here():
    assert RECORDS.keys() == set(READERS)
    for name, record in RECORDS.items():
        assert detect(json.dumps(record("hi")).encode() + b"\n").name == name


@reader_names
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a string", "a string"),
        (["a bare string", {"type": "text", "text": "and a part"}, None, 7], "a bare string\n\nand a part"),
        ({"type": "text", "text": "an object"}, "an object"),
        (None, None),
        ([], None),
        ({}, None),
        (7, None),
        ([{"typ": "text", "txet": "misspelt"}], None),
    ],
    ids=repr,
)
def test_content_of_any_shape_gives_its_text_or_is_counted(name, value, text):
    (item,) = items_of(name, RECORDS[name](value))
    if text is None:
        assert isinstance(item, Skipped) or (isinstance(item, Rejected) and "content" in item.reason)
    else:
        assert (type(item), getattr(item, "text", None)) == (Message, text)


HOLDERS = {"claude-code": "message", "codex": "payload", "pi": "message", "chatgpt": "mapping",
           "openai-messages": "messages", "sharegpt": "conversations", "flat": "content"}  # fmt: skip


@reader_names
@pytest.mark.parametrize("value", ["a bare string", None, 7, [], {}, "misspelt"], ids=repr)
def test_whatever_stands_where_the_message_should_be_nothing_is_lost(name, value):
    record = RECORDS[name]("hi")
    held = record.pop(HOLDERS[name])
    # The last value stands for a field whose name is misspelt.
    record |= {"mesage": held} if value == "misspelt" else {HOLDERS[name]: value}
    first, item, last = items_of(name, RECORDS[name]("one", n=1), record, RECORDS[name]("two", n=3))
    assert (first.text, last.text) == ("one", "two")
    if isinstance(item, Message):
        assert (name, item.text) in {("claude-code", "a bare string"), ("flat", "a bare string")}
    else:
        assert isinstance(item, Skipped | Rejected)


@reader_names
@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (None, None),
        ("not a date", None),
        ("", None),
        (True, None),
        ([], None),
        (-1, None),
        (1e300, None),
        (1772438400, AT),
        (1772438400.0, AT),
        (1772438400000, AT),
        ("1772438400", AT),
        ("2026-03-02T08:00:00Z", AT),
        ("2026-03-02T09:00:00+01:00", AT),
        ("2026-03-02T08:00:00", AT),
        ("2026-03-02", "2026-03-02T00:00:00.000Z"),
    ],
    ids=repr,
)
def test_timestamps_of_every_kind_are_normalised_or_left_out(name, at, expected):
    (item,) = items_of(name, RECORDS[name](["hi"] if name == "chatgpt" else "hi", at))
    assert (item.text, item.timestamp) == ("hi", expected)


@reader_names
def test_a_missing_timestamp_is_none_and_times_out_of_order_stay_in_the_order_of_the_file(name):
    records = [RECORDS[name](f"said {n}", f"2026-03-0{9 - n}T08:00:00Z", n) for n in range(1, 4)]
    records.append(json.loads(json.dumps(RECORDS[name]("said 4", "GONE", 4)).replace('"GONE"', "null")))
    items = items_of(name, *records)
    assert [item.text for item in items] == [f"said {n}" for n in range(1, 5)]
    assert [item.timestamp for item in items] == [f"2026-03-0{9 - n}T08:00:00.000Z" for n in range(1, 4)] + [None]


# A session that holds something, but nothing that was said.
SILENT = {
    "claude-code": [
        {"type": "summary", "summary": "x", "leafUuid": "l"},
        {"type": "file-history-snapshot", "snapshot": {}},
    ],
    "codex": [{"timestamp": AT, "type": "session_meta", "payload": {"id": "s", "cwd": "/srv/tide"}}],
    "pi": [{"type": "session", "id": "s", "cwd": "/srv/tide"}, {"type": "compaction", "summary": "so far"}],
    "chatgpt": [{"conversation_id": "s", "mapping": {"n": {"message": None, "parent": None, "children": []}}}],
    "openai-messages": [{"id": "s", "messages": [{"role": "assistant", "content": None}]}],
    "sharegpt": [{"id": "s", "conversations": [{"from": "gpt", "value": ""}]}],
    "flat": [{"role": "user", "content": ""}],
}


@reader_names
def test_a_session_in_which_nothing_was_said_is_recognised_and_counted(name):
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in SILENT[name])
    assert detect(raw).name == name
    items = read(name, raw)
    assert len(items) == len(SILENT[name])
    assert all(isinstance(item, Skipped) for item in items)


# --- long lines ------------------------------------------------------------------------------------------------------


@packings
@reader_names
def test_a_line_with_a_document_of_343_kb_is_read(tmp_path, name, packing):
    document = {"type": "document", "source": {"type": "base64", "data": "JVBERi0xLjQK" * 29_000}}
    records = [RECORDS[name]("before", n=1), RECORDS[name](["here it is", document], n=2), RECORDS[name]("after", n=3)]
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    assert len(raw) > 343_000
    items = packed(tmp_path, raw, packing, name)
    assert [item.text for item in items] == ["before", "here it is", "after"]


class Long(io.RawIOBase):
    """`head`, then `size` bytes of one line, then `tail`; made as it is read."""

    def __init__(self, head, size, tail):
        super().__init__()
        self.parts = [head, size, tail]

    def read(self, size=-1):
        while self.parts and not self.parts[0]:
            self.parts.pop(0)
        if not self.parts:
            return b""
        part = self.parts[0]
        if isinstance(part, int):
            self.parts[0] = max(0, part - size)
            return b"x" * min(part, size)
        self.parts[0] = part[size:]
        return part[:size]


def around(record):
    """The bytes of a record before and behind the place of its text."""
    return json.dumps(record).encode().split(b"HERE")


@reader_names
def test_a_line_of_100_mb_is_rejected_and_not_held_in_memory(name):
    before, after = RECORDS[name]("before", n=1), RECORDS[name]("after", n=3)
    head, tail = around(RECORDS[name]("HERE", n=2))
    stream = Long(json.dumps(before).encode() + b"\n" + head, 100 << 20, tail + b"\n" + json.dumps(after).encode())
    tracemalloc.start()
    first, rejected, last = make_reader(name).read(Source(stream))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (first.text, last.text) == ("before", "after")
    assert (rejected.line, rejected.reason) == (2, "line longer than 32 MiB")
    assert rejected.head.startswith(head)
    assert peak < 3 * MAX_LINE_BYTES


@pytest.mark.parametrize("name", ["chatgpt", "openai-messages", "sharegpt"])
def test_an_element_of_100_mb_ends_its_array_and_is_not_held_in_memory(name, monkeypatch):
    # The parser copies a string anew for each piece of it, up to the limit: the real one takes seconds.
    monkeypatch.setattr(arrays, "MAX_LINE_BYTES", 4 << 20)
    before, after = RECORDS[name]("before", n=1), RECORDS[name]("after", n=3)
    head, tail = around(RECORDS[name]("HERE", n=2))
    whole = b"[" + json.dumps(before).encode() + b"," + head
    stream = Long(whole, 100 << 20, tail + b"," + json.dumps(after).encode() + b"]")
    tracemalloc.start()
    first, rejected = make_reader(name).read(Source(stream))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first.text == "before"
    assert rejected.reason == "behind 1 conversations: an element longer than 4 MiB"
    assert peak < 4 * (4 << 20)

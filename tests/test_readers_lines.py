"""The physical line layer: splitting, numbering, tails, limits, and a reason for whatever cannot be parsed."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcli.model import Line, Position, Rejected, Skipped
from memcli.protocols import Source
from memcli.readers import lines
from memcli.readers.lines import HEAD_BYTES, MAX_LINE_BYTES, cut_record, parse, read_lines

NASTY = Path(__file__).resolve().parents[1] / "fixtures" / "nasty"


def read(raw, *, position=None, final=False, state=None, limit=MAX_LINE_BYTES):
    source = Source(io.BytesIO(raw), position or Position(), final, {} if state is None else state)
    return list(read_lines(source, limit))


def parsed(raw):
    return parse(Line(0, len(raw) + 1, 1, raw))


def test_lines_end_at_newline_bytes_only():
    raw = b'{"a":"x\xe2\x80\xa8y\xe2\x80\xa9z\xc2\x85"}\n{"b":"\x0b\x0c\x1c\r"}\n'
    assert [item.raw for item in read(raw)] == raw.split(b"\n")[:-1]


def test_a_file_of_all_nasty_bytes_keeps_its_good_lines():
    items = [parse(item) if isinstance(item, Line) else item for item in read((NASTY / "bytes.jsonl").read_bytes())]
    assert [item["id"] for item in items if isinstance(item, dict)] == ["one", "two", "five"]
    assert [item.reason for item in items if isinstance(item, Rejected)] == [
        "invalid UTF-8 at byte 35",
        "not JSON: Invalid control character at column 21",
    ]
    assert len([item for item in items if isinstance(item, Skipped)]) == 4


def test_a_file_that_is_still_being_written_waits_for_its_last_line():
    raw = (NASTY / "unfinished.jsonl").read_bytes()
    (whole,) = read(raw)
    assert raw[whole.end :].startswith(b'{"role"')
    assert [type(item) for item in read(raw, final=True)] == [Line, Rejected]


def test_numbers_and_offsets_go_on_from_the_position():
    items = read(b'{"a":1}\n{"b":2}\n', position=Position(offset=100, line=7))
    assert [(item.start, item.end, item.number) for item in items] == [(100, 108, 8), (108, 116, 9)]


def test_crlf_is_no_part_of_the_object():
    items = read(b'{"a":1}\r\n\r\n{"b":2}\r\n')
    assert [parse(item) if isinstance(item, Line) else item.kind for item in items] == [{"a": 1}, "blank", {"b": 2}]
    assert items[-1].end == 20


def test_a_byte_order_mark_is_dropped_at_the_start_of_the_file_only():
    bom = b"\xef\xbb\xbf"
    first, second = read(bom + b'{"a":1}\n' + bom + b'{"b":2}\n')
    assert parse(first) == {"a": 1}
    assert first.start == 0
    assert isinstance(parse(second), Rejected)
    (resumed,) = read(bom + b'{"a":1}\n', position=Position(50, 3))
    assert isinstance(parse(resumed), Rejected)


def test_blank_lines_and_lines_of_nul_are_counted_as_blank():
    items = read(b"\n   \n\x00\x00\x00\n\xef\xbb\xbf\n", position=Position(0, 0))
    assert [(type(item), item.end) for item in items] == [(Skipped, 1), (Skipped, 5), (Skipped, 9), (Line, 13)]
    assert {item.kind for item in items[:3]} == {"blank"}
    assert [item.kind for item in read(b"\xef\xbb\xbf\n")] == ["blank"]


def test_nul_runs_around_an_object_are_ignored():
    (line,) = read(b"\x00" * 4096 + b'{"a":1}' + b"\x00" * 50 + b"\n")
    assert parse(line) == {"a": 1}
    assert (line.start, line.end) == (0, 4096 + 7 + 50 + 1)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b"")), max_size=30), st.integers(1, 40))
def test_chunk_borders_make_no_difference(pieces, size):
    raw = b"".join(piece + b"\n" for piece in pieces)
    with pytest.MonkeyPatch.context() as patch:
        whole = read(raw, limit=8)
        patch.setattr(lines, "CHUNK_BYTES", size)
        assert read(raw, limit=8) == whole
    assert len(whole) == len(pieces)


class Endless(io.RawIOBase):
    """A stream of `size` bytes of one line and then `rest`, made as it is read."""

    def __init__(self, size, rest):
        self.left, self.rest = size, rest

    def read(self, size=-1):
        taken = min(size, self.left)
        self.left -= taken
        if taken:
            return b"x" * taken
        rest, self.rest = self.rest, b""
        return rest


def test_a_line_above_the_limit_is_rejected_without_being_held_in_memory():
    size = 200 << 20
    source = Source(Endless(size, b'\n{"a":1}\n'))
    tracemalloc.start()
    rejected, line = read_lines(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * MAX_LINE_BYTES
    assert (rejected.reason, rejected.start, rejected.end) == ("line longer than 32 MiB", 0, size + 1)
    assert rejected.head == b"x" * HEAD_BYTES
    assert parse(line) == {"a": 1}
    assert (line.start, line.number) == (size + 1, 2)


def test_the_limit_itself_is_allowed():
    assert [type(item) for item in read(b"12345678\n123456789\n", limit=8)] == [Line, Rejected]


def test_a_complete_object_is_taken_without_its_newline():
    state = {}
    items = read(b'{"a":1}\n{"b":2}', state=state)
    assert [parse(item) for item in items] == [{"a": 1}, {"b": 2}]
    assert items[-1].end == 15


@pytest.mark.parametrize("tail", [b'{"b":', b"[1]", b"5", b"  ", b"\x00\x00", b"\r", b'{"b":"\xe2\x80'])
def test_any_other_tail_waits_for_the_next_run(tail):
    assert [item.end for item in read(b'{"a":1}\n' + tail)] == [8]


def test_at_the_end_of_a_final_input_an_incomplete_line_is_rejected():
    *_, last = read(b'{"a":1}\n{"b":', final=True)
    assert (last.reason, last.start, last.end, last.line, last.head) == ("incomplete last line", 8, 13, 2, b'{"b":')
    assert [item.kind for item in read(b"\x00\x00", final=True)] == ["blank"]


def test_an_oversize_tail_waits_unless_the_input_is_final():
    assert read(b"x" * 20, limit=8) == []
    (rejected,) = read(b"x" * 20, limit=8, final=True)
    assert (rejected.reason, rejected.end) == ("line longer than 8 bytes", 20)


def test_the_newline_that_ends_a_taken_line_later_does_not_count_as_a_line():
    state = {}
    (line,) = read(b'{"a":1}', state=state)
    grown = read(b'\n{"b":2}\n', position=Position(line.end, line.number), state=state)
    assert [(type(item), item.end) for item in grown] == [(Skipped, 8), (Line, 16)]
    assert grown[1].number == 2


def test_a_blank_line_after_a_finished_line_counts():
    state = {}
    (line,) = read(b'{"a":1}\n', state=state)
    assert [item.number for item in read(b'\n{"b":2}\n', position=Position(line.end, 1), state=state)[1:]] == [3]


def test_reading_from_the_start_forgets_what_was_remembered():
    state = {"session": "old", "tail": "0"}
    assert read(b'{"a":1}\n', state=state)[0].number == 1
    assert state == {}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a" 1}', "not JSON: Expecting ':' delimiter at column 6"),
        (b'  {"a" 1}', "not JSON: Expecting ':' delimiter at column 8"),
        (b'{"a":1}{"b":2}', "not JSON: Extra data at column 8"),
        (b'{"a":1}\x00{"b":2}', "not JSON: Extra data at column 8"),
        (b'{"a":"x', "not JSON: Unterminated string starting at column 6"),
        (b'{"a":"x\x00y"}', "not JSON: Invalid control character at column 8"),
        (b'{"a":"\xff"}', "invalid UTF-8 at byte 7"),
        (b'{"a":"\xed\xa0\x80"}', "invalid UTF-8 at byte 7"),
        (b"[1, 2]", "a list, not an object"),
        (b'"text"', "a string, not an object"),
        (b"17", "a number, not an object"),
        (b"-1.5e3", "a number, not an object"),
        (b"NaN", "a number, not an object"),
        (b"true", "true or false, not an object"),
        (b"null", "null, not an object"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":' + b"9" * 5000 + b"}", "a number with too many digits"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_shortly(raw, reason):
    rejected = parsed(raw)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason
    assert rejected.head == raw[:HEAD_BYTES]


def test_what_sqlite_cannot_store_is_replaced_wherever_it_stands():
    record = parsed(rb'{"a":"x\ud83dy","b":["\u0000",{"c\udc00":"\udfff"}],"d":"\ud83d\ude00","e":"\\ud83d"}')
    assert record == {"a": "x�y", "b": ["�", {"c�": "�"}], "d": "😀", "e": "\\ud83d"}
    json.dumps(record, ensure_ascii=False).encode()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_raise_and_each_line_is_accounted_for_once(raw):
    items = read(raw, final=True)
    assert len(items) == raw.count(b"\n") + (not raw.endswith(b"\n") and raw != b"")
    assert all(isinstance(parse(item), dict | Rejected) for item in items if isinstance(item, Line))


@settings(deadline=None)
@given(st.integers(0, 200), st.binary(max_size=4), st.integers(0, 8))
def test_no_mutation_of_a_good_line_raises(place, put, cut):
    raw = json.dumps({"role": "user", "content": "größer \ud83d ✓", "n": [1.5, None, {"x": "y" * 60}]}).encode()
    mutated = (raw[:place] + put + raw[place + cut :]).replace(b"\n", b"")
    assert isinstance(parsed(mutated), dict | Rejected)


@settings(deadline=None)
@given(st.integers(0, 120))
def test_whatever_is_cut_off_a_record_the_fields_before_the_cut_are_seen(size):
    raw = b'{"type":"user","n":12,"list":[{"text":"a \\"quoted\\" b"},2],"deep":{"x":{"y":true}},"last":"z' + b"z" * 40
    seen = cut_record(raw[:size])
    assert seen is None or set(seen) <= {"type", "n", "list", "deep", "last", ""}
    if size >= 80:
        assert seen is None or (seen["type"], seen["n"]) == ("user", 12)
    if size > 95:
        assert seen is not None


@pytest.mark.parametrize("head", [b"", b"[1,", b'"text', b"12", b"}}", b"\xff\xfe", b'{"a":' * 100_000])
def test_a_cut_record_that_is_no_object_is_not_seen(head):
    assert cut_record(head) is None

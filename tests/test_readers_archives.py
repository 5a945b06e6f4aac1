"""Compressed transcripts and zips: what is read of damaged ones, and what is refused before or while it is read."""

from __future__ import annotations

import gzip
import io
import json
import stat
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcli.errors import MemcliError, UsageError
from memcli.protocols import Source
from memcli.readers import archives, make_reader
from memcli.readers.archives import DamagedArchiveError, RefusedArchiveError, open_stream, skip, zip_members
from memcli.text import digest

LINE = b'{"role":"user","content":"a line of a log","id":"%d"}\n'
# Lines that compress as logs do, and more of them than one step decompresses.
RAW = b"".join(LINE % int.from_bytes(digest(str(number))[:8]) for number in range(20_000))


def zstd():
    return pytest.importorskip("zstandard", reason="the package for .zst is not here")


def compressed(suffix, raw):
    return gzip.compress(raw) if suffix == ".gz" else zstd().ZstdCompressor().compress(raw)


def written(folder, name, raw):
    path = folder / name
    path.write_bytes(raw)
    return str(path)


def read_all(stream, size=1 << 16):
    """What could be read, and the error behind it."""
    found = []
    try:
        while chunk := stream.read(size):
            assert len(chunk) <= size
            found.append(chunk)
    except MemcliError as error:
        return b"".join(found), error
    return b"".join(found), None


suffixes = pytest.mark.parametrize("suffix", [".gz", ".zst", ".GZ"])


@suffixes
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_compressed_file_is_read_as_what_it_holds(tmp_path, suffix, size):
    path = written(tmp_path, "a.jsonl" + suffix, compressed(suffix.lower(), RAW))
    with open_stream(path) as stream:
        assert read_all(stream, size) == (RAW, None)
        assert stream.fileno() > 2
    with open_stream(path) as stream:
        assert stream.read() == RAW
    assert stream.closed


def test_other_files_are_read_as_they_are(tmp_path):
    path = written(tmp_path, "a.jsonl", RAW)
    with open_stream(path) as stream:
        stream.seek(7)
        assert stream.read() == RAW[7:]


@suffixes
def test_files_that_were_compressed_piece_by_piece_are_read_to_the_end(tmp_path, suffix):
    path = written(tmp_path, "a" + suffix, b"".join(compressed(suffix.lower(), raw) for raw in (RAW, b"", b"end\n")))
    with open_stream(path) as stream:
        assert read_all(stream) == (RAW + b"end\n", None)


@suffixes
def test_of_a_file_that_was_cut_off_all_is_read_that_is_there(tmp_path, suffix):
    whole = compressed(suffix.lower(), RAW)
    path = written(tmp_path, "a" + suffix, whole[: len(whole) // 2])
    with open_stream(path) as stream:
        found, error = read_all(stream)
    assert RAW.startswith(found)
    assert len(found) > len(RAW) // 3
    assert isinstance(error, DamagedArchiveError)
    assert error.exit_code == 3
    assert path in error.message


@suffixes
def test_the_lines_before_the_damage_become_messages(tmp_path, suffix):
    whole = compressed(suffix.lower(), RAW)
    path = written(tmp_path, "a" + suffix, whole[: len(whole) // 2])
    texts = []
    with open_stream(path) as stream, pytest.raises(DamagedArchiveError):
        texts.extend(item.text for item in make_reader("flat").read(Source(stream, final=True)))
    assert len(texts) > 5000


@suffixes
def test_damage_in_the_middle_and_rubbish_behind_the_end_are_errors(tmp_path, suffix):
    whole = compressed(suffix.lower(), RAW)
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(byte ^ 0x55 for byte in whole[middle : middle + 50]) + whole[middle + 50 :]
    for raw in (flipped, whole + b"rubbish behind the end", b"no compressed file at all"):
        with open_stream(written(tmp_path, "a" + suffix, raw)) as stream:
            _, error = read_all(stream)
        assert isinstance(error, DamagedArchiveError)


@suffixes
def test_an_empty_file_is_empty(tmp_path, suffix):
    if suffix == ".zst":
        zstd()
    with open_stream(written(tmp_path, "a" + suffix, b"")) as stream:
        assert read_all(stream) == (b"", None)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_bomb_is_refused_while_it_is_read_and_costs_no_memory(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(archives, "BOMB_BYTES", 16 << 20)
    path = written(tmp_path, "a" + suffix, compressed(suffix, bytes(64 << 20)))
    tracemalloc.start()
    with open_stream(path) as stream, pytest.raises(RefusedArchiveError, match="swells"):
        skip(stream, 64 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


def test_without_its_package_zst_is_refused_with_how_to_get_it(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(archives.importlib, "import_module", missing)
    with pytest.raises(UsageError) as caught:
        open_stream(written(tmp_path, "a.zst", b"x"))
    assert 'pip install "memcli[zstd]"' in caught.value.hint


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    for name in ("a.gz", "a.zst", "a.jsonl"):
        with pytest.raises(FileNotFoundError):
            open_stream(str(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        next(zip_members(str(tmp_path / "a.zip")))


def test_skipping_says_how_much_there_was(tmp_path):
    path = written(tmp_path, "a.gz", gzip.compress(RAW))
    with open_stream(path) as stream:
        assert skip(stream, 1_000_000) == 1_000_000
        assert stream.read(10) == RAW[1_000_000:1_000_010]
        assert skip(stream, 1 << 40) == len(RAW) - 1_000_010


def zipped(folder, *members, method=zipfile.ZIP_DEFLATED):
    """Write (name or ZipInfo, bytes) to a zip."""
    path = folder / "export.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, raw in members:
            archive.writestr(name, raw, compress_type=method)
    return str(path)


def test_only_transcripts_are_taken_out_of_a_zip_whatever_their_folder(tmp_path):
    names = (
        "export/conversations.json conversations-001.json conversations-000.json a/b/log.jsonl user.json chat.html"
        " message_feedback.json __MACOSX/a/._log.jsonl myconversations.json dir.jsonl/"
    ).split()
    path = zipped(tmp_path, *((name, name.encode()) for name in names))
    members = [(name, stream.read()) for name, stream in zip_members(path)]
    expected = ["a/b/log.jsonl", "conversations-000.json", "conversations-001.json", "export/conversations.json"]
    assert members == [(name, name.encode()) for name in expected]
    assert [path.name for path in tmp_path.iterdir()] == ["export.zip"]


def test_conversations_stream_out_of_a_zip(tmp_path):
    conversation = {
        "id": "c",
        "mapping": {"n": {"message": {"author": {"role": "user"}, "content": {"parts": ["hi"]}}}},
    }
    path = zipped(tmp_path, ("conversations.json", json.dumps([conversation] * 3)))
    for _, stream in zip_members(path):
        items = list(make_reader("chatgpt").read(Source(stream, final=True)))
    assert [item.text for item in items] == ["hi"] * 3


def link():
    info = zipfile.ZipInfo("conversations-000.json")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (link(), "is a link"),
        ("../conversations.json", "leads out"),
        ("a/../../log.jsonl", "leads out"),
        ("..\\log.jsonl", "leads out"),
        ("/etc/conversations.json", "leads out"),
        ("\\\\host\\share\\log.jsonl", "leads out"),
        ("C:\\log.jsonl", "leads out"),
        ("../passwd", "leads out"),
    ],
)
def test_a_zip_with_a_link_or_a_path_that_leads_out_is_refused_as_a_whole(tmp_path, member, why):
    path = zipped(tmp_path, ("conversations.json", b"[]"), (member, b"/etc/passwd"))
    with pytest.raises(RefusedArchiveError, match=why) as caught:
        next(zip_members(path))
    assert path in caught.value.message
    assert caught.value.exit_code == 3


def patched(path, *changes):
    """Overwrite two or four bytes of the first entry of a zip's directory, at the offset of a field."""
    raw = bytearray(Path(path).read_bytes())
    directory = raw.index(b"PK\x01\x02")
    for offset, form, value in changes:
        struct.pack_into(form, raw, directory + offset, value)
    Path(path).write_bytes(raw)
    return path


def test_an_encrypted_member_is_refused(tmp_path):
    path = patched(zipped(tmp_path, ("conversations.json", b"[]")), (8, "<H", 1))
    with pytest.raises(RefusedArchiveError, match="encrypted"):
        next(zip_members(path))


def test_a_bomb_is_refused_before_it_is_read(tmp_path):
    path = zipped(tmp_path, ("conversations.json", b"[" + b" " * (101 << 20) + b"]"))
    with pytest.raises(RefusedArchiveError, match="swell to 101 MiB"):
        next(zip_members(path))


def test_members_that_are_bombs_only_together_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "BOMB_BYTES", 1 << 20)
    path = zipped(tmp_path, *((f"{number}.jsonl", bytes(600 << 10)) for number in range(4)))
    with pytest.raises(RefusedArchiveError, match="swell"):
        next(zip_members(path))


def test_members_that_share_their_bytes_are_refused_once_they_swell(tmp_path, monkeypatch):
    """One compressed member that a thousand entries of the directory point to."""
    monkeypatch.setattr(archives, "BOMB_BYTES", 16 << 20)
    raw = bytearray(Path(zipped(tmp_path, ("0000.jsonl", RAW))).read_bytes())
    start, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    entry, tail = raw[start:end], raw[end:]
    name = entry.index(b"0000.jsonl")
    entries = b"".join(entry[:name] + b"%04d" % number + entry[name + 4 :] for number in range(1000))
    struct.pack_into("<HHI", tail, 8, 1000, 1000, len(entries))
    path = written(tmp_path, "shared.zip", bytes(raw[:start] + entries + tail))
    with pytest.raises(RefusedArchiveError, match="swell"):
        next(zip_members(path))


def test_a_zip_within_a_zip_is_not_looked_into(tmp_path):
    inner = Path(zipped(tmp_path, ("conversations.json", b"[]"))).read_bytes()
    outer = tmp_path / "outer"
    outer.mkdir()
    assert list(zip_members(zipped(outer, ("inner.zip", inner), ("inner.jsonl.zip", inner)))) == []


def test_a_list_of_members_that_would_fill_the_memory_is_refused_before_it_is_read(tmp_path):
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0) + b"a.jsonl"
    count = (9 << 20) // len(entry)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, count * len(entry), 0, 0)
    path = written(tmp_path, "many.zip", entry * count + end)
    tracemalloc.start()
    with pytest.raises(RefusedArchiveError, match="list of its members is larger than 8 MiB"):
        next(zip_members(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_what_swells_less_or_is_small_is_no_bomb(tmp_path):
    path = zipped(tmp_path, ("a.jsonl", bytes(1 << 20)), ("b.jsonl", RAW))
    assert [len(stream.read()) for _, stream in zip_members(path)] == [1 << 20, len(RAW)]


def test_a_member_larger_than_declared_is_read_up_to_there_and_then_an_error(tmp_path):
    path = patched(zipped(tmp_path, ("a.jsonl", RAW)), (24, "<I", 1000))
    for _, stream in zip_members(path):
        found, error = read_all(stream, 400)
        assert len(found) <= 1000
        assert RAW.startswith(found)
        assert isinstance(error, DamagedArchiveError)


def test_what_is_no_zip_or_packed_by_an_unknown_method_is_damaged(tmp_path):
    with pytest.raises(DamagedArchiveError):
        next(zip_members(written(tmp_path, "a.zip", b"no zip")))
    path = patched(zipped(tmp_path, ("a.jsonl", RAW)), (10, "<H", 77))
    with pytest.raises(DamagedArchiveError):
        next(zip_members(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_all_usual_methods_are_read(tmp_path, method):
    path = zipped(tmp_path, ("a.jsonl", RAW), method=method)
    assert [stream.read() for _, stream in zip_members(path)] == [RAW]


ZIPPED = io.BytesIO()
with zipfile.ZipFile(ZIPPED, "w", zipfile.ZIP_DEFLATED) as made:
    made.writestr("conversations.json", RAW[:5000])
    made.writestr("a/log.jsonl", RAW[:300])
WHOLE = {"zip": ZIPPED.getvalue(), "gz": gzip.compress(RAW[:5000])}


@pytest.mark.parametrize("suffix", sorted(WHOLE))
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_bytes_end_in_an_error_that_is_shown_and_in_no_other(tmp_path_factory, suffix, data):
    raw = bytearray(WHOLE[suffix])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        raw[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=6))
    path = written(tmp_path_factory.getbasetemp(), "mutated." + suffix, bytes(raw))
    with suppress(MemcliError, OSError):
        if suffix == "zip":
            for _, stream in zip_members(path):
                stream.read()
        else:
            with open_stream(path) as stream:
                stream.read()

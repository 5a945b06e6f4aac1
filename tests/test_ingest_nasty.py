"""What may happen to a file between runs and while it is read, for every format: as lines, as an array, compressed."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import zipfile

import pytest
from support_ingest import Quiet, environ, query, run, texts
from test_readers_nasty import RECORDS

from memcli.readers import READERS, arrays, detect, lines

SAID = [f"Parcel {number} waits behind the {colour} door of the museum." for number, colour in enumerate(
    "green blue yellow white black red grey brown orange violet".split()
)]  # fmt: skip
ARRAYS = ("chatgpt", "openai-messages", "sharegpt")
KINDS = [(name, "lines", packing) for name in READERS for packing in ("", ".gz", ".zst")]
KINDS += [(name, "array", packing) for name in ARRAYS for packing in ("", ".gz", ".zst")]
kinds = pytest.mark.parametrize(("name", "shape", "packing"), KINDS, ids=lambda part: part or "plain")


class Made:
    """Writes transcripts of one kind."""

    def __init__(self, folder, name, shape, packing):
        self.folder = folder
        self.name = name
        self.shape = shape
        self.packing = packing
        folder.mkdir()

    def path(self, stem):
        return self.folder / f"{stem}.{'jsonl' if self.shape == 'lines' else 'json'}{self.packing}"

    def raw(self, *numbers):
        """The bytes of a transcript that says these of `SAID`, packed."""
        records = [json.dumps(RECORDS[self.name](SAID[number], n=number)) for number in numbers]
        raw = f"[{','.join(records)}]" if self.shape == "array" else "".join(f"{record}\n" for record in records)
        if self.packing == ".zst":
            zstandard = pytest.importorskip("zstandard", reason="the package for .zst is not here")
            return zstandard.ZstdCompressor().compress(raw.encode())
        return gzip.compress(raw.encode()) if self.packing else raw.encode()

    def write(self, stem, *numbers):
        path = self.path(stem)
        path.write_bytes(self.raw(*numbers))
        return path


@pytest.fixture
def made(tmp_path, name, shape, packing):
    return Made(tmp_path / "in", name, shape, packing)


@pytest.fixture
def ingest(tmp_path):
    """Ingest without embedding anything; the report."""

    def once(*paths, **options):
        return run(tmp_path / "memory.db", *paths, extract=("rules",), starter_rules=False, **options)

    once.db = tmp_path / "memory.db"
    return once


def new(report):
    assert (report.files.failed, report.rejected) == ([], 0)
    return report.messages_new


@kinds
def test_a_file_that_lives_on_is_never_read_twice_nor_missed(made, ingest):
    path = made.write("a", 0, 1, 2)
    assert new(ingest(made.folder)) == 3
    assert ingest(made.folder).files.unchanged == 1
    # It grows.
    path.write_bytes(made.raw(0, 1, 2, 3))
    assert new(ingest(made.folder)) == 1
    # It is truncated, and grows again.
    path.write_bytes(made.raw(0, 1))
    assert new(ingest(made.folder)) == 0
    path.write_bytes(made.raw(0, 1, 2, 4))
    assert new(ingest(made.folder)) == 1
    # It is rewritten in place.
    path.write_bytes(made.raw(5, 1, 6))
    assert new(ingest(made.folder)) == 2
    # It is rotated: another file takes its name.
    path.rename(made.path("a.1"))
    made.write("a", 7, 8)
    assert new(ingest(made.folder)) == 2
    # Its twin under another name says nothing new.
    shutil.copyfile(path, made.path("b"))
    assert new(ingest(made.folder)) == 0
    report = ingest(made.folder)
    assert (report.files.unchanged, report.lines_read, report.run_id) == (3, 0, None)
    assert texts(ingest.db) == [SAID[number] for number in (0, 1, 2, 3, 4, 5, 6, 7, 8)]
    assert query(ingest.db, "SELECT DISTINCT format FROM files") == [(made.name,)]


class Removing(Quiet):
    """Removes a file when the first batch of it is committed."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def advance(self, read_bytes, messages):
        super().advance(read_bytes, messages)
        self.path.unlink(missing_ok=True)


@kinds
def test_a_file_that_vanishes_while_it_is_read_is_read_to_its_end(made, ingest, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_BYTES", 50)
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 50)
    path = made.write("a", *range(10))
    assert new(ingest(path, batch_size=1, progress=Removing(path))) == 10
    assert not path.exists()
    report = ingest(made.folder)
    assert (report.files.seen, report.run_id) == (0, None)
    assert texts(ingest.db) == SAID


@kinds
def test_a_pipe_is_read_as_what_it_brings(made, ingest):
    path = made.path("pipe")
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(made.raw(0, 1, 2),), daemon=True)
    writer.start()
    assert new(ingest(path)) == 3
    writer.join(10)
    made.write("a", 0, 1, 2)
    assert new(ingest(made.path("a"))) == 0
    assert texts(ingest.db) == SAID[:3]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", READERS)
def test_a_last_line_that_is_cut_waits_in_a_log_and_is_a_rejected_line_in_a_packed_one(tmp_path, ingest, name, packing):
    whole = Made(tmp_path / "in", name, "lines", packing)
    plain = Made(tmp_path / "plain", name, "lines", "").raw(0, 1, 2)[:-9]
    pack = {"": bytes, ".gz": gzip.compress}.get(packing)
    if pack is None:
        pack = pytest.importorskip("zstandard", reason="the package for .zst is not here").ZstdCompressor().compress
    whole.path("a").write_bytes(pack(plain))
    report = ingest(whole.folder)
    assert (report.messages_new, report.files.failed) == (2, [])
    assert [reason for _, _, reason in report.rejections] == (["incomplete last line"] if packing else [])
    whole.write("a", 0, 1, 2)
    assert new(ingest(whole.folder)) == 1
    assert texts(ingest.db) == SAID[:3]


# --- what cannot be read ---------------------------------------------------------------------------------------------

READABLE = {"role": "user", "content": SAID[0], "id": 0}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz", ".jsonl.zst", ".zip"])
def test_a_file_that_fails_while_it_is_read_is_reported_and_the_rest_is_read(tmp_path, ingest, suffix):
    (tmp_path / "in").mkdir()
    # A regular file whose first byte cannot be read.
    (tmp_path / "in" / f"a{suffix}").symlink_to("/proc/self/mem")
    (tmp_path / "in" / "b.jsonl").write_text(json.dumps(READABLE) + "\n")
    report = ingest(tmp_path / "in")
    assert report.messages_new == 1
    ((path, why),) = report.files.failed
    assert path.endswith(f"a{suffix}")
    assert ("damaged" if suffix == ".zip" else "Input/output error") in why


def without_privileges():
    """A prefix under which even root may not read what its permissions forbid; None where there is no such thing."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    works = shutil.which("setpriv") and subprocess.run([*prefix, "true"], check=False).returncode == 0
    return prefix if works else None


def test_what_may_not_be_read_is_reported_and_the_rest_is_read(tmp_path):
    prefix = without_privileges()
    if prefix is None:
        pytest.skip("root may read everything here")
    folder = tmp_path / "in"
    (folder / "closed").mkdir(parents=True)
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl", "closed/d.jsonl"):
        (folder / name).write_text(json.dumps(READABLE) + "\n")
    for name in ("a.jsonl", "b.jsonl.gz", "closed"):
        (folder / name).chmod(0)
    env = {**os.environ, **environ(), "MEMCLI_DB": str(tmp_path / "memory.db")}
    command = [*prefix, sys.executable, "-m", "memcli", "ingest", str(folder), "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    (folder / "closed").chmod(0o700)
    report = json.loads(done.stdout)
    assert (done.returncode, report["messages"]["new"]) == (3, 1)
    for name in ("a.jsonl", "b.jsonl.gz", "closed"):
        assert f"{folder / name}: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


# --- archives that are refused ---------------------------------------------------------------------------------------


def hostile(folder):
    """Zips that are refused or hold no transcript, with what is said of each."""
    link = zipfile.ZipInfo("conversations.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for name, member, raw in (
        ("bomb", "conversations.json", bytes(110 << 20)),
        ("link", link, b"/etc/passwd"),
        ("none", "photo.jpg", b"x"),
        ("traversal", "../conversations.json", b"[]"),
        ("unknown", "log.jsonl", b'{"speed": 3}\n' * 9),
    ):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, raw)
    whole = Made(folder / "whole", "chatgpt", "array", "").raw(0, 1)
    with zipfile.ZipFile(folder / "torn.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("conversations.json", whole)
    raw = (folder / "torn.zip").read_bytes()
    (folder / "torn.zip").write_bytes(raw.replace(b"green", b"grass"))
    return {
        "bomb.zip": "refused: it would swell to 110 MiB, more than 200 times its size",
        "link.zip": "refused: 'conversations.json' is a link",
        "traversal.zip": "refused: the path '../conversations.json' leads out of the archive",
        "unknown.zip/log.jsonl": "no known format; name it with --format (memcli formats lists them)",
        "torn.zip": "conversations.json: damaged: Bad CRC-32 for file 'conversations.json'",
        "none.zip": "no transcript in it: neither conversations.json nor *.jsonl",
    }


def test_of_hostile_and_empty_archives_is_said_once_what_is_wrong_and_nothing_is_unpacked(tmp_path, ingest):
    (tmp_path / "in").mkdir()
    expected = hostile(tmp_path / "in")
    files = sorted((tmp_path / "in").rglob("*"))
    report = ingest(*(tmp_path / "in").glob("*.zip"))
    found = {path.removeprefix(f"{tmp_path}/in/"): why for path, why in report.files.failed}
    assert found == expected
    assert sorted((tmp_path / "in").rglob("*")) == files
    # In a folder a zip need not be an export.
    report = ingest(tmp_path / "in")
    assert [os.path.basename(path) for path in report.files.unknown] == ["none.zip"]  # noqa: PTH119 - as elsewhere
    assert "none.zip" not in {path for path, _ in report.files.failed}


def test_every_kind_is_recognised(tmp_path):
    for number, (name, shape, _) in enumerate(KINDS):
        assert detect(Made(tmp_path / str(number), name, shape, "").raw(0, 1)).name == name

"""What a run tells of its progress: bytes of the input as it lies on disk, then stored messages that it goes over."""

import gzip
import json
import zipfile

import pytest
from support_ingest import Quiet, flat, lines, run, write

SAID = [f"Crate {number} went to the {number * 7}th row of shed {number % 5}." for number in range(4000)]


def conversations(first, last):
    """ChatGPT conversations of one message each."""
    return [
        {
            "id": f"c{number}",
            "current_node": "n",
            "mapping": {"n": {"message": {"author": {"role": "user"}, "content": {"parts": [SAID[number]]}}}},
        }
        for number in range(first, last)
    ]


def array(folder):
    path = folder / "conversations.json"
    path.write_text(json.dumps(conversations(0, 4000)))
    return path


def packed(folder):
    path = folder / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines(*(flat(text, id=number) for number, text in enumerate(SAID)))))
    return path


def export(folder):
    path = folder / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for shard in range(4):
            content = json.dumps(conversations(1000 * shard, 1000 * shard + 1000))
            archive.writestr(f"conversations-00{shard}.json", content)
    return path


def plain(folder):
    return write(folder / "a.jsonl", *(flat(text, id=number) for number, text in enumerate(SAID)))


@pytest.mark.parametrize("made", [plain, array, packed, export])
def test_bytes_read_grow_from_batch_to_batch_to_the_size_of_the_file(tmp_path, made):
    path, progress = made(tmp_path), Quiet()
    run(tmp_path / "memory.db", path, progress=progress, batch_size=500, extract=("rules",))
    assert progress.total == path.stat().st_size
    so_far = [sum(number for number, _ in progress.advanced[: end + 1]) for end in range(len(progress.advanced))]
    assert so_far[-1] == progress.total
    # A file is read in pieces of up to 1 MB, so a batch may come without any byte of its own.
    assert so_far[0] > 0
    assert so_far == sorted(so_far)
    assert sum(messages for _, messages in progress.advanced) >= len(SAID)


def test_what_was_interrupted_in_a_packed_file_is_read_over_from_its_start(tmp_path):
    path = packed(tmp_path)
    run(tmp_path / "memory.db", path, limit=1000, extract=("rules",))
    progress = Quiet()
    run(tmp_path / "memory.db", path, progress=progress, extract=("rules",))
    assert progress.total == path.stat().st_size == sum(number for number, _ in progress.advanced)


def test_partial_windows_are_closed_in_a_phase_of_its_own(tmp_path):
    # Sessions of three messages: all of them wait until the end.
    said = (flat(text, id=number, session_id=number // 3) for number, text in enumerate(SAID[:30]))
    path, progress = write(tmp_path / "a.jsonl", *said), Quiet()
    run(tmp_path / "memory.db", path, progress=progress, batch_size=9)
    ((name, messages, before),) = progress.phases
    assert (name, messages) == ("closing windows", 30)
    assert sum(number for number, _ in progress.advanced[:before]) == path.stat().st_size
    assert progress.advanced[before:] == [(0, 9), (0, 9), (0, 9), (0, 3)]


def test_stored_windows_are_gone_over_in_a_phase_of_its_own(tmp_path):
    path = write(tmp_path / "a.jsonl", *(flat(text, id=number, session_id=1) for number, text in enumerate(SAID[:50])))
    run(tmp_path / "memory.db", path, extract=("rules",))
    progress = Quiet()
    run(tmp_path / "memory.db", progress=progress, extract=("rules", "verbatim"), reextract=True)
    assert [(name, messages) for name, messages, _ in progress.phases] == [("bringing new rules", 50)]
    assert sum(number for _, number in progress.advanced) == 50
    progress = Quiet()
    run(tmp_path / "memory.db", progress=progress, extract=("rules", "verbatim"), reextract=True)
    assert progress.phases == []

"""What a file may do between runs, and that none of it skips or repeats a message."""

import os
import subprocess
import sys

import pytest
from support_ingest import (
    Quiet,
    append,
    assert_same,
    assert_sound,
    environ,
    flat,
    lines,
    memories,
    query,
    run,
    texts,
    user,
    write,
)

from memcli.commands import ingest as command

SAID = [
    "The harbour office moved to the second floor.",
    "Invoices are archived for ten years by the clerk.",
    "Nobody feeds the office cat on public holidays.",
    "The lift is under repair until the summer.",
    "Parcels for the museum wait behind the green door.",
    "Rain came through the roof of the boat house.",
]


@pytest.fixture
def db(tmp_path):
    return tmp_path / "db" / "memory.db"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def records(first, last):
    return [flat(text, session_id="s", id=number) for number, text in enumerate(SAID)][first:last]


def bytes_on_disk(db):
    return {path.name: path.read_bytes() for path in db.parent.iterdir() if not path.name.endswith((".lock", "-shm"))}


def did(report):
    return report.lines_read, report.messages_new, report.messages_duplicate


# --- appended and unchanged ------------------------------------------------------------------------------------------


def test_only_appended_lines_are_read(db, folder):
    file = write(folder / "a.jsonl", *records(0, 4))
    assert did(run(db, folder)) == (4, 4, 0)
    append(file, *records(4, 6))
    assert did(run(db, folder)) == (2, 2, 0)
    assert texts(db) == SAID


@pytest.mark.parametrize("batch_size", [1, 2, 1024])
def test_an_unchanged_folder_reads_no_line_and_writes_no_byte(db, folder, batch_size):
    write(folder / "a.jsonl", *records(0, 4))
    write(folder / "sub" / "b.jsonl", user(SAID[5], "u1"))
    run(db, folder, batch_size=batch_size)
    before = bytes_on_disk(db)
    report = run(db, folder, batch_size=batch_size)
    assert (report.files.seen, report.files.unchanged, report.files.read) == (2, 2, 0)
    assert (report.lines_read, report.embedded, report.batches, report.run_id) == (0, 0, 0, None)
    assert bytes_on_disk(db) == before
    assert query(db, "SELECT count(*) FROM runs") == [(1,)]


def test_a_touched_file_is_looked_at_once_and_no_line_is_read(db, folder):
    file = write(folder / "a.jsonl", *records(0, 4))
    run(db, folder)
    os.utime(file, ns=(1, 1))
    report = run(db, folder)
    assert (did(report), report.files.read) == ((0, 0, 0), 1)
    assert run(db, folder).files.unchanged == 1


def test_a_last_line_without_newline_is_taken_when_it_is_complete(db, folder):
    file = folder / "a.jsonl"
    file.write_bytes(lines(*records(0, 2)).rstrip(b"\n"))
    assert did(run(db, file)) == (2, 2, 0)
    with file.open("ab") as out:
        out.write(b"\n" + lines(*records(2, 3)))
    assert did(run(db, file)) == (1, 1, 0)
    assert run(db, file).files.unchanged == 1
    assert query(db, "SELECT line FROM files") == [(3,)]


@pytest.mark.parametrize("cut", [1, 20, 60, 90])
def test_an_incomplete_last_line_waits_and_is_read_when_it_is_whole(db, folder, cut):
    file = folder / "a.jsonl"
    whole = lines(*records(0, 3))
    last = len(lines(*records(0, 2)))
    file.write_bytes(whole[: last + cut])
    report = run(db, file)
    assert (did(report), report.rejected) == ((2, 2, 0), 0)
    assert run(db, file).files.unchanged == 1
    file.write_bytes(whole)
    assert did(run(db, file)) == (1, 1, 0)
    assert texts(db) == SAID[:3]


def test_a_character_that_is_cut_in_half_at_the_end_waits(db, folder):
    file = folder / "a.jsonl"
    whole = lines(*records(0, 1)) + '{"role": "user", "content": "Grüße vom Hafen", "id": 9}\n'.encode()
    file.write_bytes(whole[: whole.index("ü".encode()) + 1])
    assert run(db, file).rejected == 0
    file.write_bytes(whole)
    assert did(run(db, file)) == (1, 1, 0)
    assert texts(db)[-1] == "Grüße vom Hafen"


@pytest.mark.parametrize("seen", [b"", b'{"role": "us', b'{"role": "user", "content": "The har', b"\n"])
def test_a_file_whose_first_line_is_still_being_written_waits(db, folder, seen):
    file = folder / "a.jsonl"
    file.write_bytes(seen)
    report = run(db, file)
    assert (report.files.failed, report.rejected, report.messages_new) == ([], 0, 0)
    file.write_bytes(b"\n" * (seen == b"\n") + lines(*records(0, 2)))
    assert did(run(db, file))[1:] == (2, 0)


# --- truncated, rewritten, rotated, renamed, copied ------------------------------------------------------------------


def test_a_truncated_file_repeats_no_message(db, folder):
    file = write(folder / "a.jsonl", *records(0, 4))
    run(db, folder)
    os.truncate(file, len(lines(*records(0, 2))))
    assert did(run(db, folder)) == (2, 0, 2)
    append(file, *records(4, 6))
    assert did(run(db, folder)) == (2, 2, 0)
    assert query(db, "SELECT count(*) FROM files") == [(1,)]


def test_a_cursor_beyond_the_end_of_a_file_is_a_warning(db, folder):
    file = write(folder / "a.jsonl", *records(0, 4))
    run(db, folder)
    os.truncate(file, len(lines(*records(0, 2))))
    progress = Quiet()
    run(db, folder, progress=progress)
    assert any("a.jsonl" in note for note in progress.notes)


def test_a_truncated_file_without_ids_that_grows_again_adds_what_is_new(db, folder):
    said = [flat(text, session_id="s") for text in [SAID[0], SAID[0], SAID[1]]]
    file = write(folder / "a.jsonl", *said)
    run(db, folder)
    write(file, said[0])
    assert did(run(db, folder)) == (1, 0, 1)
    append(file, *said[1:], flat(SAID[2], session_id="s"))
    assert did(run(db, folder)) == (3, 1, 2)
    assert texts(db) == [SAID[0], SAID[0], SAID[1], SAID[2]]


@pytest.mark.parametrize("batch_size", [1, 2, 1024])
def test_a_file_rewritten_in_place_is_read_again(db, folder, batch_size):
    file = write(folder / "a.jsonl", *records(0, 4))
    run(db, folder, batch_size=batch_size)
    inode = file.stat().st_ino
    write(file, *records(2, 6))
    assert file.stat().st_ino == inode
    assert did(run(db, folder, batch_size=batch_size)) == (4, 2, 2)
    assert sorted(texts(db)) == sorted(SAID)
    assert run(db, folder).files.unchanged == 1


def test_a_change_just_before_the_cursor_is_seen_behind_the_same_first_bytes(db, folder):
    many = [flat(f"Crate {number} stands in row {number * 7}.", id=number, session_id="s") for number in range(200)]
    file = write(folder / "a.jsonl", *many)
    run(db, folder)
    write(file, *many[:199], flat("Crate 199 stands on the quay.", id=999, session_id="s"))
    assert did(run(db, folder)) == (200, 1, 199)


def test_a_rotated_file_and_its_successor_are_both_read_once(db, folder):
    file = write(folder / "a.jsonl", *records(0, 3))
    run(db, folder)
    append(file, *records(3, 4))
    file.rename(folder / "a.1.jsonl")
    write(file, *records(4, 6))
    assert did(run(db, folder)) == (3, 3, 0)
    assert sorted(texts(db)) == sorted(SAID)
    assert run(db, folder).files.unchanged == 2
    append(file, flat("The ferry leaves from the west quay.", id=77, session_id="s"))
    assert did(run(db, folder)) == (1, 1, 0)


def test_rotation_that_drops_the_old_file_reads_the_new_one_whole(db, folder, tmp_path):
    file = write(folder / "a.jsonl", *records(0, 3))
    run(db, folder)
    file.rename(tmp_path / "elsewhere")
    write(file, *records(3, 6))
    assert did(run(db, folder)) == (3, 3, 0)


def test_a_renamed_file_is_not_read_and_its_new_name_is_kept(db, folder):
    file = write(folder / "a.jsonl", *records(0, 3))
    run(db, folder)
    file.rename(folder / "b.jsonl")
    report = run(db, folder)
    assert (report.files.unchanged, report.lines_read) == (1, 0)
    assert query(db, "SELECT path FROM files") == [(str(folder / "b.jsonl"),)]
    append(folder / "b.jsonl", *records(3, 4))
    assert did(run(db, folder)) == (1, 1, 0)


def test_a_file_replaced_by_a_longer_copy_of_itself_goes_on_at_the_cursor(db, folder):
    file = write(folder / "a.jsonl", *records(0, 3))
    run(db, folder)
    write(folder / "tmp", *records(0, 5)).replace(file)
    assert did(run(db, folder)) == (2, 2, 0)


def test_a_copy_is_read_and_adds_nothing(db, folder):
    file = write(folder / "a.jsonl", *records(0, 3))
    run(db, folder)
    (folder / "b.jsonl").write_bytes(file.read_bytes())
    assert did(run(db, folder)) == (3, 0, 3)
    assert memories(db) == [(text, 1) for text in SAID[:3]]


def test_a_new_file_on_the_inode_of_a_deleted_one_does_not_take_over_its_messages(db, folder):
    file = write(folder / "a.jsonl", *records(0, 3))
    run(db, folder)
    # As if a.jsonl had been deleted and its inode given to b.jsonl, which file systems do.
    file.rename(folder / "b.jsonl")
    write(folder / "b.jsonl", *records(3, 6))
    assert did(run(db, folder)) == (3, 3, 0)
    paths = query(db, "SELECT m.text, f.path FROM messages AS m JOIN files AS f ON f.id = m.file_id ORDER BY m.id")
    names = [str(folder / name) for name in ["a.jsonl"] * 3 + ["b.jsonl"] * 3]
    assert paths == list(zip(SAID, names, strict=True))


# --- links, pipes, what is no transcript -----------------------------------------------------------------------------


def test_links_to_one_file_are_one_file(db, folder):
    file = write(folder / "a.jsonl", *records(0, 3))
    (folder / "b.jsonl").hardlink_to(file)
    (folder / "c.jsonl").symlink_to(file)
    report = run(db, folder, file, folder / "c.jsonl")
    assert (report.files.seen, did(report)) == (1, (3, 3, 0))
    assert run(db, folder).files.unchanged == 1


def test_a_link_that_leads_back_to_itself_or_nowhere_is_reported(db, folder):
    write(folder / "a.jsonl", *records(0, 3))
    (folder / "b.jsonl").symlink_to(folder / "c.jsonl")
    (folder / "c.jsonl").symlink_to(folder / "b.jsonl")
    (folder / "d.jsonl").symlink_to(folder / "gone")
    (folder / "sub").symlink_to(folder)
    report = run(db, folder)
    assert did(report) == (3, 3, 0)
    assert [os.path.basename(path) for path, _ in report.files.failed] == ["b.jsonl", "c.jsonl", "d.jsonl"]  # noqa: PTH119


def test_folders_behind_links_are_walked_and_each_is_entered_once(db, folder, tmp_path):
    outside = tmp_path / "elsewhere"
    write(outside / "deep" / "a.jsonl", *records(0, 2))
    (folder / "link").symlink_to(outside)
    (folder / "same").symlink_to(outside)
    (outside / "deep" / "up").symlink_to(outside)
    (outside / "home").symlink_to(folder)
    write(folder / "b.jsonl", *records(2, 4))
    report = run(db, folder)
    assert (report.files.seen, report.files.failed, did(report)) == (2, [], (4, 4, 0))
    assert [path.removeprefix(f"{folder}/") for (path,) in query(db, "SELECT path FROM files ORDER BY id")] == [
        "b.jsonl",
        "link/deep/a.jsonl",
    ]
    assert run(db, folder).files.unchanged == 2


def test_a_pipe_in_a_folder_is_reported_and_not_waited_for(db, folder):
    write(folder / "b.jsonl", *records(0, 3))
    os.mkfifo(folder / "a.jsonl")
    report = run(db, folder)
    assert did(report) == (3, 3, 0)
    assert report.files.failed == [(str(folder / "a.jsonl"), "not a regular file")]


def test_a_file_that_vanishes_before_it_is_read_is_reported(db, folder, monkeypatch):
    write(folder / "a.jsonl", *records(0, 2))
    write(folder / "b.jsonl", *records(2, 4))
    discover = command.discover

    def discover_and_lose(paths):
        found = discover(paths)
        (folder / "a.jsonl").unlink()
        return found

    monkeypatch.setattr(command, "discover", discover_and_lose)
    report = run(db, folder)
    assert did(report) == (2, 2, 0)
    assert [path for path, _ in report.files.failed] == [str(folder / "a.jsonl")]


def test_an_unknown_format_is_reported_and_nothing_of_it_is_stored(db, folder):
    write(folder / "a.jsonl", {"speed": 3}, {"speed": 4})
    (folder / "b.jsonl").write_text("no JSON at all\n" * 5)
    write(folder / "c.jsonl", *records(0, 2))
    report = run(db, folder)
    assert [os.path.basename(path) for path, _ in report.files.failed] == ["a.jsonl", "b.jsonl"]  # noqa: PTH119
    assert query(db, "SELECT path FROM files") == [(str(folder / "c.jsonl"),)]
    assert texts(db) == SAID[:2]


def test_folders_are_walked_by_name_and_only_transcripts_are_taken(db, folder):
    for number, name in enumerate(["b/x.jsonl", "a/z.jsonl", "a/b/y.JSONL", "c.ndjson", "notes.txt", "c.jsonl.bak"]):
        write(folder / name, *records(number, number + 1))
    run(db, folder)
    assert [path.removeprefix(f"{folder}/") for (path,) in query(db, "SELECT path FROM files ORDER BY id")] == [
        "c.ndjson",
        "a/z.jsonl",
        "a/b/y.JSONL",
        "b/x.jsonl",
    ]


def test_a_file_that_is_named_is_read_whatever_its_suffix(db, folder):
    assert did(run(db, write(folder / "export.txt", *records(0, 2)))) == (2, 2, 0)


# --- standard input --------------------------------------------------------------------------------------------------


def pipe(db, raw, *flags):
    env = {name: value for name, value in os.environ.items() if not name.startswith("MEMCLI_")} | environ()
    command = [sys.executable, "-m", "memcli", "ingest", "-", "--db", str(db), "--quiet", *flags]
    return subprocess.run(command, input=raw, env=env, capture_output=True, check=False, timeout=60)


def test_the_same_standard_input_twice_adds_nothing(db, tmp_path):
    said = [flat(SAID[0]), flat(SAID[0]), flat(SAID[1], id=1)]
    for _ in range(2):
        assert pipe(db, lines(*said)).returncode == 0
    assert texts(db) == [SAID[0], SAID[0], SAID[1]]
    assert pipe(db, lines(*said, flat(SAID[0]))).returncode == 0
    assert texts(db) == [SAID[0], SAID[0], SAID[1], SAID[0]]
    run(db, write(tmp_path / "a.jsonl", *said))
    assert len(texts(db)) == 4
    assert_sound(db)


def test_an_incomplete_last_line_of_standard_input_is_rejected(db):
    result = pipe(db, lines(*records(0, 2)) + b'{"role": "user", "cont')
    assert result.returncode == 3
    assert texts(db) == SAID[:2]
    assert query(db, "SELECT line, reason FROM rejected_lines") == [(3, "incomplete last line")]


# --- any history of a file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 1024])
def test_a_file_that_grows_by_a_few_bytes_a_run_says_what_one_run_says(tmp_path, batch_size):
    raw = lines(*records(0, 2), {"type": "no message"}, flat("Grüße", id=5), *records(2, 3))
    file = tmp_path / "a.jsonl"
    start = len(lines(*records(0, 1)))
    for end in range(start, len(raw) + 1, 13):
        file.write_bytes(raw[:end])
        run(tmp_path / "grown.db", file, batch_size=batch_size)
    file.write_bytes(raw)
    run(tmp_path / "grown.db", file, batch_size=batch_size)
    run(tmp_path / "one.db", file)
    assert texts(tmp_path / "grown.db") == texts(tmp_path / "one.db")
    assert memories(tmp_path / "grown.db") == memories(tmp_path / "one.db")
    assert query(tmp_path / "grown.db", "SELECT offset, line FROM files") == [(len(raw), 5)]
    rejected = "SELECT line, offset, reason, head FROM rejected_lines"
    assert query(tmp_path / "grown.db", rejected) == query(tmp_path / "one.db", rejected)


def test_two_folders_in_one_run_or_in_two_say_the_same(tmp_path):
    first = write(tmp_path / "a" / "x.jsonl", *records(0, 3))
    second = write(tmp_path / "b" / "x.jsonl", user(SAID[0], "u1"), user(SAID[4], "u2"))
    run(tmp_path / "one.db", first.parent, second.parent)
    run(tmp_path / "two.db", first.parent)
    run(tmp_path / "two.db", second.parent)
    assert_same(tmp_path / "one.db", tmp_path / "two.db")

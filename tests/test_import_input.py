"""What `memcli import` makes of files and streams that hold nothing for it."""

import pytest
from support_cli import write_jsonl

NOTE = '{"content": "The heating is serviced every October."}\n'


@pytest.mark.parametrize("rubbish", ["heating\n", "[]\n", "[1,\n2]\n", '"heating"', "\0\1\2", "heating\n" * 3000])
def test_a_stream_without_any_object_is_refused_as_a_file_is(home, tmp_path, rubbish):
    file = tmp_path / "rubbish"
    file.write_text(rubbish)
    for done in (home.run("import", "-", stdin=rubbish), home.run("import", file)):
        assert done.code == 2, done.err
        assert done.out == ""
    if home.db.exists():
        assert home.rows("SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM rejected_lines)") == [(0,)]


def test_a_stream_with_an_object_among_rubbish_is_taken(home):
    done = home.run("import", "-", "--json", stdin=f"heating\n{NOTE}[]\n")
    assert (done.code, done.json["created"], done.json["rejected"]) == (3, 1, 2), done.err


def test_an_empty_file_or_stream_writes_nothing(home, tmp_path):
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    for done in (home.run("import", empty), home.run("import", "-", stdin=b"\n")):
        assert (done.code, "Nothing new" in done.out) == (0, True), done.err
    assert home.rows("SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM files)") == [(0,)]
    empty.write_text(NOTE)
    assert home.run("import", empty, "--json").json["created"] == 1, "what is written into it later is read"
    empty.write_text("")
    assert home.run("import", empty).code == 0
    empty.write_text(NOTE)
    assert home.run("import", empty, "--json").json["created"] == 0

"""What memcli writes is for its owner only, at every moment; and without settings it asks nobody for anything."""

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest
from support_cli import FIXTURES, Home, write_jsonl

# Python runs this before memcli. It looks at everything in the user's folders before each thing that is done to a file
# or a database, and every two milliseconds beside it, and lets nothing out into the network.
WATCHER = """
import atexit, json, os, stat, sys, threading, time

_roots = os.environ["WATCHED"].split(":")
_seen = {}
_asked = []
_looking = threading.local()
_FILES = ("open", "os.", "sqlite3.", "shutil.", "tempfile.")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.bind", "socket.sendto", "urllib.")


def _look():
    if getattr(_looking, "now", False):
        return
    _looking.now = True
    try:
        for root in _roots:
            for folder, folders, files in os.walk(root):
                for name in (*folders, *files):
                    path = os.path.join(folder, name)
                    try:
                        found = os.lstat(path)
                    except OSError:
                        continue
                    if not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o077:
                        _seen[path] = oct(found.st_mode)
    finally:
        _looking.now = False


def _hook(event, arguments):
    if event.startswith(_FILES):
        _look()
    elif event.startswith(_NETWORK):
        _asked.append(f"{event} {arguments!r}")
        raise OSError("no network here")


def _always():
    _looking.now = False
    while True:
        _look()
        time.sleep(0.002)


def _tell():
    _look()
    with open(os.environ["TOLD"], "w") as told:
        json.dump({"wide": _seen, "asked": _asked}, told)


atexit.register(_tell)
sys.addaudithook(_hook)
threading.Thread(target=_always, daemon=True).start()
"""


@pytest.fixture
def watched(tmp_path):
    """A user with a umask of 0, of whose every run `tell` tells what others could see of it and whom it asked."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WATCHER)
    home = Home(tmp_path / "home")
    temporary = tmp_path / "temporary"
    temporary.mkdir(mode=0o700)
    home.told = tmp_path / "told"
    home.env |= {
        "PYTHONPATH": f"{site}{os.pathsep}{home.env['PYTHONPATH']}",
        "WATCHED": f"{home.folder}:{temporary}",
        "TMPDIR": str(temporary),
        "TOLD": str(home.told),
    }
    before = os.umask(0)
    yield home
    os.umask(before)


def _run(home, *command):
    home.told.unlink(missing_ok=True)
    done = home.run(*command)
    return done, json.loads(home.told.read_text())


def _commands(home):
    chat = write_jsonl(home.told.parent / "chat.jsonl", [{"role": "user", "content": "I prefer tea.", "id": "1"}])
    out = home.folder / "out"
    return [
        ("ingest", FIXTURES, "--dry-run"),
        ("ingest", FIXTURES),
        ("ingest", chat, "--workers", "2"),
        ("search", "what did we decide about retries"),
        ("dedup", "--threshold", "0.6"),
        ("dedup", "--dry-run"),
        ("rules", "add", "tea", "--name", "tea"),
        ("rules", "test", "tea", chat),
        ("rules", "export", f"{out}.toml"),
        ("export", "--out", f"{out}.jsonl", "--with-vectors", f"{out}.npz"),
        ("export", "--out", f"{out}.csv", "--format", "csv"),
        ("import", f"{out}.jsonl", "--db", home.folder / "deep" / "er" / "other.db"),
        ("cost", "estimate", chat, "--extract", "rules"),
        ("reindex", "--compress", "int8"),
        ("reindex", "--check"),
        ("check",),
        ("check", "--secrets"),
        ("check", "--repair"),
        ("backup", home.folder / "backup.db"),
        ("export", "--datasette", f"{out}.metadata.json"),
        ("forget", "--source", chat, "--dry-run"),
        ("forget", "--source", chat, "--yes"),
        ("stats",),
        ("model", "list"),
        ("model", "info", "default"),
        ("config", "show"),
        ("profiles",),
        ("formats",),
        ("rules", "coverage"),
        ("cost", "report"),
        ("--version",),
    ]


def test_at_no_moment_may_others_read_anything_and_nobody_is_asked(watched):
    for command in _commands(watched):
        done, told = _run(watched, *command)
        assert done.code in {0, 2}, (command, done)
        assert told["asked"] == [], command
        assert told["wide"] == {}, command
    written = {each.name for each in watched.folder.rglob("*")}
    assert {
        "memory.db",
        "memory.db.lock",
        "out.jsonl",
        "out.npz",
        "out.csv",
        "out.toml",
        "other.db",
        "backup.db",
        "out.metadata.json",
    } <= written
    assert any(watched.data.rglob("model.onnx")), "the copy of the model"
    assert not any((watched.told.parent / "temporary").iterdir()), "nothing is left of what was temporary"


def test_the_log_beside_an_open_database_is_for_its_owner_only(watched):
    with watched.start("ingest", "-") as process:
        process.stdin.write(b'{"role": "user", "content": "I prefer green tea over coffee."}\n')
        process.communicate(timeout=120)
    _, told = _run(watched, "search", "tea")
    assert told["wide"] == {}
    assert stat.S_IMODE(watched.db.stat().st_mode) == 0o600


def test_the_figures_for_monitoring_are_the_one_file_that_others_may_read(watched):
    assert _run(watched, "ingest", FIXTURES)[0].code == 0
    done, _ = _run(watched, "stats", "--prometheus", watched.folder / "memcli.prom")
    assert done.code == 0
    wide = [each.name for each in watched.folder.rglob("*") if each.stat().st_mode & 0o077]
    assert wide == ["memcli.prom"]


def test_the_watcher_sees_what_it_should_see(watched):
    """Else the tests above would say nothing."""
    watched.run("formats")
    done = watched.python(
        "import os, socket, pathlib\n"
        "path = pathlib.Path('secret'); path.write_text('x'); path.stat(); os.rename('secret', 'other'); path = None\n"
        "os.remove('other')\n"
        "socket.getaddrinfo('example.org', 80)\n"
    )
    assert "no network here" in done.err
    told = json.loads(watched.told.read_text())
    assert str(watched.folder / "secret") in told["wide"]
    assert told["asked"]


def test_a_file_for_the_owner_only_is_never_anything_else(tmp_path):
    from memcli.files import make_private_file, make_private_folder, write_private

    before = os.umask(0)
    try:
        make_private_folder(tmp_path / "a" / "b" / "c")
        make_private_file(tmp_path / "a" / "file")
        write_private(tmp_path / "a" / "text", "x")
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "a").rglob("*")}
    assert modes == {"b": 0o700, "c": 0o700, "file": 0o600, "text": 0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert Path(tempfile.gettempdir()).is_dir()

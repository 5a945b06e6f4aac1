"""memcli as real processes: run, started, killed at a named moment. Also the program that those processes run in.

`python support_cli.py` is the nursery: it imports memcli once and then forks a process for each request, so that a
crash test pays for a run and not for its imports. What it forks calls `memcli.cli.main` and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib
import json
import os
import pty
import re
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import memcli
from memcli.bench.corpus import generate

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "fixtures" / "transcripts"
SHARED = ROOT.parent / "shared"
# Longer than any run takes on a busy machine: a hang fails instead of stopping the suite.
PATIENCE = 120
ESCAPE_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# What must never reach a terminal: C0 but for the newline, DEL and C1, and the characters that turn text around.
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]")


@dataclass(frozen=True)
class Done:
    """A process that ended: `code` is negative for a signal."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON document on stdout."""
        return json.loads(self.out)


class Home:
    """A folder of its own for one user of memcli: database, data, configuration, working folder."""

    def __init__(self, folder: Path, data: Path | None = None, nursery: Nursery | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.nursery = nursery
        self.folder = folder
        self.db = folder / "memory.db"
        self.data = data or folder / "data"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("MEMCLI_", "PYTHON"))}
        for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES", "TTY_COMPATIBLE"):
            self.env.pop(name, None)
        self.env |= {
            "MEMCLI_DB": str(self.db),
            "MEMCLI_DATA_DIR": str(self.data),
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm",
        }

    def start(self, *args: str | Path, **options) -> subprocess.Popen:
        """Start memcli; stdin, stdout and stderr are pipes unless `options` says otherwise."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-m", "memcli", *map(str, args)]
        return subprocess.Popen(command, **(pipes | {"env": self.env, "cwd": self.folder} | options))

    def run(self, *args: str | Path, stdin: bytes | str = b"", env: dict[str, str] | None = None) -> Done:
        """Run memcli to its end, in the nursery where there is one."""
        if self.nursery and not stdin:
            return self.nursery.run(self, *args, env=env)
        with self.start(*args, env=self.env | (env or {})) as process:
            out, err = process.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout=PATIENCE)
        return Done(process.returncode, out.decode(), err.decode())

    def python(self, code: str, *args: str | Path) -> Done:
        """Run a piece of Python with the arguments as `sys.argv[1:]`, as one who embeds or patches memcli does."""
        command = [sys.executable, "-c", code, *map(str, args)]
        found = subprocess.run(
            command, env=self.env, cwd=self.folder, capture_output=True, timeout=PATIENCE, check=False
        )
        return Done(found.returncode, found.stdout.decode(), found.stderr.decode())

    def on_terminal(self, *args: str | Path, env: dict[str, str] | None = None, columns: int = 80) -> Done:
        """Run memcli on a terminal of so many columns; `out` is all that it wrote there, errors included."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        with self.start(*args, env=self.env | (env or {}), **terminal) as process:
            os.close(theirs)
            written = b""
            with contextlib.suppress(OSError):  # how the end of a terminal is told
                while chunk := os.read(ours, 1 << 16):
                    written += chunk
            process.wait(PATIENCE)
        os.close(ours)
        return Done(process.returncode, written.decode().replace("\r\n", "\n"), "")

    def rows(self, sql: str, *values: object) -> list[tuple]:
        """Ask the database, as any other program would."""
        with contextlib.closing(sqlite3.connect(f"{self.db.as_uri()}?mode=ro", uri=True)) as conn:
            return conn.execute(sql, values).fetchall()


def finish(process: subprocess.Popen, stdin: bytes | None = None) -> Done:
    """Wait for the end of a started process."""
    out, err = process.communicate(stdin, timeout=PATIENCE)
    return Done(process.returncode, (out or b"").decode(), err.decode())


def wait_for(what: Callable[[], object], process: subprocess.Popen | None = None) -> None:
    """Wait until `what` is true; fail at once when the process that should bring it about has ended."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "waited in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def powerless() -> list[str] | None:
    """What to put before a command so that permissions hold for it even if root runs it; None where nothing does."""
    if os.geteuid() != 0:
        return []
    drop = "-dac_override,-dac_read_search"
    prefix = ["setpriv", "--inh-caps", drop, "--bounding-set", drop]
    works = shutil.which("setpriv") and subprocess.run([*prefix, "true"], check=False).returncode == 0
    return prefix if works else None


def holds_lock(home: Home, process: subprocess.Popen) -> Callable[[], bool]:
    """Whether the process has written its id into the lock file."""
    lock = home.db.with_name(home.db.name + ".lock")
    return lambda: lock.is_file() and f"process {process.pid}," in lock.read_text()


def write_jsonl(path: Path, records: object) -> Path:
    """Write records as JSON Lines; lone surrogates and controls are written as JSON escapes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def some_chat(count: int, seed: int = 3) -> Iterator[dict[str, object]]:
    """Generated messages, every third one without an id and a time: those are told apart by occurrence numbers."""
    for number, message in enumerate(generate(count, seed)):
        if number % 3 == 0:
            del message["id"], message["timestamp"]
        if number % 9 == 0:
            message["role"], message["content"] = "user", "The nightly build is green again."
        yield message


class Nursery:
    """Starts memcli in processes that are forked with everything imported. Use with `with`."""

    def __enter__(self) -> Self:
        command = [sys.executable, __file__]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()

    def run(
        self,
        home: Home,
        *args: str | Path,
        env: dict[str, str] | None = None,
        moment: str = "",
        trace: bool = False,
        after: float = 0.0,
    ) -> Done:
        """Run memcli to its end, or until the `moment` (see `_arm`); `after` seconds it is killed from outside.

        With `trace` the moments that it passes are left in `home.folder / "trace"`, as JSON.
        """
        request = {"args": list(map(str, args)), "env": home.env | (env or {}), "cwd": str(home.folder)}
        self._process.stdin.write(json.dumps(request | {"moment": moment, "trace": trace}) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        if after:
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)  # a zombie at worst: the nursery waits for it only after the next line
        overdue = threading.Timer(PATIENCE, os.kill, (pid, signal.SIGKILL))
        overdue.start()
        self._process.stdin.write("wait\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        overdue.cancel()
        # What was killed at its very beginning has not made its files.
        files = (home.folder / name for name in ("stdout", "stderr"))
        return Done(code, *(file.read_bytes().decode() if file.exists() else "" for file in files))


# --- the nursery's side ----------------------------------------------------------------------------------------------


def _serve() -> None:
    names = "ingest dedup exchange rules rule_trials search config model reindex forget check backup"
    commands = tuple(f"commands.{each}" for each in names.split())
    for name in ("cli", *commands, "embed.onnx", "render"):
        importlib.import_module(f"memcli.{name}")
    importlib.import_module("filelock")

    while line := sys.stdin.readline():
        request = json.loads(line)
        if "CHAT_KEY" in request["env"]:
            importlib.import_module("openai")  # half a second, for each who asks a model
        if (pid := os.fork()) == 0:
            _run(request)
        _answer(pid)
        sys.stdin.readline()
        _answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _run(request: dict) -> None:
    """Become memcli, in the forked process; it ends here, whatever happens."""
    code = 1
    passed = {}
    try:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        for descriptor, name in enumerate(("stdout", "stderr"), 1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        sys.argv = ["memcli", *request["args"]]
        if request["moment"] or request["trace"]:
            passed = _arm(request["moment"])
        memcli.cli.main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - memcli should have caught it: the test sees the trace
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if request["trace"]:
            Path("trace").write_text(json.dumps(passed))
        os._exit(code)


def _arm(moment: str) -> dict[str, list[Any]]:
    """Let the process end itself at a moment; the moments that it passes are listed in what is returned.

    "KILL:stage:5" at the fifth thing that the progress is told or that is read, "KILL:before:5" and "KILL:after:5"
    around the fifth SQL statement, "KILL:commit:2:5000" within the second COMMIT, once 5,000 bytes of it are written,
    "KILL:named:5" at the fifth of all moments that have a name (see `_name` and `_arm_names`).
    INT and TERM instead of KILL send that signal and go on. `held` are the seconds that each transaction took.
    """
    name, _, rest = moment.partition(":")
    kind, _, where = rest.partition(":")
    number, _, size = where.partition(":")
    passed: dict[str, list[Any]] = {"stage": [], "before": [], "after": [], "commit": [], "named": [], "held": []}
    lock = threading.RLock()

    def passes(what: str, text: str) -> None:
        with lock:
            if named := text if what in {"stage", "named"} else _name(what, text):
                passed["named"].append(named)
            if what != "named":
                passed[what].append(text)
            due = (what == kind or (kind == "named" and named)) and len(passed[kind]) == int(number)
        if due and what == "commit":
            _limit_files(int(size))
        elif due:
            os.kill(os.getpid(), signal.Signals[f"SIG{name}"])

    _arm_stages(passes)
    _arm_names(passes)
    sqlite3.connect = functools.partial(sqlite3.connect, factory=_connection_class(passes, passed["held"]))
    return passed


def _arm_stages(passes: Callable[[str, str], None]) -> None:
    feed, render = memcli.ingest.feed.Feed, memcli.render.ConsoleProgress

    def before(owner: type, method: str, label: str) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def patched(self: object, *args: object) -> object:
            passes("stage", label or f"stage {args[0]}")
            return original(self, *args)

        setattr(owner, method, patched)

    for method in ("start", "advance", "finish"):
        before(render, method, method)
    before(render, "stage", "")
    before(feed, "_cut", "stage read")


def _arm_names(passes: Callable[[str, str], None]) -> None:
    """Moments that neither the progress is told nor SQLite: the run lock, files beside it, the report."""

    def patch(owner: object, name: str, label: str, *, after: bool = False) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def patched(*args: object, **options: object) -> object:
            if not after:
                passes("named", label)
            found = original(*args, **options)
            if after:
                passes("named", label)
            return found

        setattr(owner, name, patched)

    lock = importlib.import_module("filelock").FileLock
    patch(lock, "acquire", "locked", after=True)
    patch(lock, "release", "unlock")
    patch(importlib.import_module("memcli.embed.models"), "move_folder", "keep model")
    patch(importlib.import_module("memcli.render.terminal"), "write", "report")
    patch(os, "fsync", "file written", after=True)


_WRITES = re.compile(r"(?:INSERT|REPLACE|UPDATE|DELETE)\b(?: OR \w+)?(?: INTO| FROM)? \"?(\w+)")


def _name(side: str, sql: str) -> str:
    """What the moment before or after a statement is called; nothing for one that only reads."""
    if side == "after":
        return "committed" if sql == "COMMIT" else ""
    if side != "before":
        return ""
    if sql.startswith(("CREATE", "ALTER", "DROP")):
        return "migrate"
    for beginning, name in (("BEGIN IMM", "begin"), ("COMMIT", "commit"), ("VACUUM", "vacuum"), ("ROLLBACK", "")):
        if sql.startswith(beginning):
            return name
    if sql.startswith(("PRAGMA journal_mode", "PRAGMA wal_checkpoint")):
        return sql.split()[1]
    found = _WRITES.match(sql)
    return f"write {found[1]}" if found else ""


def _connection_class(passes: Callable[[str, str], None], held: list[float]) -> type[sqlite3.Connection]:
    class Connection(sqlite3.Connection):
        began = 0.0

        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
            if sql == "COMMIT":
                passes("commit", sql)
            return self._between(super().execute, sql, *args)

        def executemany(self, sql: str, *args: object) -> sqlite3.Cursor:
            return self._between(super().executemany, sql, *args)

        def backup(self, *args: Any, **options: Any) -> None:
            passes("named", "pages")
            super().backup(*args, **options)
            passes("named", "pages copied")

        def executescript(self, sql: str) -> sqlite3.Cursor:
            return self._between(super().executescript, sql)

        def _between(self, run: Callable[..., sqlite3.Cursor], sql: str, *args: object) -> sqlite3.Cursor:
            passes("before", sql)
            found = run(sql, *args)
            passes("after", sql)
            if sql == "BEGIN IMMEDIATE":
                self.began = time.monotonic()
            elif sql == "COMMIT":
                held.append(time.monotonic() - self.began)
            return found

    return Connection


def _limit_files(size: int) -> None:
    """Let the kernel end this process when it has written `size` bytes more to the write-ahead log."""
    log = Path(os.environ["MEMCLI_DB"] + "-wal")
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    limit = log.stat().st_size + size
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _serve()

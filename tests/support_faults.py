"""What the tests of faults share: processes with limits, without rights, with another clock; what an error must be."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from support_cli import PATIENCE, ROOT, UNSAFE, Done, Home

_PR_CAPBSET_DROP = 24
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2
MEGA = 1 << 20

# Python reads a module of this name at its start: the only clock that a process has is moved before memcli is there.
_OTHER_CLOCK = """
import datetime, os, time
_moved = float(os.environ["CLOCK_MOVED_BY"])
_time, _time_ns, _Real = time.time, time.time_ns, datetime.datetime
time.time = lambda: _time() + _moved
time.time_ns = lambda: _time_ns() + int(_moved * 1e9)
class Moved(_Real):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)
datetime.datetime = Moved
"""


def limited(kind: int, size: int) -> Callable[[], None]:
    """For `preexec_fn`: so many bytes and no more."""

    def limit() -> None:
        resource.setrlimit(kind, (size, size))

    return limit


def without_rights() -> None:
    """For `preexec_fn`: root, too, may only do what the mode of a file says."""
    libc = ctypes.CDLL(None)
    for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def hangs_up() -> None:
    """For `preexec_fn`: the end of the terminal is told, even where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def run(home: Home, *words: str | Path, prepare: Callable[[], None] | None = None, **options: object) -> Done:
    """Run memcli to its end as a process of its own; `prepare` is done in it before it becomes memcli."""
    with home.start(*words, preexec_fn=prepare, stdin=subprocess.DEVNULL, **options) as process:
        out, err = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, (out or b"").decode(), (err or b"").decode())


def with_clock(home: Home, folder: Path, seconds: float) -> dict[str, str]:
    """The environment of a process whose clock goes wrong by so many seconds."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_OTHER_CLOCK)
    return home.env | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "CLOCK_MOVED_BY": str(seconds)}


def assert_clear(done: Done, code: int, *says: str) -> None:
    """An error as it should be: the code of the table, what is wrong, what to do, and nothing else."""
    assert done.code == code, done
    for text in says:
        assert text in done.err, done.err
    for bad in ("Traceback", "unexpected fault", "Fatal", "Exception ignored"):
        assert bad not in done.err, done.err
    assert not UNSAFE.search(done.err)
    errors = [line for line in done.err.splitlines() if line.startswith("memcli: ")]
    assert errors, "an error says what is wrong"
    assert done.err.splitlines()[-1].startswith("        "), "and what to do next"

"""A measured command: a process of its own, timed and weighed from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memcli.bench import measure
from memcli.errors import MemcliError

_MEGA = 1e6


@dataclass(frozen=True, slots=True)
class Measured:
    """What a process took, and the JSON document that it printed."""

    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    document: Any


def run_python(
    arguments: Sequence[str], folder: Path, data_dir: Path | None = None, *, quiet: bool = False
) -> Measured:
    """Run Python with `arguments` in `folder`, with memcli's database and data there and none of the user's settings.

    `data_dir` names another folder of memcli's data; `quiet` says that nobody wants to read its errors.

    Raises:
        MemcliError: it failed.
    """
    (folder / "memcli.toml").touch(mode=0o600)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MEMCLI_")}
    environment |= {"MEMCLI_DATA_DIR": str(data_dir or folder / "data"), "MEMCLI_DB": str(folder / "memory.db")}
    report = folder / "report.json"
    # No shell, and nothing in the command comes from outside; -I -S keeps the measuring process small.
    with subprocess.Popen(  # noqa: S603 - as said
        [sys.executable, "-I", "-S", str(measure.__file__), str(report), sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        env=environment,
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate()
        except BaseException:
            # What is measured is a child of that child, and would go on for as long as it takes.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise MemcliError(
            f"measuring {' '.join(arguments[:3])} failed with exit code {process.returncode}", "what it said is above"
        )
    found = json.loads(out)
    if found["code"] != 0:
        raise MemcliError(
            f"the measured {' '.join(arguments[:3])} failed with exit code {found['code']}", "what it said is above"
        )
    document = json.loads(report.read_text(encoding="utf-8"))
    return Measured(found["seconds"], found["cpu"], found["peak_rss"] / _MEGA, document)

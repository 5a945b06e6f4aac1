"""What a benchmark ran on: hardware and versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from memcli import __version__
from memcli.store.metrics import sqlite_version
from memcli.workers import available

_PACKAGES = ("numpy", "onnxruntime", "tokenizers", "google-re2")


def versions() -> dict[str, str]:
    """Versions of memcli and of what its speed depends on."""
    own = {"memcli": __version__, "python": platform.python_version(), "sqlite": sqlite_version()}
    return own | {package: version(package) for package in _PACKAGES}


def machine() -> dict[str, object]:
    """Processor, cores this process may use, memory in bytes, system."""
    return {
        "processor": _processor(),
        "cores": available(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(terse=True),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n")
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()

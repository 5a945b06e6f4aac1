"""The standard streams, whatever state they are in: closed, a pipe that nobody reads any more, a full disk."""

from __future__ import annotations

import contextlib
import io
import os
import sys

_STDERR = 2


class _Forgiving(io.FileIO):
    """A file whose failures are nobody's business: from the first one on, what is written goes nowhere."""

    def write(self, data: object) -> int:
        """See io.RawIOBase."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            _to_nowhere(self.fileno())
            return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare() -> None:
    """Open what is closed, and let nothing that cannot be shown on stderr stop the work.

    A closed stream's number would be that of the next file that is opened: messages would end in it.
    """
    for number in range(_STDERR + 1):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - open until the end
    raw = _Forgiving(_STDERR, "w", closefd=False)
    encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True
    )


def drop_output() -> None:
    """Let go of what stdout did not take: Python would try once more at its end, and say so."""
    with contextlib.suppress(OSError, ValueError):
        _to_nowhere(sys.stdout.fileno())


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, number)
    os.close(nowhere)

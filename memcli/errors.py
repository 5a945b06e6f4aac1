"""The MemcliError tree: one exit code per class, one table that the help and the README print."""

from __future__ import annotations

import os

_LONGEST_SHOWN = 500
_LOOP = "Symlink loop from "


class MemcliError(Exception):
    """An error that is shown to the user as `message`, then what to do about it as `hint`.

    `excerpt` is a text that the user wrote and the index in it of what is wrong; None where there is no such text.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", excerpt: tuple[str, int] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.excerpt = excerpt


class UsageError(MemcliError):
    """The command line, the configuration or an argument is wrong."""

    exit_code = 2


class InputRejectedError(MemcliError):
    """The run is done, but lines or files of its input were not taken."""

    exit_code = 3


class NoDatabaseError(MemcliError):
    """The command reads a database that does not exist."""

    exit_code = 4


class LockedError(MemcliError):
    """Another run holds the database's run lock."""

    exit_code = 5


class MismatchError(MemcliError):
    """The database's schema or embedding model is not one that this program can work with."""

    exit_code = 6


class ProviderError(MemcliError):
    """A model provider failed or a budget was reached; what was done is kept."""

    exit_code = 7


class DamagedError(MemcliError):
    """The database or a model file is damaged."""

    exit_code = 8


class InterruptedRunError(MemcliError):
    """The user or the system stopped the run; what was committed is kept."""

    exit_code = 130


def about_path(error: Exception) -> UsageError | None:
    """What the system says against a path, as an error of whoever named it; None for errors about anything else.

    The path may be too long, lead through a file or in a circle, or to what the user may not read or write: the same
    whichever command was given it, so that it is told in one place.
    """
    hint = "check the path and the permissions, or name another"
    if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):  # what pathlib makes of it before Python 3.13
        return UsageError(str(error), hint)
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes):
        return None
    path = os.fsdecode(error.filename)
    shown = path if len(path) <= _LONGEST_SHOWN else f"{path[: _LONGEST_SHOWN // 2]}…{path[-_LONGEST_SHOWN // 2 :]}"
    return UsageError(f"cannot use {shown}: {error.strerror}", hint)


EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "unexpected fault: a bug; --verbose shows the trace",
    2: "wrong usage",
    3: "done, but some input was rejected (see the table rejected_lines)",
    4: "no database",
    5: "locked by another run",
    6: "schema or model mismatch",
    7: "provider failed or budget reached, progress kept",
    8: "damaged database or model file",
    130: "interrupted, progress kept",
}

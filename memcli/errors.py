"""The MemcliError tree: one exit code per class, one table that the help and the README print."""

from __future__ import annotations


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
    """The command line, the configuration or an argument is wrong, or the machine does not let it be done."""

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
    """The database or a model file is damaged. `fault`: what that has led to, where no error of ours told of it."""

    exit_code = 8
    fault: Exception | None = None


class InterruptedRunError(MemcliError):
    """The user or the system stopped the run; what was committed is kept."""

    exit_code = 130


EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "unexpected fault: a bug; --verbose shows the trace",
    2: "wrong usage; no right, no room or no memory for it",
    3: "done, but some input was rejected (see the table rejected_lines)",
    4: "no database",
    5: "locked by another run",
    6: "schema or model mismatch",
    7: "provider failed or budget reached, progress kept",
    8: "damaged database or model file",
    130: "interrupted, progress kept",
}

"""The command line: one module per command with its flags; `app` has the one error boundary."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # that of `typing` costs 10 ms in which a signal would end in a trace
if TYPE_CHECKING:
    from typing import NoReturn

_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit with the code that the README's table gives."""
    # Importing what the commands need takes longer than a hasty Ctrl-C: until then there is nothing to say or to keep.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    from memcli.cli.app import run  # noqa: PLC0415 - as above

    run()


def _end(_number: int, _frame: object) -> NoReturn:
    os._exit(_INTERRUPTED)

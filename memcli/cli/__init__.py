"""The command line: one module per command with its flags; `app` has the one error boundary."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # that of `typing` costs 10 ms in which a signal would end in a trace
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_INTERRUPTED = 130
# What asks a run to stop: Ctrl-C, `kill` and the system's shutdown, the end of the terminal.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> NoReturn:
    """Run the command line and exit with the code that the README's table gives."""
    # Importing what the commands need takes longer than a hasty Ctrl-C: until then there is nothing to say or to keep.
    on_stopping(_end)
    from memcli.cli.app import run  # noqa: PLC0415 - as above

    run()


def on_stopping(handler: Callable[[int, object], NoReturn] | signal.Handlers) -> None:
    """Let `handler` take the signals that stop a run; under nohup(1), the end of the terminal does not."""
    for number in STOPPING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _end(_number: int, _frame: object) -> NoReturn:
    os._exit(_INTERRUPTED)

"""A small program that runs a command and tells on stdout how long it took and how large it became, as JSON.

A process of its own, that imports next to nothing: the largest memory that the system reports of a process is at
least what its parent had when it was started. The command's stdout goes to the file that is named first.
"""

import json
import os
import signal
import sys
import time


def main() -> None:
    """Run `sys.argv[2:]` with its stdout in the file `sys.argv[1]`."""
    # Interrupted, it just ends: whoever started it says so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    report = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    began = time.perf_counter()
    pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, report, 1)])
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    # Linux counts kilobytes of 1024, macOS bytes.
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    json.dump(
        {
            "seconds": seconds,
            "cpu": usage.ru_utime + usage.ru_stime,
            "peak_rss": peak,
            "code": os.waitstatus_to_exitcode(status),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()

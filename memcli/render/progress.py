"""Progress on stderr."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from memcli.render.terminal import safe

LINE_INTERVAL = 10.0


class ConsoleProgress:
    """Progress on stderr: a bar on a terminal, else a plain line every ten seconds, nothing when `quiet`.

    `unit` is what is counted beside bytes, or, without `of_bytes`, instead of them.
    """

    def __init__(self, *, quiet: bool, verbose: bool, unit: str = "messages", of_bytes: bool = True) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._unit = unit
        self._quiet = quiet
        self._verbose = verbose
        self._of_bytes = of_bytes
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total: int | None = None
        self._bytes = 0
        self._messages = 0
        self._batch = 1
        self._began = self._last_line = time.monotonic()

    def start(self, total_bytes: int | None) -> None:
        """See protocols.Progress."""
        self._total = total_bytes
        self._began = self._last_line = time.monotonic()
        if self._quiet or self._verbose or total_bytes == 0 or not self._console.is_terminal:
            return
        of_bytes = [DownloadColumn(), TransferSpeedColumn()] if self._of_bytes else []
        self._bar = Progress(
            TextColumn(f"{{task.fields[messages]:,}} {self._unit}, {{task.fields[rate]:,.0f}}/s"),
            BarColumn(),
            *of_bytes,
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=total_bytes, messages=0, rate=0.0)
        self._bar.start()

    def advance(self, read_bytes: int, messages: int) -> None:
        """See protocols.Progress."""
        self._bytes += read_bytes
        self._messages += messages
        self._batch += 1
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = self._messages / seconds
        if self._bar is not None:
            done = self._bytes if self._of_bytes else self._messages
            self._bar.update(self._task, completed=done, messages=self._messages, rate=rate)
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_INTERVAL:
            self._last_line = time.monotonic()
            if self._of_bytes:
                self._line(f"{self._so_far(seconds)}, {self._messages:,} {self._unit}, {rate:,.0f} {self._unit}/s")
            else:
                self._line(f"{self._messages:,} of {self._total or 0:,} {self._unit}, {rate:,.0f}/s")

    def _so_far(self, seconds: float) -> str:
        if not self._total:
            return f"{self._bytes / 1e6:,.1f} MB"
        left = seconds * max(self._total - self._bytes, 0) / max(self._bytes, 1)
        return f"{self._bytes / 1e6:,.1f} of {self._total / 1e6:,.1f} MB, about {left:,.0f} s left"

    def stage(self, name: str, seconds: float) -> None:
        """See protocols.Progress."""
        if self._verbose:
            self._line(f"batch {self._batch}: {name} {seconds * 1000:.1f} ms")

    def note(self, text: str) -> None:
        """See protocols.Progress."""
        if not self._quiet:
            self._line(f"warning: {text}")

    def finish(self) -> None:
        """See protocols.Progress."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, text: str) -> None:
        self._console.print(Text.assemble(("memcli: ", "dim"), safe(text)))

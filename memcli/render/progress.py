"""Progress on stderr."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from memcli.render.terminal import safe

LINE_INTERVAL = 10.0


class ConsoleProgress:
    """Progress on stderr: a bar on a terminal, else a plain line every ten seconds, nothing when `quiet`.

    A run reads bytes first; what comes behind that, a phase with a name, goes over messages, or whatever `unit` is.
    """

    def __init__(self, *, quiet: bool, verbose: bool, unit: str = "messages") -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._unit = unit
        self._quiet = quiet
        self._verbose = verbose
        self._bar: Progress | None = None
        self._phase: str | None = None
        self._total: int | None = None
        self._done = 0
        self._messages = 0
        self._skipped = 0
        self._batch = 1
        self._began = self._last_line = time.monotonic()

    def start(self, total_bytes: int | None) -> None:
        """See protocols.Progress."""
        text = f"{{task.fields[messages]:,}} {self._unit}, {{task.fields[rate]:,.0f}}/s"
        self._begin(
            None,
            total_bytes,
            (TextColumn(text), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()),
        )

    def phase(self, name: str, messages: int) -> None:
        """See protocols.Progress."""
        self._begin(
            name,
            messages,
            (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn(self._unit), TimeRemainingColumn()),
        )

    def step(self, name: str, done: int, total: int) -> None:
        """So many of the steps of a phase are done, for work that counts them itself and may start in the middle.

        Those before the first call are left out, as they may have been done by an earlier run: the rate would be wrong.
        """
        if name != self._phase:
            self.phase(name, total - done)
            self._skipped = done
        else:
            self.advance(0, done - self._skipped - self._done)

    def _begin(self, phase: str | None, total: int | None, columns: tuple[ProgressColumn, ...]) -> None:
        self.finish()
        self._phase, self._total, self._done, self._messages = phase, total, 0, 0
        self._began = time.monotonic()
        if self._quiet or self._verbose or total == 0 or not self._console.is_terminal:
            return
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.add_task("", total=total, messages=0, rate=0.0)
        self._bar.start()

    def advance(self, read_bytes: int, messages: int) -> None:
        """See protocols.Progress."""
        self._done += messages if self._phase else read_bytes
        self._messages += messages
        self._batch += 1
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = self._messages / seconds
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, messages=self._messages, rate=rate)
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_INTERVAL:
            self._last_line = time.monotonic()
            self._line(self._so_far(seconds, rate))

    def _so_far(self, seconds: float, rate: float) -> str:
        """How far it has come; how long it takes only where something tells."""
        done, total = (self._done, self._total) if self._phase else (self._done / 1e6, (self._total or 0) / 1e6)
        decimals, unit = (0, self._unit) if self._phase else (1, "MB")
        of_total = f" of {total:,.{decimals}f}" if total else ""
        left = f", about {seconds * max(total / done - 1, 0):,.0f} s left" if total and done else ""
        text = f"{done:,.{decimals}f}{of_total} {unit}{left}"
        if self._phase:
            return f"{self._phase}: {text}, {rate:,.0f} {self._unit}/s"
        return f"{text}, {self._messages:,} {self._unit}, {rate:,.0f} {self._unit}/s"

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

"""Progress of work that is counted in steps, and what came of a distillation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from types import TracebackType

LINE_INTERVAL = 10.0


class StepProgress:
    """Steps done of a stage, on stderr: a bar on a terminal, else a plain line every ten seconds with the time left.

    Use it with `with`; nothing is shown when `quiet`.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._stage = ""
        self._first = 0
        self._began = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def report(self, stage: str, done: int, total: int) -> None:
        """So many of the steps of `stage` are done."""
        if stage != self._stage:
            self._stage, self._first, self._began = stage, done, time.monotonic()
            if self._bar is not None:
                self._bar.reset(self._task, description=stage, total=total)
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif not self._quiet and done > self._first and time.monotonic() - self._last_line >= LINE_INTERVAL:
            self._last_line = time.monotonic()
            seconds = self._last_line - self._began
            left = seconds * (total - done) / (done - self._first)
            line = f"memcli: {stage}: {done:,} of {total:,}, about {left:,.0f} s left"
            self._console.print(Text(line, style="dim"))


def show_card(card: Mapping[str, Any], folder: str) -> None:
    """Print what a distillation made and how good it is."""
    scores = dict(card["scores"])
    judged = scores.pop("sts", [])
    lines = [
        f"{safe(folder)}: model {card['model_id']}, {card['settings']['tokens']:,} tokens, {card['dim']} dimensions"
    ]
    if scores:
        lines.append(
            f"{scores['held_out_texts']:,} texts held out: cosine to the teacher {scores['held_out_cosine']:.4f},"
            f" rank correlation of similarities {scores['held_out_similarity_spearman']:.4f}"
        )
    lines += [f"{safe(each['file'])}: Spearman {each['spearman']:.4f} over {each['n']:,} pairs" for each in judged]
    show([Text(line) for line in lines])

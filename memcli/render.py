"""What the user sees: reports and hits on stdout, progress and warnings on stderr. The only module that uses Rich."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from memcli.bench.ingest import IngestBenchmark
    from memcli.errors import MemcliError
    from memcli.ingest.report import IngestReport
    from memcli.search import Answer

LINE_INTERVAL = 10.0
_UNWRAPPED = 100_000
_SHOWN_SOURCES = 2
_SHOWN_TAGS = 4
# Controls (a terminal would act on them) and bidirectional marks (text would be shown in another order than it has).
_DANGEROUS = "\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\ud800-\udfff"
_UNSAFE = re.compile(f"[\x00-\x1f{_DANGEROUS}]")
_UNSAFE_JSON = re.compile(f"[{_DANGEROUS}]")


def safe(text: str) -> str:
    """`text` with every character a terminal could act on, line ends too, written out as in Python source."""
    return _UNSAFE.sub(lambda match: _written_out(match[0]), text)


def _one_line(text: str) -> str:
    """A text of several lines as one, safe to print."""
    return safe(" ".join(text.split()))


def _written_out(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - two or four hex digits


def print_json(document: object) -> None:
    """Write one JSON document to stdout; characters a terminal could act on are escaped in it."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    _write(_UNSAFE_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this has seen enough (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(renderables: Iterable[object]) -> None:
    """Render for stdout: in colours and wrapped on a terminal, plain and unwrapped otherwise."""
    width = None if sys.stdout.isatty() else _UNWRAPPED
    console = Console(file=sys.stdout, highlight=False, width=width)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    _write("".join(f"{line.rstrip()}\n" for line in capture.get().split("\n")[:-1]))


def print_error(error: MemcliError) -> None:
    """Write an error and what to do about it to stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("memcli: ", "bold red"), safe(error.message)))
    if error.hint:
        console.print(Text.assemble(("        ", ""), safe(error.hint)))


class ConsoleProgress:
    """Progress on stderr: a bar on a terminal, else a plain line every ten seconds, nothing when `quiet`."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._verbose = verbose
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
        self._bar = Progress(
            TextColumn("{task.fields[messages]:,} messages, {task.fields[rate]:,.0f}/s"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
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
            self._bar.update(self._task, completed=self._bytes, messages=self._messages, rate=rate)
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_INTERVAL:
            self._last_line = time.monotonic()
            self._line(f"{self._so_far(seconds)}, {self._messages:,} messages, {rate:,.0f} messages/s")

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


def show_ingest(report: IngestReport) -> None:
    """Print the report of an ingest run."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    files = report.files
    table.add_row("files", f"{files.seen:,}", f"{files.read:,} read, {files.unchanged:,} unchanged{_failed(report)}")
    if report.run_id is not None or report.lines_read:
        _add_work(table, report)
    _print([table, Text(_closing(report), style="dim")])


def _add_work(table: Table, report: IngestReport) -> None:
    table.add_row("lines", f"{report.lines_read:,}", _lines(report))
    filtered = sum(report.filtered.values())
    table.add_row(
        "messages",
        f"{report.messages_read:,}",
        f"{report.messages_new:,} new, {report.messages_duplicate:,} known, {report.pending:,} pending",
    )
    table.add_row("  dropped", f"{filtered:,}", _counted(report.filtered))
    if report.redacted:
        table.add_row("  redacted", f"{sum(report.redacted.values()):,}", _counted(report.redacted))
    skipped = report.windows_skipped_by_rate
    table.add_row("windows", f"{report.windows_processed:,}", f"{skipped:,} skipped by rate" if skipped else "")
    table.add_row(
        "memories",
        f"{report.created:,}",
        f"{report.merged_exact:,} exact and {report.merged_near:,} near duplicates merged, {report.review:,} to review",
    )
    table.add_row("embedded", f"{report.embedded:,}", f"{report.embed_reused:,} embeddings reused")
    table.add_row(
        "time", f"{report.seconds:.2f} s", ", ".join(f"{name} {part:.2f}" for name, part in report.timings.items())
    )


def _closing(report: IngestReport) -> str:
    if report.dry_run:
        return f"Dry run: {safe(report.db)} was not touched."
    if report.run_id is None:
        return f"Nothing new; {safe(report.db)} is up to date."
    stopped = f" Stopped by {report.stopped}; run it again to go on." if report.stopped else ""
    return f"Run {report.run_id} in {report.batches:,} batches into {safe(report.db)}.{stopped}"


def _failed(report: IngestReport) -> str:
    return f", {len(report.files.failed):,} failed" if report.files.failed else ""


def _lines(report: IngestReport) -> str:
    text = _counted(report.skipped)
    skipped = f"{sum(report.skipped.values()):,} no messages ({text})" if report.skipped else ""
    return ", ".join(filter(None, [skipped, f"{report.rejected:,} rejected" if report.rejected else ""]))


def _counted(counts: Mapping[str, int], most: int = 6) -> str:
    """Names and counts, largest first; the rest summed up."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{safe(name)} {count:,}" for name, count in ranked[:most]]
    rest = sum(count for _, count in ranked[most:])
    return ", ".join([*shown, f"others {rest:,}"] if rest else shown)


def explain_rejected(report: IngestReport) -> None:
    """Write to stderr what of a run's input was not taken, and why."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for path, line, reason in report.rejections:
        console.print(Text(f"{safe(path)}:{line}: {safe(reason)}"))
    if report.rejected > len(report.rejections):
        more = report.rejected - len(report.rejections)
        console.print(Text(f"... and {more:,} more rejected lines: see the table rejected_lines"))
    for path, reason in report.files.failed:
        console.print(Text(f"{safe(path)}: {safe(reason)}"))


def show_answers(answers: Sequence[Answer]) -> None:
    """Print hits, best first, each with where it comes from."""
    blocks: list[object] = []
    for answer in answers:
        if len(answers) > 1:
            blocks.append(Text(f"? {_one_line(answer.query)}", style="bold"))
        if not answer.hits:
            blocks.append(Text("no memories found"))
        for place, (score, star) in enumerate(answer.hits, 1):
            blocks.append(Text.assemble((f"{place}. ", "bold"), _one_line(star.content)))
            day = star.timestamp[:10] if star.timestamp else "no date"
            facts = [f"{score:.2f}", star.type, f"importance {star.importance:.1f}", star.agent_id, day]
            tags = sorted(star.tags, key=lambda tag: (-len(star.tags[tag]), tag))
            facts += tags[:_SHOWN_TAGS] + ([f"+{len(tags) - _SHOWN_TAGS} tags"] if len(tags) > _SHOWN_TAGS else [])
            blocks.append(Padding(Text(safe(" · ".join(facts)), style="dim"), (0, 0, 0, 3)))
            for source in star.sources[:_SHOWN_SOURCES]:
                where = f"{source['path']} message {source['external_id'] or source['message_id']}"
                blocks.append(Padding(Text(safe(where), style="dim"), (0, 0, 0, 3)))
            if len(star.sources) > _SHOWN_SOURCES:
                more = Text(f"and {len(star.sources) - _SHOWN_SOURCES} more mentions", style="dim")
                blocks.append(Padding(more, (0, 0, 0, 3)))
    _print(blocks)


def show_config(values: Mapping[str, tuple[object, str]]) -> None:
    """Print every setting, its value and where it comes from."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold")
    for name, (value, origin) in values.items():
        shown = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        table.add_row(Text(name), Text(safe(shown)), Text(safe(origin)))
    _print([table])


def show_ingest_benchmark(benchmark: IngestBenchmark) -> None:
    """Print the runs of an ingest benchmark, then the share of each stage in the first."""
    document = benchmark.to_json()
    head = f"memcli {document['memcli']}, Python {document['python']}, {document['machine']}, seed {document['seed']}"
    runs = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("run", "messages", "seconds", "messages/s", "peak RSS"):
        runs.add_column(heading, justify="left" if heading == "run" else "right")
    for result in benchmark.results:
        rate = result.messages / result.process_seconds
        runs.add_row(
            result.name,
            f"{result.messages:,}",
            f"{result.process_seconds:.2f}",
            f"{rate:,.0f}",
            f"{result.peak_rss_mb:,.0f} MB",
        )
    stages = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "seconds", "share", ""):
        stages.add_column(heading, justify="left" if heading in {"stage", ""} else "right")
    first = benchmark.results[0]
    rest = first.process_seconds
    for stage, seconds in first.stages.items():
        rest -= seconds
        stages.add_row(*_share(stage, seconds, first.process_seconds))
    stages.add_row(*_share("start, exit", rest, first.process_seconds))
    _print([Text(head, style="dim"), runs, Text(""), stages])


def _share(name: str, seconds: float, total: float) -> tuple[str, str, str, str]:
    share = seconds / total
    return name, f"{seconds:.2f}", f"{share:.0%}", "█" * round(share * 40)

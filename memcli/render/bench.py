"""Results of benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.render.terminal import show

if TYPE_CHECKING:
    from memcli.bench.ingest import IngestBenchmark


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
    show([Text(head, style="dim"), runs, Text(""), stages])


def _share(name: str, seconds: float, total: float) -> tuple[str, str, str, str]:
    share = seconds / total
    return name, f"{seconds:.2f}", f"{share:.0%}", "█" * round(share * 40)

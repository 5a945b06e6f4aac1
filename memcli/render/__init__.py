"""What the user sees: reports and hits on stdout, progress and warnings on stderr. Only this package uses Rich."""

from memcli.render.bench import show_ingest_benchmark
from memcli.render.config import show_config
from memcli.render.ingest import explain_rejected, show_ingest
from memcli.render.progress import ConsoleProgress
from memcli.render.search import show_answers
from memcli.render.terminal import print_error, print_json, safe

__all__ = [
    "ConsoleProgress",
    "explain_rejected",
    "print_error",
    "print_json",
    "safe",
    "show_answers",
    "show_config",
    "show_ingest",
    "show_ingest_benchmark",
]

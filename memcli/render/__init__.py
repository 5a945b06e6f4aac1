"""What the user sees: reports and hits on stdout, progress and warnings on stderr. Only this package uses Rich."""

from memcli.render.bench import announce, show_ingest_benchmark
from memcli.render.config import show_config
from memcli.render.formats import show_formats
from memcli.render.ingest import explain_rejected, show_ingest
from memcli.render.metrics import metrics_text
from memcli.render.progress import ConsoleProgress
from memcli.render.rules import show_change, show_coverage, show_exported, show_rule, show_rules, show_trial, warn
from memcli.render.search import show_answers
from memcli.render.stats import show_batches, show_stats
from memcli.render.steps import StepProgress, show_card
from memcli.render.terminal import print_error, print_json, safe, write

__all__ = [
    "ConsoleProgress",
    "StepProgress",
    "announce",
    "explain_rejected",
    "metrics_text",
    "print_error",
    "print_json",
    "safe",
    "show_answers",
    "show_batches",
    "show_card",
    "show_change",
    "show_config",
    "show_coverage",
    "show_exported",
    "show_formats",
    "show_ingest",
    "show_ingest_benchmark",
    "show_rule",
    "show_rules",
    "show_stats",
    "show_trial",
    "warn",
    "write",
]

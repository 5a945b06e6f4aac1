"""What the user sees: reports and hits on stdout, progress and warnings on stderr. Only this package uses Rich.

A name is imported when it is asked for: a search need not wait for tables and progress bars.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memcli.render.batches import show_batches
    from memcli.render.bench import announce, show_embed_benchmark, show_ingest_benchmark, show_quality
    from memcli.render.bench_dedup import show_dedup_benchmark
    from memcli.render.bench_parallel import show_parallel_benchmark
    from memcli.render.bench_report import report_markdown, show_report
    from memcli.render.bench_scale import show_scale_benchmark
    from memcli.render.bench_scan import show_scan_benchmark, show_templated_benchmark
    from memcli.render.bench_search import (
        show_locomo_benchmark,
        show_search_benchmark,
        show_vectors_benchmark,
        show_zipf_benchmark,
    )
    from memcli.render.check import show_backup, show_checked, show_repaired
    from memcli.render.config import show_config
    from memcli.render.cost import show_accounts, show_estimate, show_planned, show_plans
    from memcli.render.dedup import (
        show_calibration,
        show_decision,
        show_dedup,
        show_explanation,
        show_pairs,
        show_question,
        show_undo,
    )
    from memcli.render.exchange import export_writer, show_datasette, show_export, show_import
    from memcli.render.forget import show_forget
    from memcli.render.formats import show_formats
    from memcli.render.ingest import explain_failures, explain_rejected, explain_rejected_lines, show_ingest
    from memcli.render.metrics import metrics_text
    from memcli.render.model import show_card, show_model, show_model_changed, show_models, show_taken
    from memcli.render.places import show_next_time, show_places
    from memcli.render.profiles import show_profiles
    from memcli.render.progress import ConsoleProgress
    from memcli.render.reindex import show_care, show_check, show_reindex
    from memcli.render.rules import show_change, show_coverage, show_exported, show_rule, show_rules, show_trial
    from memcli.render.search import show_answers
    from memcli.render.secrets import show_secrets
    from memcli.render.stats import show_stats
    from memcli.render.terminal import print_documents, print_error, print_json, safe, warn, write

__all__ = [
    "ConsoleProgress",
    "announce",
    "explain_failures",
    "explain_rejected",
    "explain_rejected_lines",
    "export_writer",
    "metrics_text",
    "print_documents",
    "print_error",
    "print_json",
    "report_markdown",
    "safe",
    "show_accounts",
    "show_answers",
    "show_backup",
    "show_batches",
    "show_calibration",
    "show_card",
    "show_care",
    "show_change",
    "show_check",
    "show_checked",
    "show_config",
    "show_coverage",
    "show_datasette",
    "show_decision",
    "show_dedup",
    "show_dedup_benchmark",
    "show_embed_benchmark",
    "show_estimate",
    "show_explanation",
    "show_export",
    "show_exported",
    "show_forget",
    "show_formats",
    "show_import",
    "show_ingest",
    "show_ingest_benchmark",
    "show_locomo_benchmark",
    "show_model",
    "show_model_changed",
    "show_models",
    "show_next_time",
    "show_pairs",
    "show_parallel_benchmark",
    "show_places",
    "show_planned",
    "show_plans",
    "show_profiles",
    "show_quality",
    "show_question",
    "show_reindex",
    "show_repaired",
    "show_report",
    "show_rule",
    "show_rules",
    "show_scale_benchmark",
    "show_scan_benchmark",
    "show_search_benchmark",
    "show_secrets",
    "show_stats",
    "show_taken",
    "show_templated_benchmark",
    "show_trial",
    "show_undo",
    "show_vectors_benchmark",
    "show_zipf_benchmark",
    "warn",
    "write",
]

_MODULES = {
    "batches": ("show_batches",),
    "bench": ("announce", "show_embed_benchmark", "show_ingest_benchmark", "show_quality"),
    "bench_dedup": ("show_dedup_benchmark",),
    "bench_parallel": ("show_parallel_benchmark",),
    "bench_report": ("report_markdown", "show_report"),
    "bench_scale": ("show_scale_benchmark",),
    "bench_scan": ("show_scan_benchmark", "show_templated_benchmark"),
    "bench_search": (
        "show_locomo_benchmark",
        "show_search_benchmark",
        "show_vectors_benchmark",
        "show_zipf_benchmark",
    ),
    "check": ("show_backup", "show_checked", "show_repaired"),
    "config": ("show_config",),
    "cost": ("show_accounts", "show_estimate", "show_planned", "show_plans"),
    "dedup": (
        "show_calibration",
        "show_decision",
        "show_dedup",
        "show_explanation",
        "show_pairs",
        "show_question",
        "show_undo",
    ),
    "exchange": ("export_writer", "show_datasette", "show_export", "show_import"),
    "forget": ("show_forget",),
    "formats": ("show_formats",),
    "ingest": ("explain_failures", "explain_rejected", "explain_rejected_lines", "show_ingest"),
    "metrics": ("metrics_text",),
    "model": ("show_card", "show_model", "show_model_changed", "show_models", "show_taken"),
    "places": ("show_next_time", "show_places"),
    "profiles": ("show_profiles",),
    "progress": ("ConsoleProgress",),
    "reindex": ("show_care", "show_check", "show_reindex"),
    "rules": ("show_change", "show_coverage", "show_exported", "show_rule", "show_rules", "show_trial"),
    "search": ("show_answers",),
    "secrets": ("show_secrets",),
    "stats": ("show_stats",),
    "terminal": ("print_documents", "print_error", "print_json", "safe", "warn", "write"),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever bears that name
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"memcli.render.{_PLACES[name]}"), name)

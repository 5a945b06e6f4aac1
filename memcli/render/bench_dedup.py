"""Results of `memcli bench dedup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.render.terminal import one_line, safe, show

if TYPE_CHECKING:
    from memcli.bench.dedup import DedupBenchmark, Evaluation, Scores


def show_dedup_benchmark(result: DedupBenchmark) -> None:
    """Print the scores beside the baselines, the same by kind, and every false merge with its texts."""
    found = result.evaluation
    head = f"{safe(result.pairs)}: {found.scores.pairs:,} pairs, {found.scores.duplicates:,} of them duplicates"
    model = f"model {safe(result.model)}, near threshold {found.threshold:g}"
    blocks: list[object] = [Text(head, style="dim"), Text(model, style="dim"), Text(""), _overall(found), Text("")]
    blocks += [_kinds(found), Text(""), Text(f"false merges: {len(found.false_merges)}")]
    for pair in found.false_merges:
        blocks.append(Text(f"  {one_line(pair.id)} ({one_line(pair.kind)})"))
        blocks += [Text(f"    {one_line(text)}") for text in (pair.a, pair.b)]
    show(blocks)


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    return table


def _overall(found: Evaluation) -> Table:
    table = _table("decided by", "threshold", "precision", "recall", "F1", "false merges")
    rows = [("dedup", found.threshold, found.scores)]
    rows += [(f"{name} alone, best", at, scores) for name, (at, scores) in found.baselines.items()]
    for name, at, scores in rows:
        table.add_row(name, f"{at:.2f}", *_measures(scores), f"{scores.false:,}")
    return table


def _measures(scores: Scores) -> list[str]:
    return [f"{value:.3f}" for value in (scores.precision, scores.recall, scores.f1)]


def _kinds(found: Evaluation) -> Table:
    table = _table("kind", "label", "pairs", "merged", "right")
    for (label, kind), scores in found.by_kind.items():
        right = scores.merged if label == "duplicate" else scores.pairs - scores.merged
        table.add_row(one_line(kind), label, f"{scores.pairs:,}", f"{scores.merged:,}", f"{right / scores.pairs:.0%}")
    return table

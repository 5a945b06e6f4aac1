"""Reports of dedup: what was merged, pairs to decide, why a memory is merged, what was undone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from memcli.render.layout import number_of
from memcli.render.terminal import in_batches, one_line, safe, show

if TYPE_CHECKING:
    from pathlib import Path

    from memcli.bench.dedup import Calibration
    from memcli.maintain.explain import Explanation
    from memcli.maintain.report import DedupReport
    from memcli.maintain.review import Decision
    from memcli.maintain.undo import UndoReport
    from memcli.store.review import Pair

_DIFFERENT = "bold underline"
_PIECE = re.compile(r"\s+|\w+|[^\w\s]")


def show_dedup(report: DedupReport) -> None:
    """Print the report of a dedup run."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("examined", f"{report.examined:,}", f"memories, threshold {report.threshold:g}{_scope(report)}")
    if report.examined:
        table.add_row("pairs", f"{report.compared:,}", f"compared, {report.candidates:,} at or above the threshold")
        table.add_row("merged", f"{report.exact + report.near:,}", f"{report.exact:,} exact, {report.near:,} near")
        if report.moved or report.released or report.rethreshold:
            table.add_row(
                "changed",
                f"{report.moved + report.released:,}",
                f"{report.moved:,} into another star, {report.released:,} stand alone again",
            )
        table.add_row(
            "to review",
            f"{report.review:,}",
            f"memories in {number_of(report.review_pairs, 'pair')}, of which {report.kept_pairs:,} were listed now",
        )
        if report.second_opinions:
            table.add_row("verified", f"{report.second_opinions:,}", "merges on the border, by the second model")
        table.add_row("new", f"{report.new:,}", "like nothing before them")
    table.add_row(
        "time", f"{report.seconds:.2f} s", ", ".join(f"{name} {part:.2f}" for name, part in report.timings.items())
    )
    show([table, Text(_closing(report), style="dim")])


def _scope(report: DedupReport) -> str:
    parts = [f", agent {safe(report.agent)}"] if report.agent is not None else []
    across = [name for name, on in (("types", report.across_types), ("agents", report.across_agents)) if on]
    return "".join([*parts, f", across {' and '.join(across)}" if across else ""])


def _closing(report: DedupReport) -> str:
    if report.dry_run:
        return f"Dry run: {safe(report.db)} was not touched."
    if report.run_id is None:
        return f"Nothing to compare; {safe(report.db)} is up to date."
    undo = f" Undo it with: memcli dedup --undo {report.run_id}" if _has_changed(report) else ""
    return f"Run {report.run_id} in {in_batches(report.batches)} on {safe(report.db)}.{undo}"


def _has_changed(report: DedupReport) -> bool:
    return bool(report.exact or report.near or report.moved or report.released)


def show_pairs(pairs: Sequence[Pair]) -> None:
    """Print the pairs to decide, strongest first."""
    blocks: list[object] = []
    for pair in pairs:
        blocks += _pair(pair)
    if not pairs:
        blocks.append(Text("No pairs to review."))
    else:
        blocks.append(Text("Decide with: memcli dedup --accept ID, memcli dedup --reject ID", style="dim"))
    show(blocks)


def show_question(pair: Pair, left: int) -> None:
    """Print a pair that the user is asked about."""
    show([*_pair(pair), Text(f"{left:,} more after this one", style="dim")])


def _pair(pair: Pair) -> list[object]:
    later, earlier = _compared(pair.content, pair.other_content)
    facts = f"cosine {pair.cosine:.3f} · overlap {pair.overlap:.2f} · {pair.type} · {safe(pair.agent)}"
    return [
        Text.assemble((f"review {pair.id}", "bold"), (f"  {facts}", "dim")),
        *_numbered((pair.memory, later), (pair.other, earlier)),
        *(Padding(Text(f"{gate}: {one_line(what)}"), (0, 0, 0, 4)) for gate, what in pair.differences.items()),
    ]


def _numbered(*texts: tuple[int, Text]) -> list[object]:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim", min_width=4)
    table.add_column(overflow="fold")
    for number, text in texts:
        table.add_row(str(number), text)
    return [table]


def _compared(one: str, other: str) -> tuple[Text, Text]:
    """Two texts on a line each, with that marked which the other one has not."""
    first, second = (_PIECE.findall(one_line(text)) for text in (one, other))
    left, right = Text(), Text()
    for kind, start, end, begin, stop in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        style = None if kind == "equal" else _DIFFERENT
        left.append("".join(first[start:end]), style)
        right.append("".join(second[begin:stop]), style)
    return left, right


def show_decision(decision: Decision) -> None:
    """Print what became of a decision."""
    pair = decision.pair
    if pair.status == "rejected":
        text = f"Rejected: {pair.other} and {pair.memory} stay apart, whatever comes."
    else:
        text = f"Accepted: {decision.loser} is merged into {decision.winner}"
        text += f", and {_ids(decision.followed)} with it" if decision.followed else ""
        text += f"; {_ids(decision.released)} stand alone again, for review" if decision.released else ""
        text += "."
    closing = f"Dry run: {safe(decision.db)} was not touched." if decision.dry_run else _undo_hint(decision.run_id)
    show([Text(text), Text(closing, style="dim")])


def _ids(memory_ids: Sequence[int]) -> str:
    return ", ".join(map(str, memory_ids))


def _undo_hint(run_id: int) -> str:
    return f"Run {run_id}. Undo it with: memcli dedup --undo {run_id}"


def show_explanation(found: Explanation) -> None:
    """Print a memory's star, and what is near it."""
    centre = found.centre
    head = f"{centre.type} · {safe(centre.agent)} · {found.created_at[:10]} · threshold {found.threshold:g}"
    blocks: list[object] = []
    if found.asked != centre.id:
        blocks.append(Text(f"{found.asked} was merged into {centre.id}."))
    blocks += [Text.assemble((f"{centre.id}  ", "bold"), one_line(centre.content)), Text(f"    {head}", style="dim")]
    blocks.append(Text(f"merged with it: {len(found.members):,}", style="bold"))
    for each in found.members:
        _, text = _compared(centre.content, each.content)
        evidence = (
            f"{each.kind} · cosine {each.cosine:.3f} · overlap {each.overlap:.2f} · run {each.run_id}"
            f" ({safe(each.command)}) · {each.created_at[:10]} · merge {each.merge_id}"
        )
        blocks += _numbered((each.memory_id, text))
        blocks.append(Padding(Text(evidence, style="dim"), (0, 0, 0, 6)))
        blocks.append(Padding(Text(f"passed: {', '.join(each.gates_passed)}", style="dim"), (0, 0, 0, 6)))
    blocks.append(Text(f"nearest that were not merged: {len(found.nearest):,}", style="bold"))
    for neighbour in found.nearest:
        _, text = _compared(centre.content, neighbour.memory.content)
        blocks += _numbered((neighbour.memory.id, text))
        facts = f"cosine {neighbour.cosine:.3f} · overlap {neighbour.overlap:.2f}"
        blocks.append(Padding(Text(facts, style="dim"), (0, 0, 0, 6)))
        reasons = neighbour.reasons
        if "cosine" in reasons:
            reasons = {name: reasons[name] for name in ("decided", "cosine") if name in reasons}
        why = [f"{name}: {one_line(what)}" for name, what in reasons.items()]
        for line in why or [f"nothing is against it: memcli dedup --rethreshold {found.threshold:g} judges it again"]:
            blocks.append(Padding(Text(line), (0, 0, 0, 6)))
    show(blocks)


def show_calibration(found: Calibration, model: str, before: float, path: Path | None) -> None:
    """Print the threshold that labelled pairs suggest for `model`, in place of `before`, and where it was written."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("threshold", f"{found.threshold:g}", f"of {safe(model)}, before {before:g}")
    table.add_row("precision", f"{found.precision:.3f}", f"on {found.pairs:,} labelled pairs")
    table.add_row("recall", f"{found.recall:.3f}", "")
    closing = "Dry run: nothing was written." if path is None else f"Written to {safe(str(path))}."
    show([table, Text(closing, style="dim")])


def show_undo(report: UndoReport) -> None:
    """Print what was undone."""
    what = f"run {report.of_run}" if report.of_run is not None else f"merge {report.of_merge}"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("undone", f"{report.undone:,}", f"merges of {what}")
    table.add_row("active", f"{report.active:,}", "memories stand alone again")
    if report.restored or report.moved:
        table.add_row("restored", f"{report.restored:,}", "merges that it had ended")
        table.add_row("moved", f"{report.moved:,}", "exact duplicates went along with their text")
    if report.reviews or report.reopened:
        table.add_row("review", f"{report.reviews:,}", f"pairs taken off the list, {report.reopened:,} back on it")
    closing = f"Dry run: {safe(report.db)} was not touched." if report.dry_run else f"Run {report.run_id}."
    show([table, Text(closing, style="dim")])

"""The benchmark report: on a terminal of 80 columns, and as a section of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from memcli.render.bench import machine_lines
from memcli.render.layout import WIDTH, bar, cut, duration, fitted, wrapped
from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from memcli.bench.report_compare import Change, Comparison

_NAME, _BAR, _VALUE, _SPREAD, _RATIO = 24, 11, 8, 6, 7
_TARGET, _WANTED = 28, 24
_STYLES = {"own": "bold green", "naive": "yellow", "peer": "cyan"}
_LEGEND = "x: how many times as good memcli is; ±: half the spread over the rounds"


def show_report(document: Mapping[str, Any], comparison: Comparison | None) -> None:
    """Print the parts with bars, the targets, and what became worse than in an earlier report."""
    lines = [line for each in (*machine_lines(document), _when(document), _LEGEND) for line in wrapped(each)]
    for part in document["parts"]:
        lines += [Text(""), *_part(part)]
    lines += [Text(""), *_targets(document["targets"])]
    notes = list(dict.fromkeys(note for part in document["parts"] for note in part["notes"]))
    lines += [Text("") for _ in notes[:1]] + [line for note in notes for line in wrapped(f"- {note}")]
    if comparison is not None:
        lines += [Text(""), *_comparison(comparison)]
    show(cut(line, WIDTH) for line in lines)


def report_markdown(document: Mapping[str, Any]) -> str:
    """The report as a section of Markdown without a heading: date, hardware, versions, parts and targets."""
    lines = [f"`memcli bench`{_when(document).removeprefix('memcli bench')}. {'; '.join(machine_lines(document))}.", ""]
    lines += ["| part | with | | spread | memcli is better | |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for part in document["parts"]:
        for number, way in enumerate(part["ways"]):
            name = f"**{part['title']}**: {part['about']}" if not number else ""
            value = f"{_value(way['value'])} {part['unit']}"
            ratio = "" if way["ratio"] is None else f"{way['ratio']:.3g} times"
            lines.append(f"| {name} | {way['way']} | {value} | {_spread(way)} | {ratio} | {way['note']} |")
    lines += ["", "| target | wanted | measured | | how |", "| --- | --- | --- | --- | --- |"]
    for target in document["targets"]:
        cells = (target["name"], target["target"], target["measured"], _verdict(target), target["how"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _when(document: Mapping[str, Any]) -> str:
    rounds = f"{document['rounds']} round{'s' if document['rounds'] > 1 else ''} in turns"
    size = "" if document["size"] == 1 else f", {document['size']:g} of the usual size"
    return f"memcli bench, {document['date']}, {rounds}, {duration(document['seconds'])}{size}"


def _part(part: Mapping[str, Any]) -> list[Text]:
    which = "less" if part["less_is_better"] else "more"
    head = Text.assemble((part["title"], "bold"), f": {part['unit']}, {which} is better")
    top = max(way["value"] for way in part["ways"])
    return [head, *wrapped(part["about"], 1), *(_way(way, top) for way in part["ways"])]


def _way(way: Mapping[str, Any], top: float) -> Text:
    ratio = "" if way["ratio"] is None else f"{way['ratio']:.3g}x"
    return Text.assemble(
        f" {fitted(safe(way['way']), _NAME - 1):<{_NAME}}",
        (f"{bar(way['value'], top, _BAR):<{_BAR}}", _STYLES[way["kind"]]),
        f"{_value(way['value']):>{_VALUE}}",
        (f"{_spread(way):>{_SPREAD}}", "dim"),
        f"{ratio:>{_RATIO}}",
        (f" {safe(way['note'])}", "dim"),
    )


def _value(value: float) -> str:
    if value >= 100:  # noqa: PLR2004 - three digits that count
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"


def _spread(way: Mapping[str, Any]) -> str:
    low, high = way["spread"]
    if len(way["samples"]) == 1 or not way["value"]:
        return ""
    return f"±{(high - low) / way['value'] / 2:.0%}"


def _verdict(target: Mapping[str, Any]) -> str:
    return "met" if target["met"] else "missed"


def _targets(targets: Sequence[Mapping[str, Any]]) -> list[Text]:
    met = sum(target["met"] for target in targets)
    lines = [Text.assemble(("Targets of the design", "bold"), f": {met} of {len(targets)} met")]
    for target in targets:
        lines.append(
            Text.assemble(
                (f" {_verdict(target):<7}", "green" if target["met"] else "bold red"),
                f"{target['name']:<{_TARGET}}{target['target']:<{_WANTED}}",
                (target["measured"], "bold"),
            )
        )
        lines += wrapped(target["how"], 8)
    return lines


def _comparison(comparison: Comparison) -> list[Text]:
    """Memcli's figures now by before; what is worse by more than both spreads stands with a !."""
    lines = [Text("now / before, above 1 is better; ! worse by more than both spreads", style="bold")]
    lines += [_change(change) for change in comparison.changes if change.better is not None or change.worse]
    lines.append(Text(f"! {len(comparison.worse)} of {len(comparison.changes)} figures"))
    if comparison.machine_ratio is not None:
        lines.append(Text(f"the other programs, which did not change: {comparison.machine_ratio:.2f}", style="dim"))
    if not comparison.is_same_machine:
        lines.append(Text("the earlier one was measured on another machine", style="yellow"))
    known = ", ".join(f"{name} {before}" for name, (before, _) in comparison.other_versions.items())
    return [*lines, Text(safe(f"the earlier one was measured with {known}"), style="dim")] if known else lines


def _change(change: Change) -> Text:
    ratio = "" if change.better is None else f"{change.better:.2f}"
    mark = ("!", "bold red") if change.worse else (" ", "")
    values = f"  {_value(change.before)} -> {_value(change.now)}"
    noise = f", noise {change.noise:.0%}" if change.noise else ""
    name = fitted(safe(f"{change.part}: {change.figure}"), 36)
    return Text.assemble(f" {name:<36}{ratio:>6}", mark, (values + noise, "dim"))

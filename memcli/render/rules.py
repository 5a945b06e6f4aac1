"""Rules: lists, single ones, changes, trials and coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.render.layout import number_of
from memcli.render.terminal import one_line, safe, show, warn

if TYPE_CHECKING:
    from memcli.rulebook import Change, Coverage, Example, Listed, Trial

_SHOWN_OVERLAPS = 10
_REEXTRACT = "memcli ingest --reextract brings this to stored messages."
_VERBS = {
    "added": "added",
    "changed": "changed",
    "removed": "removed",
    "enabled": "enabled",
    "disabled": "disabled",
    "unchanged": "already so:",
}


def show_rules(listed: Sequence[Listed]) -> None:
    """Print a line per rule, and what is wrong with those that cannot be used."""
    table = _table(("id", "name", "type", "imp.", "for"), ("imp.",))
    own, starters = ([each for each in listed if each.starter is starter] for starter in (False, True))
    for each in own:
        _add_rule(table, each)
    if starters:
        table.add_row(Text("starter rules", style="dim"))
    for each in starters:
        _add_rule(table, each)
    show([table, Text(f"{number_of(len(own), 'rule')} and {number_of(len(starters), 'starter rule')}", style="dim")])
    warn(f"{each.table['name']} ({each.table['id']}): {each.problem}" for each in listed if each.problem)


def _add_rule(table: Table, listed: Listed) -> None:
    rule = listed.table
    name = Text(safe(str(rule["name"])))
    for is_so, mark in ((not rule["active"], "disabled"), (listed.problem, "cannot be used")):
        if is_so:
            name.append(f" ({mark})", "dim")
    facts = (safe(str(rule[key])) for key in ("type", "importance"))
    table.add_row(safe(str(rule["id"])), name, *facts, _readers(rule["agent"], str(rule["roles"])))


def _readers(agent: str | None, roles: str) -> Text:
    """Whose messages a rule reads."""
    only = [safe(agent)] if agent is not None else []
    only += [roles] if roles != "both" else []
    return Text(", ".join(only) or "all")


def show_rule(listed: Listed) -> None:
    """Print everything about one rule."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in listed.table.items():
        table.add_row(key.replace("_", " "), Text(safe(_said(value))))
    table.add_row("starter", _said(listed.starter))
    if listed.problem:
        table.add_row("problem", Text(safe(listed.problem)))
    show([table])


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "all agents" if value is None else str(value)


def show_change(change: Change) -> None:
    """Print what became of the rules."""
    lines: list[Text] = []
    for what, listed in change.done.items():
        if len(listed) > _SHOWN_OVERLAPS:
            lines.append(Text(f"{_VERBS[what]} {len(listed):,} rules"))
            continue
        lines += [Text(f"{_VERBS[what]} {_called(each)}") for each in listed]
    if not any(change.done.values()):
        lines.append(Text("no rules"))
    elif change.run_id is not None and change.done.keys() & {"added", "changed", "enabled"}:
        lines.append(Text(_REEXTRACT, style="dim"))
    if change.dry_run:
        lines.append(Text(f"Dry run: {safe(change.db)} was not touched.", style="dim"))
    show(lines)


def show_exported(path: str, count: int) -> None:
    """Print what was written where."""
    show([Text(f"{number_of(count, 'rule')} to {safe(path)}")])


def _called(listed: Listed) -> str:
    return f"{safe(str(listed.table['id']))} {safe(str(listed.table['name']))}"


def show_trial(trial: Trial) -> None:
    """Print what a pattern hits, the first hits in their context."""
    lines: list[Text] = []
    for example in trial.examples:
        where = f"message {example.message_id} · {example.role} · {example.agent} · {example.session}"
        lines.append(Text(safe(where), style="dim"))
        lines.append(_in_context(example))
        if (example.before + example.match + example.after).strip() not in example.kept:
            lines += [Text(f"   keeps: {one_line(said)}") for said in example.kept]
    share = trial.hit / trial.messages if trial.messages else 0.0
    lines.append(
        Text(
            f"{trial.hit:,} of {number_of(trial.messages, 'message')} ({share:.1%}),"
            f" {number_of(trial.statements, 'statement')},"
            f" {trial.microseconds:.1f} µs per message"
        )
    )
    show(lines)


def _in_context(example: Example) -> Text:
    # One text in three pieces: white space at their edges is that of the text.
    before, match, after = (
        safe(" ".join(f"|{piece}|".split())[1:-1]) for piece in (example.before, example.match, example.after)
    )
    return Text.assemble("   ", before, "«", (match, "bold"), "»", after)


def show_coverage(coverage: Coverage) -> None:
    """Print the rules by hits, those that never fire, and which hit the same messages."""
    share = coverage.hit / coverage.messages if coverage.messages else 0.0
    head = (
        f"{coverage.hit:,} of {coverage.messages:,} messages are hit ({share:.1%}),"
        f" {coverage.microseconds:.1f} µs per message for all {len(coverage.rules):,} rules"
    )
    table = _table(("hits", "share", "µs alone", "id", "name", "for"), ("hits", "share", "µs alone"))
    never = [each for each in coverage.rules if not each.hits]
    for each in coverage.rules:
        if each.hits:
            rule = each.rule
            readers = _readers(rule.agent, rule.roles)
            part = each.hits / each.messages
            cells = (f"{each.hits:,}", f"{part:.1%}", f"{each.microseconds:.1f}", safe(rule.id))
            table.add_row(*cells, Text(safe(rule.name)), readers)
    blocks: list[object] = [Text(head), Text(""), table]
    if never:
        names = ", ".join(f"{safe(each.rule.name)} ({safe(each.rule.id)})" for each in never[:_SHOWN_OVERLAPS])
        more = len(never) - _SHOWN_OVERLAPS
        blocks += [Text(""), Text(f"never: {names}" + (f" and {more:,} more" if more > 0 else ""))]
    if coverage.overlaps:
        blocks += [Text(""), Text("the same messages:")]
        for pair in coverage.overlaps[:_SHOWN_OVERLAPS]:
            names = f"{safe(pair.first.name)} and {safe(pair.second.name)}"
            blocks.append(Text(f"   {names}: {pair.messages:,}, {pair.share:.0%} of the rarer one's"))
    show(blocks)
    warn(coverage.problems)


def _table(headings: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        # What is copied into the next command is not broken.
        is_whole = heading == "id"
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold", no_wrap=is_whole)
    return table

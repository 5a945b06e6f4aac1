"""`memcli dedup` as flags."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memcli.cli.options import (
    AgentOption,
    ConfigOption,
    DbOption,
    JsonOption,
    MaxMemoryOption,
    QuietOption,
    VerboseOption,
    WorkersOption,
)
from memcli.cli.options import settings as load_settings
from memcli.errors import UsageError

if TYPE_CHECKING:
    from memcli.config import Config
    from memcli.store.review import Pair

# SQLite's largest id and one more.
_ENDS_IDS = 1 << 63


def dedup(
    agent: AgentOption = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least cosine of a near duplicate [the model's].")
    ] = None,
    across_types: Annotated[
        bool, typer.Option("--across-types", help="Merge memories of different types too.")
    ] = False,
    across_agents: Annotated[
        bool, typer.Option("--across-agents", help="Merge memories of different agents too.")
    ] = False,
    rethreshold: Annotated[
        float | None,
        typer.Option(
            metavar="T", min=0, max=1, help="Judge everything again at T: end merges below it, make those above it."
        ),
    ] = None,
    verify_model: Annotated[
        str | None,
        typer.Option(
            "--verify-model", metavar="NAME", help="A stronger model that has a say about merges on the border."
        ),
    ] = None,
    review: Annotated[
        bool, typer.Option("--review", help="List the pairs whose evidence failed; decide them on a terminal.")
    ] = False,
    accept: Annotated[int | None, typer.Option(metavar="ID", help="Merge this review pair.")] = None,
    reject: Annotated[int | None, typer.Option(metavar="ID", help="Keep this review pair apart for good.")] = None,
    explain: Annotated[
        int | None, typer.Option(metavar="MEMORY_ID", help="Show what was merged with a memory, what not, and why.")
    ] = None,
    undo: Annotated[int | None, typer.Option(metavar="RUN_ID", help="Undo the merges of a run.")] = None,
    undo_merge: Annotated[int | None, typer.Option("--undo-merge", metavar="ID", help="Undo one merge.")] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="PAIRS.jsonl", help="Choose the model's threshold by labelled pairs; see bench dedup."),
    ] = None,
    max_memory: MaxMemoryOption = None,
    workers: WorkersOption = None,
    wait: Annotated[float | None, typer.Option(metavar="SECONDS", help="Wait for another run to end [0].")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do it on a copy that is deleted; same report.")] = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Merge duplicates in the memory; review, explain, undo merges.

    Example: memcli dedup --dry-run
    """
    asked: dict[str, Any] = {
        "--review": review or None,
        "--accept": accept,
        "--reject": reject,
        "--explain": explain,
        "--undo": undo,
        "--undo-merge": undo_merge,
        "--calibrate": calibrate,
    }
    action = _one_of(asked)
    merging: dict[str, Any] = {
        "--threshold": threshold,
        "--rethreshold": rethreshold,
        "--verify-model": verify_model,
        "--across-types": across_types or None,
        "--across-agents": across_agents or None,
    }
    _refuse_together(action, merging, agent=agent, across_agents=across_agents, review=review)
    settings, _ = load_settings(config, {"db": db, "max_memory": max_memory, "workers": workers, "wait": wait})
    if action is None:
        request = {
            "agent": agent,
            "threshold": threshold if rethreshold is None else rethreshold,
            "across_types": across_types,
            "across_agents": across_agents,
            "rethreshold": rethreshold is not None,
            "verify_model": verify_model,
            "dry_run": dry_run,
        }
        _run(settings, request, as_json=as_json, quiet=quiet, verbose=verbose)
    elif calibrate is not None:
        _calibrate(settings, calibrate, as_json=as_json, dry_run=dry_run)
    elif action == "--review":
        _review(settings, agent, as_json=as_json, dry_run=dry_run)
    else:
        _act(settings, action, int(asked[action] or 0), as_json=as_json, dry_run=dry_run)


def _one_of(asked: dict[str, Any]) -> str | None:
    given = [name for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{given[0]} does not go with {given[1]}", "one at a time")
    return given[0] if given else None


def _refuse_together(
    action: str | None, merging: dict[str, Any], *, agent: str | None, across_agents: bool, review: bool
) -> None:
    given = [name for name, value in merging.items() if value is not None]
    if action is not None and given:
        raise UsageError(f"{action} does not go with {given[0]}", "drop one of them")
    if merging["--threshold"] is not None and merging["--rethreshold"] is not None:
        raise UsageError("--threshold does not go with --rethreshold", "drop one of them")
    if agent is not None and (across_agents or (action is not None and not review)):
        raise UsageError(f"--agent does not go with {action or '--across-agents'}", "drop one of them")


def _run(settings: Config, request: dict[str, Any], *, as_json: bool, quiet: bool, verbose: bool) -> None:
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import dedup as command  # noqa: PLC0415 - as above: numpy

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="memories")
    try:
        report = command.dedup(settings, command.Request(**request), progress, os.environ)
    finally:
        progress.finish()
    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_dedup(report)


def _act(settings: Config, action: str, number: int, *, as_json: bool, dry_run: bool) -> None:
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import dedup as command  # noqa: PLC0415 - as above: numpy

    show: Any
    report: Any
    if abs(number) >= _ENDS_IDS:
        raise UsageError(f"{action}: no id has as many digits as {number}", "the ids are small whole numbers")
    if action == "--explain":
        report, show = command.explain(settings, number, os.environ), render.show_explanation
    elif action == "--accept":
        report, show = command.accept(settings, number, os.environ, dry_run=dry_run), render.show_decision
    elif action == "--reject":
        report, show = command.reject(settings, number, dry_run=dry_run), render.show_decision
    else:
        run_id, merge_id = (number, None) if action == "--undo" else (None, number)
        report = command.undo(settings, run_id=run_id, merge_id=merge_id, dry_run=dry_run)
        show = render.show_undo
    if as_json:
        render.print_json(report.to_json())
    else:
        show(report)


def _calibrate(settings: Config, pairs: Path, *, as_json: bool, dry_run: bool) -> None:
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import dedup as command  # noqa: PLC0415 - as above: numpy

    report = command.calibrate(settings, pairs, os.environ, dry_run=dry_run)
    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_calibration(report.found, report.model, report.before, report.path)


def _review(settings: Config, agent: str | None, *, as_json: bool, dry_run: bool) -> None:
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import dedup as command  # noqa: PLC0415 - as above: numpy

    pairs = command.review(settings, agent)
    if as_json:
        render.print_json([pair.to_json() for pair in pairs])
    elif pairs and sys.stdin.isatty() and sys.stdout.isatty():
        _ask(settings, agent, pairs, dry_run=dry_run)
    else:
        render.show_pairs(pairs)


def _ask(settings: Config, agent: str | None, pairs: list[Pair], *, dry_run: bool) -> None:
    """Go through the pairs; each decision is written at once, and what it settles is not asked any more."""
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import dedup as command  # noqa: PLC0415 - as above: numpy

    passed: set[int] = set()
    while pair := next((each for each in pairs if each.id not in passed), None):
        passed.add(pair.id)
        render.show_question(pair, left=len([each for each in pairs if each.id not in passed]))
        answer = _answer()
        if answer == "q":
            return
        if answer == "a":
            render.show_decision(command.accept(settings, pair.id, os.environ, dry_run=dry_run))
        elif answer == "r":
            render.show_decision(command.reject(settings, pair.id, dry_run=dry_run))
        if answer != "s":
            pairs = command.review(settings, agent)


def _answer() -> str:
    while True:
        sys.stdout.write("[a]ccept (the same), [r]eject (not the same), [s]kip, [q]uit: ")
        sys.stdout.flush()
        line = sys.stdin.readline()
        answer = line.strip().lower()[:1] if line else "q"
        if answer in {"a", "r", "s", "q"}:
            return answer

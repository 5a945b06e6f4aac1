"""`memcli ingest` as flags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from memcli.cli.options import (
    AgentOption,
    BaseUrlOption,
    ConfigOption,
    DbOption,
    DryRunOption,
    EmbedBatchSizeOption,
    JsonOption,
    MaxMemoryOption,
    NewModelOption,
    QuietOption,
    RedactOption,
    SinceOption,
    VerboseOption,
    WaitOption,
    WorkersOption,
    parse_time,
)
from memcli.cli.options import settings as load_settings
from memcli.cli.places import ask_for_paths
from memcli.errors import InputRejectedError, ProviderError

if TYPE_CHECKING:
    from memcli.ingest.report import IngestReport


def ingest(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Transcripts, folders of them, or - for stdin."),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="The format, instead of sniffing; see memcli formats."),
    ] = None,
    mapping: Annotated[
        str | None, typer.Option("--map", metavar="role=author,...", help="Names of the fields in flat JSONL.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Window sizes, filters, tiers and rate [local].")
    ] = None,
    extract: Annotated[
        str | None, typer.Option(metavar="TIERS", help="Of rules, verbatim, small, premium [those of the profile].")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(metavar="N", help="Calls of models at a time [4].")] = None,
    max_usd: Annotated[
        float | None, typer.Option(metavar="USD", help="The most that calls of small and premium may cost.")
    ] = None,
    max_calls: Annotated[int | None, typer.Option(metavar="N", help="The most calls of small and premium.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="The most tokens that small and premium may read and write.")
    ] = None,
    starter_rules: Annotated[
        bool | None, typer.Option("--starter-rules/--no-starter-rules", help="Use the built-in rules.")
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(metavar="ROLES", help="Roles to keep [user,assistant]; others are passed over for good."),
    ] = None,
    agent: AgentOption = None,
    redact: RedactOption = None,
    since: SinceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many messages, at the end of a line.")] = None,
    time_budget: Annotated[
        float | None,
        typer.Option(min=0, max=1_000_000_000, metavar="SECONDS", help="Stop after the batch that passes this time."),
    ] = None,
    flush: Annotated[bool, typer.Option("--flush", help="Close all partial windows at the end.")] = False,
    reextract: Annotated[
        bool, typer.Option("--reextract", help="Also bring new rules and tiers to stored messages; needs no PATH.")
    ] = False,
    model: NewModelOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Messages per transaction [1024].")] = None,
    embed_batch_size: EmbedBatchSizeOption = None,
    base_url: BaseUrlOption = None,
    max_memory: MaxMemoryOption = None,
    workers: WorkersOption = None,
    wait: WaitOption = None,
    dry_run: DryRunOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Read what is new in transcripts and remember it.

    Without PATH it looks where Claude Code, Codex and pi put theirs, and for exports of ChatGPT among the downloads,
    shows what it found, and asks.

    Example: memcli ingest ~/.claude/projects
    """
    flags = {
        "db": db,
        "agent": agent,
        "redact": redact,
        "profile": profile,
        "extract": extract,
        "concurrency": concurrency,
        "max_usd": max_usd,
        "max_calls": max_calls,
        "max_tokens": max_tokens,
        "starter_rules": starter_rules,
        "roles": roles,
        "model": model,
        "batch_size": batch_size,
        "embed_batch_size": embed_batch_size,
        "base_url": base_url,
        "max_memory": max_memory,
        "workers": workers,
        "wait": wait,
    }
    settings, _ = load_settings(config, flags)
    request_since = parse_time(since)
    if not paths and not reextract:
        paths = ask_for_paths("flat" if mapping else format_name)
        if not paths:
            return
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import ingest as command  # noqa: PLC0415 - as above: numpy

    request = command.Request(
        paths or [],
        format_name,
        mapping,
        request_since,
        limit,
        time_budget,
        flush=flush,
        reextract=reextract,
        dry_run=dry_run,
    )
    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose)
    estimated = None
    try:
        if dry_run:
            from memcli.commands.estimate import rehearse  # noqa: PLC0415 - only a dry run counts what it leaves out

            estimated = rehearse(settings, request, progress, os.environ)
            report = estimated.report
        else:
            report = command.ingest(settings, request, progress, os.environ)
    finally:
        progress.finish()
    if as_json:
        render.print_json(report.to_json() if estimated is None else estimated.dry_run_json())
    else:
        render.show_ingest(report)
        if estimated is not None and estimated.estimate.tiers:
            render.show_planned(estimated.estimate)
    render.explain_rejected(report)
    render.explain_failures(report)
    _raise_unfinished(report)


def _raise_unfinished(report: IngestReport) -> None:
    left = report.windows_failed + report.windows_waiting
    if left and not report.dry_run:
        given_up = sum(tally.permanent for tally in report.models.values())
        later = "the next run asks again" + (f", but for {given_up:,} that have failed too often" if given_up else "")
        raise ProviderError(
            f"not done by the models: windows {left:,} (failed {report.windows_failed:,}, not asked"
            f" {report.windows_waiting:,})",
            f"all else is done; {later if left > given_up else 'they have failed too often to be asked about again'}",
        )
    if report.rejected or report.files.failed:
        raise InputRejectedError(
            f"not taken: lines {report.rejected:,}, files {len(report.files.failed):,}",
            "all else is done" + ("; the table rejected_lines keeps where and why" if report.rejected else ""),
        )

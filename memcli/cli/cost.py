"""`memcli cost` as flags."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from memcli.cli.options import (
    AgentOption,
    ConfigOption,
    DbOption,
    JsonOption,
    QuietOption,
    SinceOption,
    VerboseOption,
    parse_time,
)
from memcli.cli.options import settings as load_settings
from memcli.errors import InputRejectedError

cost_app = typer.Typer(
    help="What model tiers cost: planned, estimated, spent.\n\nExample: memcli cost report",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ProfileOption = Annotated[str | None, typer.Option("--profile", metavar="NAME", help="The profile [local].")]
ModelOption = Annotated[
    list[str] | None, typer.Option("--model", metavar="TIER=NAME", help="A tier's model, instead of the settings'.")
]
PriceOption = Annotated[
    list[str] | None,
    typer.Option("--price", metavar="TIER=IN,OUT", help="Dollars per million tokens read and written."),
]
WindowPriceOption = Annotated[
    list[str] | None,
    typer.Option("--window-price", metavar="TIER=USD", help="What a window costs, as in small=0.02; repeatable."),
]


@cost_app.command("estimate")
def cost_estimate(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Transcripts, folders of them, or - for stdin.")],
    profile: ProfileOption = None,
    extract: Annotated[str | None, typer.Option(metavar="TIERS", help="Tiers to run [the profile's].")] = None,
    model: ModelOption = None,
    price: PriceOption = None,
    tokenizer: Annotated[
        list[str] | None,
        typer.Option("--tokenizer", metavar="TIER=FILE", help="The model's tokenizer.json: exact counts."),
    ] = None,
    format_name: Annotated[str | None, typer.Option("--format", help="The format, instead of sniffing.")] = None,
    mapping: Annotated[
        str | None, typer.Option("--map", metavar="role=author,...", help="Names of the fields in flat JSONL.")
    ] = None,
    agent: AgentOption = None,
    since: SinceOption = None,
    flush: Annotated[bool, typer.Option("--flush", help="Count partial windows, too.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Add up what the model calls of an ingest would cost.

    The transcripts are read as ingest would read them; nobody is called.

    Example: memcli cost estimate ~/.claude/projects --profile balanced
    """
    settings, _ = load_settings(config, {"profile": profile, "extract": extract, "agent": agent})
    request_since = parse_time(since)
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import cost_flags as flags  # noqa: PLC0415 - as above
    from memcli.commands import estimate as command  # noqa: PLC0415 - as above
    from memcli.commands.ingest import Request  # noqa: PLC0415 - as above

    settings = flags.with_models(settings, model or [])
    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose)
    try:
        found = command.estimate(
            settings,
            Request(paths, format_name, mapping, request_since, flush=flush),
            flags.token_prices(settings, price or []),
            flags.tokenizers(tokenizer or []),
            progress,
            os.environ,
        )
    finally:
        progress.finish()
    if as_json:
        render.print_json(found.to_json())
    else:
        render.show_estimate(found)
    render.explain_rejected(found.report)
    if found.report.rejected or found.report.files.failed:
        raise InputRejectedError(
            f"not taken: lines {found.report.rejected:,}, files {len(found.report.files.failed):,}",
            "all else is counted",
        )


@cost_app.command("scenario")
def cost_scenario(
    messages_per_day: Annotated[
        str, typer.Option("--messages-per-day", metavar="N", help="Messages of one agent on one day.")
    ],
    agents: Annotated[int, typer.Option(min=1, max=1_000_000_000, help="How many agents.")] = 1,
    days: Annotated[int, typer.Option(min=1, max=100_000, help="How many days.")] = 30,
    profile: ProfileOption = None,
    message_tokens: Annotated[
        int, typer.Option("--tokens-per-message", min=1, max=1_000_000, metavar="N", help="How long a message is.")
    ] = 67,
    model: ModelOption = None,
    price: PriceOption = None,
    window_price: WindowPriceOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Plan what agents will cost, every profile side by side.

    Example: memcli cost scenario --messages-per-day 50 --agents 1000
    """
    settings, _ = load_settings(config, {"profile": profile})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import cost as command  # noqa: PLC0415 - as above
    from memcli.commands import cost_flags as flags  # noqa: PLC0415 - as above
    from memcli.cost import Workload  # noqa: PLC0415 - as above

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose)
    settings = flags.with_models(settings, model or [])
    found = command.scenario(
        settings,
        Workload(flags.messages_per_day(messages_per_day), agents, days),
        message_tokens,
        flags.window_prices(window_price or []),
        flags.token_prices(settings, price or []),
        progress.note,
    )
    if as_json:
        render.print_json(found.to_json())
    else:
        render.show_plans(found)


@cost_app.command("report")
def cost_report(
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="The profile to compare with [the settings'].")
    ] = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show what was spent, and what it brought.

    By tier, model, agent, day and run.

    Example: memcli cost report
    """
    settings, _ = load_settings(config, {"profile": profile, "db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import cost as command  # noqa: PLC0415 - as above

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose)
    found = command.report(settings, progress.note)
    if as_json:
        render.print_json(found.to_json())
    else:
        render.show_accounts(found)

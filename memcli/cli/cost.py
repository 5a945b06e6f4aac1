"""`memcli cost` as flags."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from memcli.cli.options import ConfigOption, DbOption, JsonOption, QuietOption, VerboseOption
from memcli.cli.options import settings as load_settings
from memcli.errors import UsageError

cost_app = typer.Typer(
    help="What model tiers cost: planned, estimated, spent.", no_args_is_help=True, rich_markup_mode=None
)

ProfileOption = Annotated[str | None, typer.Option("--profile", metavar="NAME", help="The profile [local].")]
WindowPriceOption = Annotated[
    list[str] | None,
    typer.Option("--window-price", metavar="TIER=USD", help="What a window costs, as in small=0.02; repeatable."),
]


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
    ] = 60,
    window_price: WindowPriceOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Plan what a number of agents will cost, with every profile side by side.

    Example: memcli cost scenario --messages-per-day 50 --agents 1000 --days 30 --profile customer-support
    """
    settings, _ = load_settings(config, {"profile": profile})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import cost as command  # noqa: PLC0415 - as above
    from memcli.cost import Workload  # noqa: PLC0415 - as above

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose)
    found = command.scenario(
        settings,
        Workload(_number(messages_per_day), agents, days),
        message_tokens,
        command.window_prices(window_price or []),
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
    """Show what was spent, by tier, model, agent, day and run, and what it brought.

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


def _number(text: str) -> Decimal:
    """A number of messages, exactly as it was written."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal(0)
    if not number.is_finite() or not 0 < number <= 1_000_000_000:  # noqa: PLR2004 - more is a slip of the keys
        raise UsageError(f"--messages-per-day {text}: not a number of messages", "as in: --messages-per-day 50")
    return number

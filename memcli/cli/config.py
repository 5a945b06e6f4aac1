"""`memcli config` as flags."""

from __future__ import annotations

import typer

from memcli.cli.options import ConfigOption, DbOption, JsonOption, QuietOption, VerboseOption
from memcli.cli.options import settings as load_settings

config_app = typer.Typer(
    help="Settings and where they come from.\n\nExample: memcli config show",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@config_app.command("show")
def config_show(
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Print every effective setting and where it comes from.

    Example: memcli config show
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands.config import effective  # noqa: PLC0415 - as above

    values = effective(*load_settings(config, {"db": db}))
    if as_json:
        render.print_json({name: {"value": value, "from": origin} for name, (value, origin) in values.items()})
    else:
        render.show_config(values)

"""`memcli stats` as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.options import AgentOption, ConfigOption, DbOption, JsonOption, QuietOption, VerboseOption
from memcli.cli.options import settings as load_settings
from memcli.errors import UsageError


def stats(
    agent: AgentOption = None,
    batches: Annotated[bool, typer.Option("--batches", help="The recent batches over time instead.")] = False,
    prometheus: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write metrics for node_exporter's textfile collector; - for stdout."),
    ] = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Show what is in the memory, how it grew, what the runs did.

    Example: memcli stats
    """
    if prometheus is not None and (batches or as_json or agent):
        raise UsageError("--prometheus goes with none of --agent, --batches and --json", "drop one of them")
    if batches and agent:
        raise UsageError("--batches does not go with --agent: a batch holds several agents' messages", "drop one")
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import stats as command  # noqa: PLC0415 - as above

    if batches:
        recent = command.batches(settings)
        if as_json:
            render.print_json(recent.to_json())
        else:
            render.show_batches(recent)
        return
    found = command.stats(settings, agent)
    if prometheus == "-":
        render.write(render.metrics_text(found))
    elif prometheus is not None:
        command.write_whole(Path(prometheus), render.metrics_text(found))
    elif as_json:
        render.print_json(found.to_json())
    else:
        render.show_stats(found)

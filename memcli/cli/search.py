"""`memcli search` as flags."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from memcli.cli.options import (
    AgentOption,
    ConfigOption,
    DbOption,
    JsonOption,
    MaxMemoryOption,
    QuietOption,
    SinceOption,
    VerboseOption,
    WorkersOption,
    parse_time,
)
from memcli.cli.options import settings as load_settings
from memcli.errors import UsageError


def search(
    queries: Annotated[list[str] | None, typer.Argument(metavar="QUERY...", help="Questions, or - for stdin.")] = None,
    query_file: Annotated[
        str | None, typer.Option("--queries", metavar="FILE", help="A file with a query per line.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Hits per query.")] = 10,
    agent: AgentOption = None,
    type_name: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="semantic, episodic or procedural.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="KIND:VALUE", help="An environment tag, as in project:api.")
    ] = None,
    since: SinceOption = None,
    max_memory: MaxMemoryOption = None,
    workers: WorkersOption = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Find memories by words and meaning.

    Example: memcli search "what did we decide about retries" -k 5
    """
    if type_name is not None and type_name not in {"semantic", "episodic", "procedural"}:
        raise UsageError(f"no such memory type: {type_name}", "it is one of semantic, episodic, procedural")
    settings, _ = load_settings(config, {"db": db, "max_memory": max_memory, "workers": workers})
    passed_since = parse_time(since)
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import search as command  # noqa: PLC0415 - as above: numpy
    from memcli.store.search import Filters  # noqa: PLC0415 - as above

    asked = command.read_queries(queries or [], query_file)
    filters = Filters(agent, type_name, tag, passed_since)
    answers = command.search(settings, asked, filters, k, os.environ)
    if as_json:
        render.print_json([answer.to_json() for answer in answers])
    else:
        render.show_answers(answers)

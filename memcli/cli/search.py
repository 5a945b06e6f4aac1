"""`memcli search` as flags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, cast

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

if TYPE_CHECKING:
    from memcli.search import Mode

_ONE_DAY = 10
_TYPES = ("semantic", "episodic", "procedural")
_MODES = ("hybrid", "vector", "keyword")
_ROLES = ("user", "assistant", "system", "tool")


def search(
    queries: Annotated[list[str] | None, typer.Argument(metavar="QUERY", help="Questions, or - for stdin.")] = None,
    query_file: Annotated[
        str | None, typer.Option("--queries", metavar="FILE", help="A file with a query per line.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Hits per query.")] = 10,
    mode: Annotated[str, typer.Option(metavar="MODE", help="hybrid, vector or keyword.")] = "hybrid",
    agent: AgentOption = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Only this session.")] = None,
    type_name: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="semantic, episodic or procedural.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="KIND:VALUE", help="An environment tag, as in project:api.")
    ] = None,
    role: Annotated[str | None, typer.Option(metavar="ROLE", help="Said by: user, assistant, system or tool.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="FILE", help="From this transcript: a path, the end of one, or a pattern.")
    ] = None,
    since: SinceOption = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Nothing newer; a date includes its day.")] = None,
    importance: Annotated[
        float | None, typer.Option("--min-importance", min=0, max=1, help="Nothing less important.")
    ] = None,
    environment: Annotated[
        list[str] | None, typer.Option("--env", metavar="KIND:VALUE", help="Put memories with this tag first.")
    ] = None,
    context: Annotated[int, typer.Option(metavar="N", min=0, max=50, help="Show N messages around the source.")] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each score is made of.")] = False,
    use_cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Use the query cache.")] = True,
    max_memory: MaxMemoryOption = None,
    workers: WorkersOption = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Find memories by words and meaning.

    Example: memcli search "what did we decide about retries" -k 5
    """
    _check("memory type", type_name, _TYPES)
    _check("role", role, _ROLES)
    _check("mode", mode, _MODES)
    if environment and mode != "hybrid":
        raise UsageError(f"--env does not go with --mode {mode}", "a tag can be demanded in every mode: --tag")
    settings, _ = load_settings(config, {"db": db, "max_memory": max_memory, "workers": workers})
    passed_since, passed_until = parse_time(since), _end_of(until)
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import search as command  # noqa: PLC0415 - as above: numpy
    from memcli.search import Request  # noqa: PLC0415 - as above
    from memcli.store.search import Filters  # noqa: PLC0415 - as above

    asked = command.read_queries(queries or [], query_file)
    filters = Filters(agent, type_name, tag, passed_since, passed_until, session, role, source, importance)
    request = Request(cast("Mode", mode), filters, k, tuple(dict.fromkeys(environment or ())), context, explain)
    if as_json:
        render.print_documents(command.search_json(settings, asked, request, os.environ, use_cache=use_cache))
    else:
        render.show_answers(command.search(settings, asked, request, os.environ, use_cache=use_cache, mark=True))
    if not quiet:
        render.warn(command.unknown_names(settings, filters))


def _check(what: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise UsageError(f"no such {what}: {value}", f"it is one of {', '.join(allowed)}")


def _end_of(until: str | None) -> str | None:
    """The first time that does not pass any more; a date stands for all of its day."""
    found = parse_time(until)
    if until is None or found is None or len(until.strip()) > _ONE_DAY:
        return found
    return f"{found[:_ONE_DAY]}T24:00:00.000Z"

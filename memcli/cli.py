"""The Typer app: flags, help, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from memcli import __version__
from memcli.config import Config
from memcli.config import load as load_config
from memcli.errors import EXIT_CODES, InputRejectedError, InterruptedRunError, MemcliError, UsageError

# Typer runs the paragraphs of an epilog together unless each line is one of its own.
_EPILOG = "\n\n".join(["Exit codes:", *(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items())])

app = typer.Typer(
    name="memcli",
    help="Turn chat transcripts into a deduplicated, searchable long-term memory in one SQLite file.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Settings and where they come from.", no_args_is_help=True, rich_markup_mode=None)
bench_app = typer.Typer(help="Measure memcli on this machine.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(bench_app, name="bench")

DbOption = Annotated[
    Path | None,
    typer.Option("--db", metavar="FILE", help="The database [MEMCLI_DB; else memory.db in the data folder]."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings [MEMCLI_CONFIG; else ./memcli.toml, else the user's]."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no warnings.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="A timing line per batch and stage; traces of bugs.")]
AgentOption = Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Whose memory it is.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="DATE", help="Nothing older (2026-03-05, or a full time; UTC).")
]


def main() -> NoReturn:
    """Run the command line and exit with the code that the README's table gives."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except MemcliError as error:
        from memcli import render  # noqa: PLC0415 - Rich takes 50 ms, which --help and completion need not wait for

        render.print_error(error)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever else happens is a bug and is shown as one
        _report_bug(error)
        sys.exit(1)
    sys.exit(0)


def _interrupt(number: int, _frame: object) -> NoReturn:
    raise InterruptedRunError(
        f"interrupted ({signal.Signals(number).name}); every committed batch is kept",
        "run the same command again to go on",
    )


def _report_bug(error: Exception) -> None:
    if "--verbose" in sys.argv:
        traceback.print_exception(error)
    # ascii() writes out whatever a terminal could act on.
    text = ascii(str(error))[1:-1]
    print(f"memcli: unexpected fault, a bug: {type(error).__name__}: {text}", file=sys.stderr)  # noqa: T201 - Rich may fail
    print("        run it again with --verbose for the trace, and report it", file=sys.stderr)  # noqa: T201


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memcli {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _settings(config_file: Path | None, flags: Mapping[str, object]) -> tuple[Config, dict[str, str]]:
    return load_config(flags, config_file, os.environ, Path.cwd())


def _time(value: str | None) -> str | None:
    """A date or time given by the user, as messages have it."""
    if value is None:
        return None
    from memcli.readers.fields import normalise_timestamp  # noqa: PLC0415 - keeps --help fast

    found = normalise_timestamp(value)
    if found is None:
        raise UsageError(f"not a date: {value}", "write it like 2026-03-05 or 2026-03-05T14:30:00Z")
    return found


@app.command()
def ingest(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Transcripts, folders of them, or - for stdin.")
    ],
    format_name: Annotated[
        str | None, typer.Option("--format", help="claude-code or flat, instead of sniffing.")
    ] = None,
    mapping: Annotated[
        str | None, typer.Option("--map", metavar="role=author,...", help="Names of the fields in flat JSONL.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Window sizes, filters, tiers and rate [local].")] = None,
    extract: Annotated[str | None, typer.Option(metavar="TIERS", help="Tiers to run [rules,verbatim].")] = None,
    starter_rules: Annotated[
        bool | None, typer.Option("--starter-rules/--no-starter-rules", help="Use the built-in rules.")
    ] = None,
    roles: Annotated[str | None, typer.Option(metavar="ROLES", help="Roles to keep [user,assistant].")] = None,
    agent: AgentOption = None,
    since: SinceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many messages.")] = None,
    time_budget: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Stop after the batch that passes this time.")
    ] = None,
    flush: Annotated[bool, typer.Option("--flush", help="Close all partial windows at the end.")] = False,
    batch_size: Annotated[int | None, typer.Option(help="Messages per transaction [1024].")] = None,
    embed_batch_size: Annotated[int | None, typer.Option(help="Texts per run of the embedding model [64].")] = None,
    wait: Annotated[float | None, typer.Option(metavar="SECONDS", help="Wait for another run to end [0].")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do it on a copy that is deleted; same report.")] = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Read what is new in transcripts and remember it.

    Example: memcli ingest ~/.claude/projects
    """
    flags = {
        "db": db,
        "agent": agent,
        "profile": profile,
        "extract": extract,
        "starter_rules": starter_rules,
        "roles": roles,
        "batch_size": batch_size,
        "embed_batch_size": embed_batch_size,
        "wait": wait,
    }
    settings, _ = _settings(config, flags)
    request_since = _time(since)
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import ingest as command  # noqa: PLC0415 - as above: numpy

    request = command.Request(
        paths, format_name, mapping, request_since, limit, time_budget, flush=flush, dry_run=dry_run
    )
    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose)
    try:
        report = command.ingest(settings, request, progress, os.environ)
    finally:
        progress.finish()
    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_ingest(report)
    render.explain_rejected(report)
    if report.rejected or report.files.failed:
        raise InputRejectedError(
            f"not taken: lines {report.rejected:,}, files {len(report.files.failed):,}",
            "all else is done; the table rejected_lines keeps where and why",
        )


@app.command()
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
    settings, _ = _settings(config, {"db": db})
    passed_since = _time(since)
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

    values = effective(*_settings(config, {"db": db}))
    if as_json:
        render.print_json({name: {"value": value, "from": origin} for name, (value, origin) in values.items()})
    else:
        render.show_config(values)


@bench_app.command("ingest")
def bench_ingest(
    messages: Annotated[int, typer.Option(min=1, help="Messages to generate.")] = 50_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same corpus.")] = 7,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Ingest generated messages in a process of its own: messages per second, time per stage, peak memory.

    Example: memcli bench ingest --messages 10000
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.bench.ingest import bench_ingest as measure  # noqa: PLC0415 - as above

    result = measure(messages, seed)
    if as_json:
        render.print_json(result.to_json())
    else:
        render.show_ingest_benchmark(result)

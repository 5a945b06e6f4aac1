"""The Typer app: flags, help, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from memcli import __version__
from memcli.cli.bench import bench_app
from memcli.cli.config import config_app
from memcli.cli.formats import formats
from memcli.cli.ingest import ingest
from memcli.cli.model import model_app
from memcli.cli.rules import rules_app
from memcli.cli.search import search
from memcli.cli.stats import stats
from memcli.errors import EXIT_CODES, InterruptedRunError, MemcliError

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
app.command()(ingest)
app.command()(search)
app.command()(stats)
app.command()(formats)
app.add_typer(rules_app, name="rules")
app.add_typer(config_app, name="config")
app.add_typer(bench_app, name="bench")
app.add_typer(model_app, name="model")


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
        f"interrupted ({signal.Signals(number).name}); what was committed is kept", "run it again to go on"
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

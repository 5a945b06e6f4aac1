"""The Typer app: flags, help, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import copy
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn

import typer

from memcli import __version__
from memcli.cli.bench import bench_app
from memcli.cli.config import config_app
from memcli.cli.dedup import dedup
from memcli.cli.exchange import export, import_
from memcli.cli.formats import formats
from memcli.cli.ingest import ingest
from memcli.cli.model import model_app
from memcli.cli.reindex import reindex
from memcli.cli.rules import rules_app
from memcli.cli.search import search
from memcli.cli.stats import stats
from memcli.errors import EXIT_CODES, InterruptedRunError, MemcliError

# Typer's arguments go through pydantic, which would read the metadata of all installed packages to look for plugins.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

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
app.command()(dedup)
app.command()(stats)
app.command()(reindex)
app.command()(export)
app.command("import")(import_)
app.command()(formats)
app.add_typer(rules_app, name="rules")
app.add_typer(model_app, name="model")
app.add_typer(config_app, name="config")
app.add_typer(bench_app, name="bench")


_interruptions: list[InterruptedRunError] = []


def run() -> NoReturn:
    """Run the command line and exit with the code that the README's table gives."""
    try:
        _on_interruption(_interrupt)
        _narrowed(sys.argv[1:])()
    except Exception as error:  # noqa: BLE001 - the boundary: whatever is none of ours is a bug and is shown as one
        # A library that was being imported may have made another error of the interruption.
        ours = _interruptions[0] if _interruptions else error
        # Whoever is impatient now ends it at once: nothing is left to be kept.
        _on_interruption(signal.SIG_DFL)
        if not isinstance(ours, MemcliError):
            _report_bug(error)
            sys.exit(1)
        from memcli import render  # noqa: PLC0415 - Rich takes 50 ms, which --help and completion need not wait for

        render.print_error(ours)
        sys.exit(ours.exit_code)
    finally:
        gc.freeze()  # else the interpreter looks for garbage among all modules at its end, for 60 ms
    sys.exit(0)


def _on_interruption(handler: Callable[[int, object], NoReturn] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _narrowed(words: Sequence[str]) -> typer.Typer:
    """The app with none but the command that `words` begin with: typer would build the flags of all, in 30 ms."""
    named = words[0] if words else None
    own = copy.copy(app)
    own.registered_commands = [
        each for each in app.registered_commands if (each.name or getattr(each.callback, "__name__", "")) == named
    ]
    own.registered_groups = [each for each in app.registered_groups if each.name == named]
    return own if own.registered_commands or own.registered_groups else app


def _interrupt(number: int, _frame: object) -> NoReturn:
    error = InterruptedRunError(
        f"interrupted ({signal.Signals(number).name}); what was committed is kept", "run it again to go on"
    )
    _interruptions.append(error)
    raise error


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

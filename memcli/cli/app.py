"""The Typer app: flags, help, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Collection, Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, NoReturn

import typer
from typer.main import get_command

from memcli import __version__
from memcli.cli import faults, on_stopping, streams
from memcli.cli.first import Group, Root
from memcli.cli.values import quick
from memcli.cli.wording import polish
from memcli.errors import EXIT_CODES, DamagedError, InterruptedRunError, MemcliError

# Typer's arguments go through pydantic, which would read the metadata of all installed packages to look for plugins.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# The threads of numpy's OpenBLAS would spin for 2^26 cycles, 25 ms, before they sleep: at every start, for nothing.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

# The backspace keeps Typer from running the lines together.
_EPILOG = "\n".join(["\b", "Exit codes:", *(f"{code:>5}: {meaning}" for code, meaning in EXIT_CODES.items())])

# Each in the module of its name, in the order of the help; a function, or an app of subcommands called NAME_app.
COMMANDS = (
    *("ingest", "search", "dedup", "stats", "reindex", "check", "backup"),
    *("export", "import", "forget", "formats", "profiles"),
)
GROUPS = ("cost", "rules", "model", "config", "bench")


def build(names: Collection[str]) -> typer.Typer:
    """The app with the commands `names`, those of COMMANDS and GROUPS: importing and building all takes 40 ms."""
    app = typer.Typer(
        name="memcli",
        help="Turn chat transcripts into a deduplicated, searchable long-term memory in one SQLite file."
        "\n\nExample: memcli ingest ~/.claude/projects",
        epilog=_EPILOG,
        cls=Root,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in (each for each in COMMANDS if each in names):
        own = f"{name}_" if iskeyword(name) else name  # nothing in Python can be called import
        app.command(name)(getattr(import_module(f"memcli.cli.{own}"), own))
    for name in (each for each in GROUPS if each in names):
        app.add_typer(getattr(import_module(f"memcli.cli.{name}"), f"{name}_app"), name=name, cls=Group)
    return app


# What Click puts in the place of a stdout whose reader has gone.
_UNREAD = "PacifyFlushWrapper"

_interruptions: list[InterruptedRunError] = []


def run() -> NoReturn:
    """Run the command line and exit with the code that the README's table gives."""
    try:
        streams.prepare()
        if sys.argv[1:2] and sys.argv[1] in COMMANDS:
            faults.check_room()
        command = get_command(build(_asked_for(sys.argv[1:])))
        quick(command)
        polish(command)
        on_stopping(_interrupt)
        command()
    except SystemExit:
        if type(sys.stdout).__name__ == _UNREAD:
            sys.exit(0)  # whoever read the help has seen enough (`| head`), which Click takes for a failure
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: whatever is none of ours is a bug and is shown as one
        _end_with(error)
    finally:
        gc.freeze()  # else the interpreter looks for garbage among all modules at its end, for 60 ms
    sys.exit(0)


def _end_with(error: Exception) -> NoReturn:
    """Say what went wrong, and exit with its code."""
    # A library that was being imported may have made another error of the interruption.
    ours = _interruptions[0] if _interruptions else faults.meant(error) or error
    # Whoever is impatient now ends it at once: nothing is left to be kept.
    on_stopping(signal.SIG_DFL)
    if not isinstance(ours, MemcliError):
        ours = faults.of_database(error) or error
    try:
        sys.stdout.flush()
    except OSError:
        streams.drop_output()
    if not isinstance(ours, MemcliError):
        _report_bug(error)
        sys.exit(1)
    if isinstance(ours, DamagedError) and ours.fault is not None:
        _show_trace(ours.fault)
    try:
        from memcli import render  # noqa: PLC0415 - Rich takes 50 ms, which --help and completion need not wait for

        render.print_error(ours)
    except (MemoryError, ImportError, OSError):  # what ended the run may keep Rich from being loaded
        _print_plain(ours)
    sys.exit(ours.exit_code)


def _asked_for(words: Sequence[str]) -> Collection[str]:
    """The command that `words` begin with; all where they begin with none, for the help and for suggestions."""
    every = (*COMMANDS, *GROUPS)
    return words[:1] if words and words[0] in every else every


def _interrupt(number: int, _frame: object) -> NoReturn:
    error = InterruptedRunError(
        f"interrupted ({signal.Signals(number).name}); what was committed is kept", "run it again to go on"
    )
    _interruptions.append(error)
    raise error


def _print_plain(error: MemcliError) -> None:
    for name, text in (("memcli:", error.message), ("       ", error.hint)):
        print(name, ascii(text)[1:-1], file=sys.stderr)  # noqa: T201 - as in `_report_bug`


def _show_trace(error: Exception) -> None:
    if "--verbose" in sys.argv:
        for part in traceback.format_exception(error):
            # Our own lines of the stack are as they are; what an error says is one line of what it was.
            shown = part if part.startswith("  File ") else f"{_written_out(part.rstrip())}\n"
            print(shown, end="", file=sys.stderr)  # noqa: T201 - as below


def _report_bug(error: Exception) -> None:
    _show_trace(error)
    text = _written_out(str(error))
    print(f"memcli: unexpected fault, a bug: {type(error).__name__}: {text}", file=sys.stderr)  # noqa: T201 - Rich may fail
    for note in getattr(error, "__notes__", ()):
        print(f"        {_written_out(note)}", file=sys.stderr)  # noqa: T201
    print("        run it again with --verbose for the trace, and report it", file=sys.stderr)  # noqa: T201


def _written_out(text: str) -> str:
    """`text` on one line, without anything that a terminal could act on."""
    return ascii(text)[1:-1]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memcli {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass

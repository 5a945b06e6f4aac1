"""`memcli forget` as flags."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from memcli.cli.options import (
    ConfigOption,
    DbOption,
    JsonOption,
    MaxMemoryOption,
    QuietOption,
    VerboseOption,
    WaitOption,
)
from memcli.cli.options import settings as load_settings
from memcli.errors import UsageError

if TYPE_CHECKING:
    from memcli.config import Config
    from memcli.store.forget import Selection

# SQLite's largest id and one more.
_ENDS_IDS = 1 << 63


def forget(
    memory: Annotated[
        int | None, typer.Argument(metavar="MEMORY_ID", help="A memory, its duplicates and the messages they are of.")
    ] = None,
    session: Annotated[str | None, typer.Option(metavar="KEY", help="A session.")] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="All of an agent; with another selection, only of this agent.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="FILE", help="What was read from a transcript, or from those in a folder.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What holds these very characters; - reads them."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go; works on a copy.")] = False,
    max_memory: MaxMemoryOption = None,
    wait: WaitOption = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Remove a session, an agent, a file or a text for good.

    The database file is written anew, and a later ingest or import does not bring it back. It cannot be undone. A
    message goes as a whole, with all that was taken from it.

    Example: memcli forget --session 4d7d11a9 --dry-run
    """
    del quiet, verbose  # nothing is said but the report
    if memory is not None and any(each is not None for each in (session, agent, source, text)):
        raise UsageError("a memory id stands alone", "drop the other selection")
    if memory is not None and abs(memory) >= _ENDS_IDS:
        raise UsageError(f"no id has as many digits as {memory}", "the ids are small whole numbers")
    if text == "-":  # a secret need not go through the history of a shell
        text = sys.stdin.read().strip("\r\n")
    named = {"--session": session, "--agent": agent, "--source": source, "--text": text}
    if empty := [name for name, value in named.items() if value is not None and not value.strip()]:
        raise UsageError(f"{empty[0]} is empty", "name what to forget")
    settings, _ = load_settings(config, {"db": db, "max_memory": max_memory, "wait": wait})
    from memcli.store.forget import Selection  # noqa: PLC0415 - keeps --help fast

    _run(settings, Selection(agent, session, source, text, memory), as_json=as_json, yes=yes, dry_run=dry_run)


def _run(settings: Config, selection: Selection, *, as_json: bool, yes: bool, dry_run: bool) -> None:
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import forget as command  # noqa: PLC0415 - as above: numpy
    from memcli.store.db import require_database  # noqa: PLC0415 - as above: sqlite3

    require_database(settings.db)
    if not (yes or dry_run):
        if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("what is forgotten is gone for good", "look at it with --dry-run, then add --yes")
        render.show_forget(command.forget(settings, selection, dry_run=True), asking=True)
        sys.stdout.write("Forget all of this for good? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            sys.stdout.write("Nothing was forgotten.\n")
            return
    report = command.forget(settings, selection, dry_run=dry_run)
    if as_json:
        render.print_json(report.to_json())
    else:
        render.show_forget(report)

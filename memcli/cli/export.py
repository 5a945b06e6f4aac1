"""`memcli export` as flags."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.options import (
    ConfigOption,
    DbOption,
    QuietOption,
    VerboseOption,
)
from memcli.cli.options import settings as load_settings
from memcli.config import Config
from memcli.errors import UsageError


class ExportFormat(StrEnum):
    """What an export can be written as."""

    JSONL = "jsonl"
    CSV = "csv"
    MARKDOWN = "markdown"


def export(
    format_name: Annotated[ExportFormat, typer.Option("--format", help="How to write it.")] = ExportFormat.JSONL,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to [stdout].")] = None,
    vectors: Annotated[
        Path | None, typer.Option("--with-vectors", metavar="FILE.npz", help="Write the vectors there as well.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="The memories of this agent [all].")
    ] = None,
    datasette: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead: titles, descriptions and queries for Datasette; - for stdout."),
    ] = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --out, print one JSON document.")] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Write all memories as JSON Lines, CSV or Markdown.

    What memcli import takes is the JSON Lines; the others are to be read.

    Example: memcli export --out memories.jsonl
    """
    settings, _ = load_settings(config, {"db": db})
    if datasette is not None:
        _datasette(settings, datasette, quiet=quiet, as_json=as_json, alone=(out, vectors, agent) == (None, None, None))
        return
    to_stdout = out is None or str(out) == "-"
    if as_json and to_stdout:
        raise UsageError("--json is for exports to a file: standard output is the export", "name one with --out FILE")
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import exchange as command  # noqa: PLC0415 - as above: numpy

    request = command.ExportRequest(None if to_stdout else out, vectors, agent, format_name is ExportFormat.JSONL)
    exported = command.export(settings, request, render.export_writer(format_name.value), render.write)
    if as_json:
        render.print_json(exported.to_json())
    elif not quiet and not to_stdout:
        render.show_export(exported)


def _datasette(settings: Config, file: Path, *, quiet: bool, as_json: bool, alone: bool) -> None:
    if not alone:
        raise UsageError("--datasette goes with none of --out, --with-vectors and --agent", "run one after the other")
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import exchange as command  # noqa: PLC0415 - as above: numpy

    to_stdout = str(file) == "-"
    command.export_metadata(settings, None if to_stdout else file, render.write)
    if to_stdout:
        return
    if as_json:
        render.print_json({"db": str(settings.db), "out": str(file)})
    elif not quiet:
        render.show_datasette(str(settings.db), str(file))

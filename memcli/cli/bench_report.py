"""`memcli bench` without a subcommand, as flags."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.options import QuietOption, VerboseOption
from memcli.errors import UsageError

_QUICK = 0.05
_STDOUT = "-"


def bench_report(
    context: typer.Context,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the whole report as JSON; - for stdout.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--compare", metavar="FILE", help="An earlier --json, to mark what became worse.")
    ] = None,
    markdown: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write it as Markdown into the marked section of a file; - for stdout.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="At most so many rounds; they show what is noise.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="A twentieth of everything: a look, no figures.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same input.")] = 7,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Measure memcli on this machine, in at most five minutes.

    Without a command everything is measured: ingest, embedding, dedup, search, query cache and workers, each beside the
    naive way of doing the same and beside other programs where they are installed (pip install 'memcli[bench]'); and
    the targets of the design, met or missed. The parts take turns, in several rounds.

    Example: memcli bench --json after.json --compare before.json
    """
    if context.invoked_subcommand is not None:
        _refuse_flags(context)
        return
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.bench.report import Plan  # noqa: PLC0415 - as above
    from memcli.bench.report_compare import compare, read_report  # noqa: PLC0415 - as above
    from memcli.commands.bench_report import Section, report  # noqa: PLC0415 - as above: numpy

    if json_file == markdown == _STDOUT:
        raise UsageError("--json - and --markdown - both want stdout", "name a file for one of them")
    plan = Plan(rounds, _QUICK if quick else 1.0, seed)
    # Whatever is wrong with the files is found out before five minutes have passed.
    before = read_report(baseline, plan) if baseline is not None else None
    section = Section.of(markdown) if markdown not in {None, _STDOUT} else None
    target = _writable(json_file) if json_file not in {None, _STDOUT} else None
    document = report(plan, os.environ, lambda text: None if quiet else render.announce(text))
    comparison = compare(before, document) if before is not None else None
    if comparison is not None:
        document |= {"comparison": comparison.to_json()}
    if target is not None:
        target.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    if section is not None:
        section.write(render.report_markdown(document))
    if json_file == _STDOUT:
        render.print_json(document)
    elif markdown == _STDOUT:
        render.write(render.report_markdown(document))
    else:
        render.show_report(document, comparison)


def _refuse_flags(context: typer.Context) -> None:
    """Flags before the command would be of no effect."""
    for name, value in context.params.items():
        if value not in {None, False} and context.get_parameter_source(name).name == "COMMANDLINE":  # type: ignore[union-attr]
            command = context.invoked_subcommand
            raise UsageError(
                f"--{name.removesuffix('_file').replace('_', '-')} stands before {command}: it belongs to the report",
                f"put the flags of {command} behind it",
            )


def _writable(name: str) -> Path:
    path = Path(name)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}", "name another file with --json")
    return path

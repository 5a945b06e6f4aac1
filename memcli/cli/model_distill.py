"""`memcli model distill` as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memcli.cli.options import ConfigOption, DbOption, JsonOption, QuietOption, VerboseOption
from memcli.cli.options import settings as load_settings


def distill(
    teacher: Annotated[
        Path, typer.Option("--teacher", metavar="DIR", help="A sentence transformer of the BERT family as ONNX.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the model goes.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="More files for --corpus.")] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus", metavar="FILE", help="Texts, one per line, plain or .gz; FILE=3 is shown three times as often."
        ),
    ] = None,
    from_db: Annotated[bool, typer.Option("--from-db", help="Learn from the database's memories too.")] = False,
    sts: Annotated[
        list[Path] | None,
        typer.Option("--sts", metavar="FILE", help="Score on a CSV of sentence1,sentence2,score; may be repeated."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="DIR", help="Where the teacher's vectors are kept [OUT.teacher].")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option("--card", metavar="FILE", help="TOML with the name, licences and sources for the card."),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="How often each text is learned from.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same model.")] = 0,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make a small, fast embedding model from a large one.

    It learns from texts of your own. Needs the extra: pip install "memcli[train]". The teacher's vectors are kept, so
    that an interrupted run goes on.

    Example: memcli model distill --teacher ./MiniLM --from-db --out ./mine
    """
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import model_distill as command  # noqa: PLC0415 - as above: numpy

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="steps")
    try:
        made = command.distill(
            settings,
            teacher,
            [*(corpus or []), *(more or [])],
            out,
            from_db=from_db,
            cache=cache,
            card=card,
            sts=sts or [],
            seed=seed,
            epochs=epochs,
            report=progress.step,
        )
    finally:
        progress.finish()
    if as_json:
        render.print_json(made)
    else:
        render.show_card(made, str(out))


def register(app: typer.Typer) -> None:
    """Add the command to the group `memcli model`."""
    app.command("distill")(distill)

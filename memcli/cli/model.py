"""`memcli model` as flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from memcli.cli import model_distill
from memcli.cli.options import (
    ConfigOption,
    DbOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    WaitOption,
)
from memcli.cli.options import settings as load_settings

model_app = typer.Typer(
    help="Embedding models: what turns texts into vectors.\n\nExample: memcli model list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
model_distill.register(model_app)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help='"default", an installed name, the start of an id, or a model folder.')
]
FileOption = Annotated[
    str | None, typer.Option("--file", metavar="FILE", help="The ONNX file to take [onnx/model.onnx or model.onnx].")
]
OnlySayOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@model_app.command("pull")
def model_pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As at the hub: owner/model.")],
    file: FileOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be fetched.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Fetch an embedding model from the Hugging Face Hub.

    One of sentence-transformers or model2vec that has an ONNX file. HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE
    do what they do elsewhere. What is interrupted goes on with the next call.

    Example: memcli model pull sentence-transformers/all-MiniLM-L6-v2
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import model as command  # noqa: PLC0415 - as above

    progress = render.ConsoleProgress(quiet=quiet, verbose=verbose, unit="files")
    try:
        taken = command.pull(name, file, os.environ, progress, dry_run=dry_run)
    finally:
        progress.finish()
    _show_taken(taken, as_json=as_json, quiet=quiet)


@model_app.command("import")
def model_import(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with an ONNX file and tokenizer.json.")],
    file: FileOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, install nothing.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Install the model of a folder.

    Example: memcli model import ./all-MiniLM-L6-v2
    """
    from memcli.commands import model as command  # noqa: PLC0415 - keeps --help fast

    taken = command.import_folder(folder, file, os.environ, dry_run=dry_run)
    _show_taken(taken, as_json=as_json, quiet=quiet)


@model_app.command("list")
def model_list(
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """List the models on this machine, and which are in use.

    New databases take one of them, the database at hand has one.

    Example: memcli model list
    """
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import model as command  # noqa: PLC0415 - as above

    models, problems = command.listing(settings, os.environ)
    documents = [each.to_json() for each in models]
    if as_json:
        render.print_json(documents)
    else:
        render.show_models(documents)
    if not quiet:
        render.warn(problems)


@model_app.command("info")
def model_info(
    name: NameArgument,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Show a model's card: pooling, prompts, length, licence.

    Example: memcli model info default
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import model as command  # noqa: PLC0415 - as above

    card = command.info(name, os.environ)
    if as_json:
        render.print_json(card)
    else:
        render.show_model(card)


@model_app.command("use")
def model_use(
    name: NameArgument,
    wait: WaitOption = None,
    dry_run: OnlySayOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Take a model for new databases from now on.

    A database that has memories keeps its model: memcli reindex moves it.

    Example: memcli model use all-MiniLM-L6-v2
    """
    settings, _ = load_settings(config, {"db": db, "wait": wait})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import model as command  # noqa: PLC0415 - as above

    changed = command.use(settings, name, os.environ, dry_run=dry_run).to_json()
    if as_json:
        render.print_json(changed)
    else:
        render.show_model_changed("New databases take", changed)


@model_app.command("remove")
def model_remove(
    name: NameArgument,
    dry_run: OnlySayOption = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,  # noqa: ARG001 - there is no progress here to leave out
    verbose: VerboseOption = False,  # noqa: ARG001 - read by the error boundary
) -> None:
    """Delete an installed model.

    Not the one that the database at hand was made with. Other databases that were made with it cannot be searched until
    it is back.

    Example: memcli model remove all-MiniLM-L6-v2
    """
    settings, _ = load_settings(config, {"db": db})
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import model as command  # noqa: PLC0415 - as above

    changed = command.remove(settings, name, os.environ, dry_run=dry_run).to_json()
    if as_json:
        render.print_json(changed)
    else:
        render.show_model_changed("Removed", changed)


def _show_taken(taken: Any, *, as_json: bool, quiet: bool) -> None:  # noqa: ANN401 - commands.model.Taken, lazily
    from memcli import render  # noqa: PLC0415 - keeps --help fast

    if as_json:
        render.print_json(taken.to_json())
    else:
        render.show_taken(taken.to_json())
    if not quiet:
        render.warn(taken.warnings)

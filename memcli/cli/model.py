"""`memcli model` as flags."""

from __future__ import annotations

import typer

from memcli.cli import model_distill

model_app = typer.Typer(help="Embedding models.", no_args_is_help=True, rich_markup_mode=None)
model_distill.register(model_app)

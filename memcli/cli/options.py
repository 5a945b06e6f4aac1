"""Flags that several commands share, and how they become settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from memcli import workers
from memcli.config import Config
from memcli.config import load as load_config
from memcli.errors import UsageError

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
MaxMemoryOption = Annotated[
    str | None, typer.Option("--max-memory", metavar="SIZE", help="Cap of the vectors held in memory [1GB].")
]
WaitOption = Annotated[float | None, typer.Option(metavar="SECONDS", help="Wait for another run to end [0].")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="Processors to use [all there are]; no result depends on it."),
]
RedactOption = Annotated[
    bool | None,
    typer.Option("--redact/--no-redact", help="Replace credentials before anything is stored [--redact]."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Do it on a copy that is deleted; same report.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="MODEL", help="A folder, or an installed model's name [default].")
]
NewModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="Embedding model of a new database: one of memcli model, or openai:NAME."
    ),
]
EmbedBatchSizeOption = Annotated[
    str | None, typer.Option(metavar="N", help='Texts per run of the embedding model, or "auto" [64].')
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="Where an openai:NAME model is asked [OpenAI].")
]
AgentOption = Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Whose memory it is.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="DATE", help="Nothing older (2026-03-05, or a full time; UTC).")
]


def settings(config_file: Path | None, flags: Mapping[str, object]) -> tuple[Config, dict[str, str]]:
    """The effective settings and the origin of each; from here on the process has as many workers as they say."""
    found = load_config(flags, config_file, os.environ, Path.cwd())
    workers.use(found[0].workers)
    return found


def parse_time(value: str | None) -> str | None:
    """A date or time given by the user, as messages have it; it may be one that no message can have.

    Raises:
        UsageError: it is none.
    """
    if value is None:
        return None
    from memcli.readers.fields import normalise_timestamp  # noqa: PLC0415 - keeps --help fast

    found = normalise_timestamp(value) or _beyond(value)
    if found is None:
        raise UsageError(f"not a date: {value}", "write it like 2026-03-05 or 2026-03-05T14:30:00Z")
    return found


def _beyond(value: str) -> str | None:
    """A time before 1970 or after 2199: such a limit is written in place of none."""
    from datetime import UTC, datetime  # noqa: PLC0415 - keeps --help fast

    try:
        moment = datetime.fromisoformat(value.strip().upper())
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"

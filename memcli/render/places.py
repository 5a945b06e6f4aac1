"""The question which of the known places to read. It is on stderr: stdout is for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memcli.ingest.places import home_of
from memcli.render.layout import bytes_of
from memcli.render.terminal import safe

if TYPE_CHECKING:
    from memcli.ingest.places import Place


def show_places(places: Sequence[Place], environ: Mapping[str, str]) -> None:
    """Print what was found, numbered from 1."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    for is_number in (True, False, True, True, False):
        table.add_column(justify="right" if is_number else "left", no_wrap=True)
    table.columns[-1].no_wrap, table.columns[-1].overflow = False, "fold"
    for number, each in enumerate(places, 1):
        files = f"{each.files:,} {'file' if each.files == 1 else 'files'}"
        place = Text(safe(each.shown(home_of(environ))))
        table.add_row(f"{number}", each.format, files, bytes_of(each.size), place)
    console = Console(stderr=True, highlight=False)
    console.print("Transcripts found:")
    console.print(table)


def show_next_time(command: str) -> None:
    """Print the command that does the same without asking."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(f"The same without a question, as cron needs it: {safe(command)}", style="dim"))

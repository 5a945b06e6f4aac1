"""The list of transcript formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.render.terminal import show

if TYPE_CHECKING:
    from memcli.readers import FormatInfo


def show_formats(formats: Sequence[FormatInfo]) -> None:
    """Print what each format is called, whose memory it feeds, and where its files lie."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("format", "agent", "where"):
        table.add_column(heading, no_wrap=heading != "where")
    for each in formats:
        table.add_row(each.name, each.agent, Text(each.where))
    show([table])

"""Settings and their origins."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from memcli.render.terminal import safe, show


def show_config(values: Mapping[str, tuple[object, str]]) -> None:
    """Print every setting, its value and where it comes from."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "setting")
    for name, (value, origin) in values.items():
        shown = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        table.add_row(Text(name), Text(safe(shown)), Text(safe(origin)))
    show([table])

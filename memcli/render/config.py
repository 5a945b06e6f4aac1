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
        table.add_row(Text(name), Text(safe(_written(value))), Text(safe(origin)))
    show([table])


def _written(value: object) -> str:
    """A value as it stands in memcli.toml, without quotes."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None else str(value)

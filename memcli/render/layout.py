"""What dashboards are laid out with: bars, sparklines, and texts that fit into so many cells."""

from __future__ import annotations

import statistics
import sys
import textwrap
from collections.abc import Callable, Sequence
from decimal import Decimal

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from memcli.render.terminal import safe

WIDTH = 80
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
_KILO = 1000


def width_of_output() -> int:
    """Cells of a line: at most 80, and 80 where nobody looks at it now."""
    # Read by programs and by people in a pager: the same layout as on the terminal of the design.
    return min(WIDTH, Console().width) if sys.stdout.isatty() else WIDTH


def bar(value: float, top: float, room: int) -> str:
    """A bar of `room` cells for `top`, in steps of an eighth; whatever is not nothing shows."""
    eighths = round(value / top * room * 8) if top > 0 else 0
    eighths = max(eighths, 1) if value > 0 else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def sparkline(
    label: str, values: Sequence[float | None], width: int, figure: Callable[[float], str] | None = None
) -> Text:
    """A line of marks, one per value (None: a blank), with the median and the largest as `figure` writes them."""
    shown = figure or short
    known = [value for value in values if value is not None]
    top = max(known, default=0)
    marks = "".join(" " if value is None else _LEVELS[round(value / top * 7) if top else 0] for value in values)
    median = statistics.median(known) if known else 0
    figures = f"median {shown(median)}, most {shown(top)}"
    return cut(Text.assemble(f"{label:<11}", (marks, "cyan"), "  ", (figures, "dim")), width)


def cut(text: Text, width: int) -> Text:
    """The text itself, what is too much replaced by an ellipsis."""
    text.truncate(width, overflow="ellipsis")
    return text


def wrapped(text: str, indent: int = 0, style: str = "dim") -> list[Text]:
    """A paragraph in as many lines as it takes, for a terminal and for a pipe alike."""
    room = " " * indent
    lines = textwrap.wrap(safe(text), WIDTH, initial_indent=room, subsequent_indent=room or "  ")
    return [Text(line, style=style) for line in lines]


def fitted(text: str, width: int, *, keep_end: bool = False) -> str:
    """`text` in at most `width` cells, what is missing shown by an ellipsis."""
    if cell_len(text) <= width:
        return text
    if keep_end:
        return f"…{set_cell_size(text[::-1], width - 1)[::-1]}"
    return f"{set_cell_size(text, width - 1)}…"


def number_of(count: int, one: str, many: str | None = None) -> str:
    """A count and the noun that goes with it."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def when(time: str, *, seconds: bool = False) -> str:
    """A time of the database as people write it, to the minute or the second."""
    return safe(time[: 19 if seconds else 16].replace("T", " "))


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 60:  # noqa: PLR2004 - as clocks do
        return f"{seconds:.2f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 60 else f"{minutes / 60:.1f} h"  # noqa: PLR2004 - as above


def short(value: float) -> str:
    """A figure without digits that say nothing."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"  # noqa: PLR2004 - two digits at least


def bytes_of(size: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "kB", "MB"):
        if size < _KILO:
            return f"{size:,.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"  # noqa: PLR2004 - as above
        size /= _KILO
    return f"{size:,.1f} GB"


def usd(amount: Decimal | float) -> str:
    """Dollars: to the cent from a dollar on, below with three digits that count."""
    exact = Decimal(str(amount))
    if exact == 0 or abs(exact) >= 1:
        from memcli.cost import cents  # noqa: PLC0415 - search shows no dollars, and need not import prices

        return f"${cents(exact):,}"
    places = 2 - exact.adjusted()
    whole, _, rest = f"{round(exact, places):f}".rstrip("0").partition(".")
    return f"${whole}.{rest:0<2}"

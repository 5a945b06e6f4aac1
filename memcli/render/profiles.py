"""The profiles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from memcli.config import Profile

_FILTERS = {
    "strict": "no greetings, confirmations",
    "emotions": "emotions stay",
    "everything": "greetings, confirmations stay",
    "none": "nothing is filtered",
}


def show_profiles(profiles: Sequence[Profile], chosen: str) -> None:
    """Print how each profile cuts and filters, then what it is expected to bring; `chosen` is marked."""
    cuts = _table("profile", "window", "closes after", "at least", "rate", "tiers", numbers=4)
    brings = _table("profile", "chars", "per window", "tokens", "filter and focus", numbers=3)
    for each in profiles:
        name = Text(safe(each.name), style="bold" if each.name == chosen else "")
        cuts.add_row(
            name,
            f"{each.max_messages:,}",
            f"{each.timeout_minutes:g} min",
            f"{each.min_messages:,}",
            f"{each.rate:g}",
            " ".join(each.tiers),
        )
        brings.add_row(
            name,
            f"{each.min_chars:,}",
            _known(each.expected_memories),
            _known(each.expected_tokens),
            Text("; ".join(filter(None, [_FILTERS[each.filters], safe(each.focus)]))),
        )
    notes = (
        "window: most messages; a partial one closes after so many quiet minutes, if it has at least so many.",
        "rate: share of the windows that the tiers see that cost money. chars: shorter messages are noise.",
        "per window, tokens: memories expected of a window, and how long each is; -: nothing is known.",
    )
    show([cuts, Text(""), brings, Text(""), *(Text(note, style="dim") for note in notes)])


def _known(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _table(*headings: str, numbers: int) -> Table:
    """A table whose columns 1 to `numbers` are numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        is_last = place == len(headings) - 1
        table.add_column(
            heading, justify="right" if 1 <= place <= numbers else "left", no_wrap=not is_last, overflow="fold"
        )
    return table

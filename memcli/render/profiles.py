"""The profiles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from memcli.config import Profile

_NOTES = (
    "window: most messages in one. closes: quiet minutes after which a partial one",
    "closes, if it has at least so many. rate: share of the windows that tiers see",
    "which cost money; 0.2 is meant to bring 200 memories of 1,000 messages.",
    "chars: shorter messages are dropped. filter: strict drops greetings and",
    "confirmations, emotions keeps short ones that speak of an emotion, everything",
    "keeps both, none drops nothing else. memories: expected of a window, each of so",
    "many tokens; -: not known.",
)


def show_profiles(profiles: Sequence[Profile], chosen: str) -> None:
    """Print how each profile cuts and filters, then what it is expected to bring; `chosen` is marked."""
    cuts = _table("profile", "window", "closes", "least", "rate", "chars", "tiers", numbers=5, gap=2)
    brings = _table("profile", "memories", "each", "filter", "focus", numbers=2, gap=1)
    for each in profiles:
        name = Text(safe(each.name), style="bold" if each.name == chosen else "")
        cuts.add_row(
            name,
            f"{each.max_messages:,}",
            f"{each.timeout_minutes:g} m",
            f"{each.min_messages:,}",
            f"{each.rate:g}",
            f"{each.min_chars:,}",
            ", ".join(each.tiers),
        )
        brings.add_row(
            name, _known(each.expected_memories), _known(each.expected_tokens), each.filters, Text(safe(each.focus))
        )
    show([cuts, Text(""), brings, Text(""), *(Text(note, style="dim") for note in _NOTES)])


def _known(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _table(*headings: str, numbers: int, gap: int) -> Table:
    """A table whose columns 1 to `numbers` are numbers."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for place, heading in enumerate(headings):
        is_number = 1 <= place <= numbers
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return table

"""Hits of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from memcli.render.terminal import one_line, safe, show

if TYPE_CHECKING:
    from memcli.search import Answer

_SHOWN_SOURCES = 2
_SHOWN_TAGS = 4


def show_answers(answers: Sequence[Answer]) -> None:
    """Print hits, best first, each with where it comes from."""
    blocks: list[object] = []
    for answer in answers:
        if len(answers) > 1:
            blocks.append(Text(f"? {one_line(answer.query)}", style="bold"))
        if not answer.hits:
            blocks.append(Text("no memories found"))
        for place, (score, star) in enumerate(answer.hits, 1):
            blocks.append(Text.assemble((f"{place}. ", "bold"), one_line(star.content)))
            day = star.timestamp[:10] if star.timestamp else "no date"
            facts = [f"{score:.2f}", star.type, f"importance {star.importance:.1f}", star.agent_id, day]
            tags = sorted(star.tags, key=lambda tag: (-len(star.tags[tag]), tag))
            facts += tags[:_SHOWN_TAGS] + ([f"+{len(tags) - _SHOWN_TAGS} tags"] if len(tags) > _SHOWN_TAGS else [])
            blocks.append(Padding(Text(safe(" · ".join(facts)), style="dim"), (0, 0, 0, 3)))
            for source in star.sources[:_SHOWN_SOURCES]:
                where = f"{source['path']} message {source['external_id'] or source['message_id']}"
                blocks.append(Padding(Text(safe(where), style="dim"), (0, 0, 0, 3)))
            if len(star.sources) > _SHOWN_SOURCES:
                more = Text(f"and {len(star.sources) - _SHOWN_SOURCES} more mentions", style="dim")
                blocks.append(Padding(more, (0, 0, 0, 3)))
    show(blocks)

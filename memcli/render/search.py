"""Hits of a search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from memcli.render.layout import number_of
from memcli.render.terminal import one_line, safe, show

if TYPE_CHECKING:
    from memcli.search import Answer
    from memcli.search.report import Hit

_SHOWN_SOURCES = 2
_SHOWN_TAGS = 4
_LEAST_SHOWN = 0.005


def show_answers(answers: Sequence[tuple[Answer, Sequence[str]]]) -> None:
    """Print hits, best first, each with where it comes from; the words that were found stand out on a terminal."""
    blocks: list[object] = []
    for answer, marked in answers:
        if len(answers) > 1:
            blocks.append(Text(f"? {one_line(answer.query)}", style="bold"))
        if not answer.hits:
            blocks.append(Text("no memories found"))
        for place, (hit, text) in enumerate(zip(answer.hits, marked, strict=True), 1):
            blocks.append(Text.assemble((f"{place}. ", "bold"), _highlighted(text)))
            blocks += [_below(line) for line in _facts(hit, explain=answer.request.explain)]
            blocks += [_below(each) for each in _around(hit.context)]
    show(blocks)


def _highlighted(marked: str) -> Text:
    from memcli.search.report import MARKS  # noqa: PLC0415 - other commands need nothing of search

    begin, end = MARKS
    text = Text()
    for number, part in enumerate(one_line(marked).split(begin)):
        found, closed, rest = part.partition(end) if number else ("", "", part)
        if number and not closed:
            found, rest = "", part
        text.append(found, style="bold yellow")
        text.append(rest.replace(end, ""))
    return text


def _below(line: Text | str) -> Padding:
    return Padding(line if isinstance(line, Text) else Text(line, style="dim"), (0, 0, 0, 3))


def _facts(hit: Hit, *, explain: bool) -> Iterable[str]:
    star = hit.details
    day = star.timestamp[:10] if star.timestamp else "no date"
    facts = [f"{hit.ranked.score:.2f}", star.type, f"importance {star.importance:.1f}", star.agent_id, day]
    tags = sorted(star.tags, key=lambda tag: (-len(star.tags[tag]), tag))
    facts += tags[:_SHOWN_TAGS] + ([f"+{number_of(len(tags) - _SHOWN_TAGS, 'tag')}"] if len(tags) > _SHOWN_TAGS else [])
    yield safe(" · ".join(facts))
    if explain:
        parts = [f"{name} {part:+.2f}" for name, part in hit.ranked.parts.items() if abs(part) >= _LEAST_SHOWN]
        yield "= " + ", ".join(parts)
    for source in star.sources[:_SHOWN_SOURCES]:
        yield safe(f"{source['path']} message {source['external_id'] or source['message_id']}")
    if len(star.sources) > _SHOWN_SOURCES:
        yield f"and {number_of(len(star.sources) - _SHOWN_SOURCES, 'more mention')}"


def _around(messages: Iterable[Mapping[str, object]]) -> Iterable[Text]:
    for message in messages:
        who = one_line(str(message["speaker"] or message["role"]))
        mark = "> " if message["source"] else "| "
        yield Text.assemble((f"{mark}{who}: ", "cyan"), one_line(str(message["text"])))

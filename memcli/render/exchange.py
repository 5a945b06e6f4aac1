"""Exports as text, and the report of an import."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from memcli.render.ingest import counted
from memcli.render.terminal import in_batches, json_line, one_line, safe, show

if TYPE_CHECKING:
    from memcli.exchange.report import Exported, ImportReport

Documents = Iterable[Mapping[str, Any]]

COLUMNS = (
    "id", "agent", "type", "content", "importance", "mentions", "keywords", "tags", "session", "method", "timestamp",
    "created_at", "merged", "sources",
)  # fmt: skip
# A spreadsheet takes a cell that begins so for a formula; so do some with full-width signs, and behind white space.
# Where the semicolon parts cells, as in half of Europe, quotes hold neither a semicolon nor a line end together.
_FORMULA = re.compile(r"^(?=\n)|(?:^|[\n;])(?=[^\S\n]*[=+\-@\uff0b\uff0d\uff1d\uff20])")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~&#$!{}()^=@]")
# What viewers make links of without any markup.
_LINK = re.compile(r"(?<=[A-Za-z])(?:(?<=www)\.|:(?=//))")
_LIST_MARK = re.compile(r"^(?:(\d+)([.)])|([-+]))")


def export_writer(name: str) -> Callable[[Documents], Iterator[str]]:
    """How the records of an export become text: as jsonl, csv or markdown."""
    return {"jsonl": _jsonl, "csv": _csv, "markdown": _markdown}[name]


def _jsonl(documents: Documents) -> Iterator[str]:
    return (json_line(document) for document in documents)


def _csv(stars: Documents) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for star in stars:
        writer.writerow([_cell(value) for value in _row(star)])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _row(star: Mapping[str, Any]) -> list[object]:
    first = star["members"][0]
    own = {**first, **star}
    sources = (
        f"{source['message']}:{source['start']}-{source['end']}"
        for member in star["members"]
        for source in member["sources"]
    )
    lists = {
        "keywords": "; ".join(star["keywords"]),
        "tags": "; ".join(star["tags"]),
        "merged": len(star["members"]) - 1,
        "sources": "; ".join(dict.fromkeys(sources)),
    }
    return [lists.get(name, own.get(name, "")) for name in COLUMNS]


def _cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula, without characters that a terminal could act on."""
    text = "\n".join(safe(line.rstrip("\r")) for line in str(value).split("\n"))
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub(lambda match: f"{match[0]}'", text)


def _markdown(stars: Documents) -> Iterator[str]:
    yield "# Memories\n"
    agent = None
    for star in stars:
        if star["agent"] != agent:
            agent = star["agent"]
            yield f"\n## {_escaped(agent)}\n\n"
        first = star["members"][0]
        said = [
            star["type"],
            f"importance {star['importance']:g}",
            f"{star['mentions']} mention{'s' if star['mentions'] != 1 else ''}",
            (first.get("timestamp") or "")[:10],
            *star["tags"],
        ]
        yield f"- {_escaped(star['content'])}\n  ({', '.join(_escaped(each) for each in said if each)})\n"


def _escaped(text: str) -> str:
    """A text as one line that Markdown shows as it is: no markup, no HTML, no links, no images."""
    plain = _LINK.sub(lambda match: f"\\{match[0]}", _MARKDOWN.sub(lambda match: f"\\{match[0]}", one_line(text)))
    return _LIST_MARK.sub(lambda match: f"{match[1] or ''}\\{match[2] or match[3]}", plain, count=1)


def show_export(exported: Exported) -> None:
    """Print what was written."""
    vectors = "" if exported.vectors is None else f", {exported.vectors:,} vectors"
    messages = f", {exported.messages:,} messages they come from" if exported.messages else ""
    show([Text(f"{exported.memories:,} memories{messages}{vectors} in {safe(exported.out or '')}.", style="dim")])


def show_datasette(db: str, file: str) -> None:
    """Print how to look at the database with the metadata that was written."""
    show(
        [Text(f"Look at it with: datasette {safe(shlex.quote(db))} --metadata {safe(shlex.quote(file))}", style="dim")]
    )


def show_import(report: ImportReport) -> None:
    """Print the report of an import."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    read = f"{report.files_read:,} read, {report.files_unchanged:,} unchanged"
    table.add_row("files", f"{report.files_read + report.files_unchanged:,}", read)
    if report.files_read:
        table.add_row("memories", f"{report.memories:,}", f"{report.known:,} known already")
        table.add_row(
            "  new",
            f"{report.created:,}",
            f"{report.merged_exact:,} exact and {report.merged_near:,} near duplicates merged,"
            f" {report.review:,} to review",
        )
        if report.review_pairs:
            table.add_row("to review", f"{report.review_pairs:,}", "pairs that came along")
        table.add_row("messages", f"{report.messages:,}", f"{report.messages_new:,} new")
        if report.forgotten:
            table.add_row("forgotten", f"{report.forgotten:,}", "left out; see memcli forget")
        if report.rejected:
            table.add_row("rejected", f"{report.rejected:,}", "lines")
        if report.redacted:
            table.add_row("redacted", f"{sum(report.redacted.values()):,}", counted(report.redacted))
        table.add_row(
            "embedded", f"{report.embedded:,}", f"{report.embed_reused:,} reused, {report.vectors_taken:,} taken along"
        )
        stages = ", ".join(f"{name} {part:.2f}" for name, part in report.timings.items())
        table.add_row("time", f"{report.seconds:.2f} s", stages)
    db = safe(report.db)
    if report.dry_run:
        closing = f"Dry run: {db} was not touched."
    elif report.run_id is None:
        closing = f"Nothing new; {db} is up to date."
    else:
        closing = f"Run {report.run_id} in {in_batches(report.batches)} into {db}."
    show([table, Text(closing, style="dim")])

"""`memcli bench` without a subcommand: the report over everything, on the default model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from memcli import wiring
from memcli.bench.contests import Subject
from memcli.bench.report import Plan, bench_report
from memcli.commands.bench_search import opener
from memcli.embed.installed import DEFAULT, resolve
from memcli.errors import UsageError

_BATCH = 64
_BEGIN, _END = "<!-- begin benchmark -->", "<!-- end benchmark -->"
_MARKED = re.compile(f"(?<={_BEGIN}\n).*?(?={_END})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Section:
    """A file of Markdown that the report goes into."""

    path: Path

    @classmethod
    def of(cls, name: str | None) -> Self:
        """The file `name`: one with the two marks, or a new one.

        Raises:
            UsageError: it cannot be read, or has no marks: nothing of it is overwritten.
        """
        path = Path(name or "")
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {path}: {error}", "name another file with --markdown") from error
        if text and not _MARKED.search(text):
            raise UsageError(
                f"{path} is not empty and has no place for the report", f"put two lines there: {_BEGIN} and {_END}"
            )
        return cls(path)

    def write(self, markdown: str) -> None:
        """Put the report between the marks; the rest of the file stays."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        marked = _MARKED.sub(lambda _: markdown, text, count=1) if text else f"{_BEGIN}\n{markdown}{_END}\n"
        self.path.write_text(marked, encoding="utf-8")


def report(plan: Plan, environ: Mapping[str, str], announce: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything; the document of `memcli bench --json`."""
    files = resolve(DEFAULT, wiring.models_dir(environ))
    embedder = wiring.LazyEmbedder(files, _BATCH)
    subject = Subject(files, embedder, plan.size, plan.seed, opener(environ), _nothing)
    return bench_report(plan, subject, announce)


def _nothing(_: str) -> None:
    """What the parts announce would be a line for each process."""

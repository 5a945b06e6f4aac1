"""`memcli bench` without a subcommand: the report over everything, on the default model."""

from __future__ import annotations

import os
import re
import stat
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
from memcli.files import whole_file

_BATCH = 64
_BEGIN, _END = "<!-- begin benchmark -->", "<!-- end benchmark -->"
_MARKED = re.compile(f"({re.escape(_BEGIN)}[ \t]*(\r?\n)).*?(?={re.escape(_END)})", re.DOTALL)
_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Section:
    """A file of Markdown that the report goes into."""

    path: Path

    @classmethod
    def of(cls, name: str | None) -> Self:
        """The file `name`: one with the two marks, or a new one.

        Raises:
            UsageError: it cannot be read or written, or has no marks, or more of them: nothing of it is overwritten.
        """
        section = cls(Path(name or ""))
        section._text()
        folder = section.path.resolve().parent
        if not os.access(folder, os.W_OK) or (section.path.exists() and not os.access(section.path, os.W_OK)):
            raise UsageError(f"cannot write {section.path}", "name another file with --markdown")
        return section

    def _text(self) -> str:
        """What is in the file, its line ends as they are; nothing where there is none."""
        path = self.path
        try:
            if path.exists() and not path.is_file():
                raise UsageError(f"{path} is no regular file", "name another with --markdown; - is stdout")
            text = path.read_bytes().decode("utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {path}: {error}", "name another file with --markdown") from error
        if text and not _MARKED.search(text):
            raise UsageError(
                f"{path} is not empty and has no place for the report", f"put two lines there: {_BEGIN} and {_END}"
            )
        if text.count(_BEGIN) > 1 or text.count(_END) > 1:
            raise UsageError(f"{path} has more than one place for the report", f"keep one {_BEGIN} and one {_END}")
        return text

    def write(self, markdown: str) -> None:
        """Put the report between the marks; the rest of the file stays, and all of it where the disk is full.

        Raises:
            UsageError: the marks are gone.
            OSError: it cannot be written.
        """

        def placed(match: re.Match[str]) -> str:
            return match[1] + markdown.replace("\n", match[2])

        text = self._text()
        marked = _MARKED.sub(placed, text) if text else f"{_BEGIN}\n{markdown}{_END}\n"
        mode = stat.S_IMODE(self.path.stat().st_mode) if self.path.exists() else _MODE
        with whole_file(self.path, mode) as file:
            file.write(marked.encode())


def report(plan: Plan, environ: Mapping[str, str], announce: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything; the document of `memcli bench --json`."""
    files = resolve(DEFAULT, wiring.models_dir(environ))
    embedder = wiring.LazyEmbedder(files, _BATCH)
    subject = Subject(files, embedder, plan.size, plan.seed, opener(environ), _nothing)
    return bench_report(plan, subject, announce)


def _nothing(_: str) -> None:
    """What the parts announce would be a line for each process."""

"""Writing to the terminal: what is safe to print, JSON, plain and wrapped output, errors."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from memcli.errors import MemcliError

_UNWRAPPED = 100_000
_EXCERPT = 60
# Controls (a terminal would act on them) and bidirectional marks (text would be shown in another order than it has).
_DANGEROUS = "\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\ud800-\udfff"
_UNSAFE = re.compile(f"[\x00-\x1f{_DANGEROUS}]")
_UNSAFE_JSON = re.compile(f"[{_DANGEROUS}]")


def safe(text: str) -> str:
    """`text` with every character a terminal could act on, line ends too, written out as in Python source."""
    return _UNSAFE.sub(lambda match: _written_out(match[0]), text)


def one_line(text: str) -> str:
    """A text of several lines as one, safe to print."""
    return safe(" ".join(text.split()))


def _written_out(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - two or four hex digits


def print_json(document: object) -> None:
    """Write one JSON document to stdout; characters a terminal could act on are escaped in it."""
    _write_json(json.dumps(document, ensure_ascii=False, indent=2))


def print_documents(documents: Sequence[str]) -> None:
    """As `print_json` would write an array of what each of these JSON documents says, indented as it indents."""
    items = ",\n  ".join(each.replace("\n", "\n  ") for each in documents)
    _write_json(f"[\n  {items}\n]" if documents else "[]")


def _write_json(text: str) -> None:
    write(_UNSAFE_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def json_line(document: object) -> str:
    """A JSON document as a line, characters a terminal could act on escaped."""
    text = json.dumps(document, ensure_ascii=False)
    return _UNSAFE_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def write(text: str) -> None:
    """Write to stdout; a reader that has gone away is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this has seen enough (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(renderables: Iterable[object]) -> None:
    """Render for stdout: in colours and wrapped on a terminal, plain and unwrapped otherwise."""
    width = None if sys.stdout.isatty() else _UNWRAPPED
    console = Console(file=sys.stdout, highlight=False, width=width)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    write("".join(f"{line.rstrip()}\n" for line in capture.get().split("\n")[:-1]))


def _pointed(text: str, place: int) -> tuple[str, str]:
    """The surroundings of `place` in `text`, and a line with a caret to go below."""
    first = max(0, place - _EXCERPT // 2)
    before = ("…" if first else "") + safe(text[first:place])
    after = safe(text[place : first + _EXCERPT]) + ("…" if len(text) > first + _EXCERPT else "")
    return before + after, " " * cell_len(before) + "^"


def print_error(error: MemcliError) -> None:
    """Write an error and what to do about it to stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("memcli: ", "bold red"), safe(error.message)))
    if error.excerpt is not None:
        for line in _pointed(*error.excerpt):
            console.print(Text(f"          {line}"))
    if error.hint:
        console.print(Text.assemble(("        ", ""), safe(error.hint)))

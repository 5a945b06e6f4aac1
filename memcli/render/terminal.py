"""Writing to the terminal: what is safe to print, JSON, plain and wrapped output, errors."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from memcli.errors import MemcliError, UsageError

_UNWRAPPED = 100_000
_EXCERPT = 60
# What a terminal acts on (C0, DEL, C1), what is shown in another order than it has (bidirectional marks, line and
# paragraph separators), what is not shown at all and so can hide in a name or a command (zero width, fillers, tags,
# selectors of the supplementary plane), and what cannot be written as UTF-8.
_DANGEROUS = (
    "\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
_CONTROLS = "\x00-\x1f"
# A joiner between two letters of a script that needs it, or two emoji, hides nothing: they are written so.
_JOINED = "\u0590-\u0dff\u0f00-\u109f\u1780-\u17b3\u1800-\u180a\u2190-\u2bff\ufe0e\ufe0f\U0001f000-\U0001faff"
_UNSAFE = re.compile(f"(?<=[{_JOINED}])[\u200c\u200d](?=[{_JOINED}])|([{_CONTROLS}{_DANGEROUS}])")
_UNSAFE_JSON = re.compile(f"[{_DANGEROUS}]")


def safe(text: str) -> str:
    """`text` with every character that a terminal could act on or not show, line ends too, written as in Python."""
    return _UNSAFE.sub(lambda match: _written_out(match[1]) if match[1] else match[0], text)


def one_line(text: str) -> str:
    """A text of several lines as one, safe to print."""
    return safe(" ".join(text.split()))


def in_batches(count: int) -> str:
    """So many batches, in words."""
    return "1 batch" if count == 1 else f"{count:,} batches"


def _written_out(character: str) -> str:
    code = ord(character)
    if code < 0x100:  # noqa: PLR2004 - two, four or eight hex digits
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - as above


def _escaped_json(text: str) -> str:
    # Two escapes for what JSON writes as a pair of surrogates: json.dumps knows.
    return _UNSAFE_JSON.sub(lambda match: json.dumps(match[0])[1:-1], text)


def print_json(document: object) -> None:
    """Write one JSON document to stdout; characters a terminal could act on are escaped in it."""
    _write_json(json.dumps(document, ensure_ascii=False, indent=2))


def print_documents(documents: Sequence[str]) -> None:
    """As `print_json` would write an array of what each of these JSON documents says, indented ones as it indents."""
    items = ",\n  ".join(each.replace("\n", "\n  ") for each in documents)
    _write_json(f"[\n  {items}\n]" if documents else "[]")


def _write_json(text: str) -> None:
    write(_escaped_json(text) + "\n")


def json_line(document: object) -> str:
    """A JSON document as a line, characters a terminal could act on escaped."""
    text = json.dumps(document, ensure_ascii=False)
    return _escaped_json(text) + "\n"


def write(text: str) -> bool:
    """Write to stdout. False: the reader has gone away, which is no error, but nothing more need be made for it.

    Raises:
        UsageError: it cannot be written, as the disk is full.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this has seen enough (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UsageError(
            f"cannot write the output: {error.strerror}", "make room there, or let it go elsewhere"
        ) from error
    return True


def show(renderables: Iterable[object]) -> None:
    """Render for stdout: in colours and wrapped on a terminal, plain and unwrapped otherwise."""
    width = None if sys.stdout.isatty() else _UNWRAPPED
    # Strings in table cells are text, not markup: a model or an agent may be called [bold] or :boom:.
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=width)
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


def warn(problems: Iterable[str]) -> None:
    """Write warnings to stderr, each on a line of its own."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(Text(f"memcli: warning: {safe(problem)}"))


def print_error(error: MemcliError) -> None:
    """Write an error and what to do about it to stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("memcli: ", "bold red"), safe(error.message)))
    if error.excerpt is not None:
        for line in _pointed(*error.excerpt):
            console.print(Text(f"          {line}"))
    if error.hint:
        console.print(Text.assemble(("        ", ""), safe(error.hint)))

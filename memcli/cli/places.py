"""Asking which of the known places to read, where `memcli ingest` was given no path."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memcli.commands.places import Place


def ask_for_paths(format_name: str | None) -> list[str]:
    """The paths that the user chose on the terminal; none after a no.

    Raises:
        UsageError: there are no transcripts in the known places, or nobody to ask.
    """
    from memcli import render  # noqa: PLC0415 - keeps --help fast
    from memcli.commands import places as command  # noqa: PLC0415 - as above

    places = command.offered(os.environ, format_name)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise command.unnamed(places, os.environ)
    render.show_places(places, os.environ)
    chosen = _chosen(places)
    if chosen:
        render.show_next_time(command.next_time(chosen, os.environ))
    else:
        sys.stderr.write("Nothing was read. To name what is to be read: memcli ingest PATH\n")
    return [str(place.path) for place in chosen]


def _chosen(places: list[Place]) -> list[Place]:
    asked = "Read it? [y/n]: " if len(places) == 1 else "Read all of it? [y/n, or numbers as in 1 2]: "
    while True:
        sys.stderr.write(asked)
        sys.stderr.flush()
        line = sys.stdin.readline()
        answer = line.replace(",", " ").split()
        if not line:
            sys.stderr.write("\n")
        if not line or [each.lower() for each in answer] in (["n"], ["no"]):
            return []
        if [each.lower() for each in answer] in (["y"], ["yes"]):
            return places
        numbers = [int(each) for each in answer if each.isascii() and each.isdigit() and len(each) < len("1000")]
        if answer and len(numbers) == len(answer) and all(1 <= number <= len(places) for number in numbers):
            return [places[number - 1] for number in dict.fromkeys(numbers)]

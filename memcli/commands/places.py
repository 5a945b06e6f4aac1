"""What `memcli ingest` offers to read when no transcript is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memcli.errors import UsageError
from memcli.ingest.places import Place, command_for, home_of, known_places
from memcli.readers import make_reader

__all__ = ["Place", "next_time", "offered", "unnamed"]


def offered(environ: Mapping[str, str], format_name: str | None) -> list[Place]:
    """The known places that hold transcripts, those of `format_name` where one was named.

    Raises:
        UsageError: there are none, or no such format.
    """
    if format_name is not None:
        make_reader(format_name)
    places = [each for each in known_places(environ) if format_name in {None, each.format}]
    if not places:
        what = "" if format_name is None else f" of {format_name}"
        raise UsageError(
            f"no transcript is named, and there are none{what} in the usual places",
            "name transcripts, folders of them, or - for stdin; see: memcli formats",
        )
    return places


def unnamed(places: Sequence[Place], environ: Mapping[str, str]) -> UsageError:
    """The error where nobody can be asked: what was found, and the command that reads it."""
    found = ", ".join(
        f"{place.shown(home_of(environ))} ({place.format}, {place.files:,} {'file' if place.files == 1 else 'files'})"
        for place in places
    )
    return UsageError(
        f"no transcript is named (- is standard input); found {found}",
        f"read that with: {next_time(places, environ)}",
    )


def next_time(places: Sequence[Place], environ: Mapping[str, str]) -> str:
    """The command that reads the places without asking."""
    return command_for(places, home_of(environ))

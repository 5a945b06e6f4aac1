"""Values of flags that are what they should be without a conversion.

Typer 0.29 converts every value, given or not, by a TypeAdapter of pydantic's, which takes 70 ms to import; there is no
setting to do without. Nearly all that a command line holds are texts, paths, whole numbers and flags not given. Those
are done here, with the same outcome; all else, and whatever may be wrong, is left to Typer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import typer

_LONGEST = 18  # digits


_OTHER = object()


class _Parameter(Protocol):
    nargs: int
    multiple: bool
    required: bool
    callback: Callable[[typer.Context, object, object], object] | None
    process_value: Callable[[typer.Context, object], object]


class _Command(Protocol):
    get_params: Callable[[typer.Context], list[_Parameter]]


def quick(command: object) -> None:
    """Spare `command`, made by `typer.main.get_command`, and the commands below it the conversions without effect."""
    own = cast("_Command", command)
    own.get_params = partial(_quick_params, own.get_params)
    for each in getattr(command, "commands", {}).values():
        quick(each)


def _quick_params(get_params: Callable[[typer.Context], list[_Parameter]], context: typer.Context) -> list[_Parameter]:
    params = get_params(context)  # --help is among them; before it is asked for, it is not there
    for param in params:
        if not param.required and not isinstance(param.process_value, partial):
            param.process_value = partial(_processed, param, param.process_value)
    return params


def _processed(
    param: _Parameter,
    process: Callable[[typer.Context, object], object],
    context: typer.Context,
    value: object,
) -> object:
    plain = _plain(param, value)
    if plain is _OTHER:
        return process(context, value)
    return plain if param.callback is None else param.callback(context, param, plain)


def _plain(param: _Parameter, value: object) -> object:
    """What Typer would make of `value`, or _OTHER where that is for Typer to say."""
    if value is None:
        return () if param.multiple or param.nargs == -1 else None
    # Older Typers have no such attribute, and no need of this.
    kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    if kind is str and isinstance(value, str):
        return value
    if kind == list[str] and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return list(value)
    # What can be read passes each of the checks that Typer does by default.
    if kind is Path and isinstance(value, str) and value.isprintable() and os.access(value, os.R_OK):
        return Path(value)
    if kind is int and (number := _whole(value)) is not None and _is_within(param, number):
        return number
    return _OTHER


def _whole(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _LONGEST:
        return int(value)
    return value if type(value) is int else None


def _is_within(param: object, number: int) -> bool:
    least, most = getattr(param, "min", None), getattr(param, "max", None)
    return (least is None or number >= least) and (most is None or number <= most)

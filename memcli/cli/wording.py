"""How help names what a flag takes: N for a whole number, the limits in words, no names of Python types."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Any, Protocol, cast

_OF_TYPES = {int: "N", float: "X", str: "TEXT"}


class _Parameter(Protocol):
    metavar: str | None
    nargs: int
    required: bool
    param_type_name: str
    name: str
    min: float | None
    max: float | None
    get_usage_pieces: object
    display_type_rich: object
    _get_number_range_help_str: object


class _Command(Protocol):
    params: list[_Parameter]


def polish(command: object) -> None:
    """Word the help of `command`, made by `typer.main.get_command`, and of the commands below it."""
    for param in cast("_Command", command).params:
        if param.param_type_name == "argument":
            param.get_usage_pieces = partial(_in_usage, param)
            param.display_type_rich = partial(_nothing, param)
        elif param.metavar is None:
            kind = _type_of(param)
            choices = kind if isinstance(kind, type) and issubclass(kind, Enum) else ()
            param.metavar = "|".join(str(each.value) for each in choices) or _OF_TYPES.get(kind)
        if param.metavar is not None:
            param._get_number_range_help_str = partial(_limits, param)  # noqa: SLF001 - no other way is left open
    for each in getattr(command, "commands", {}).values():
        polish(each)


def _type_of(param: object) -> Any:  # noqa: ANN401 - whatever an annotation may be
    descriptor = getattr(param, "type_descriptor", None)  # older Typers have none, and name types in their own way
    annotation = getattr(descriptor, "annotation", None)
    arguments = getattr(annotation, "__args__", None)
    return arguments[0] if arguments else annotation


def _in_usage(param: _Parameter, _context: object) -> list[str]:
    name = param.metavar or param.name
    name = name if param.required else f"[{name}]"
    return [f"{name}..." if param.nargs != 1 else name]


def _nothing(_param: object, ctx: object = None) -> None:
    """Arguments are named by their metavar alone."""


def _limits(param: _Parameter) -> str | None:
    least, most = (
        None if limit is None else f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"
        for limit in (param.min, param.max)
    )
    if least is not None and most is not None:
        return f"{least} to {most}"
    if least is not None:
        return f"at least {least}"
    return None if most is None else f"at most {most}"

"""What values a setting takes: each function converts one, and raises ValueError with what would be allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

Setting = Callable[[object, Path], object]


def path(value: object, base: Path) -> Path:
    """A path; a relative one is relative to `base`."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("a path")
    return base / Path(value).expanduser()


def text(value: object, _base: Path) -> str:
    """A text of one line."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("a text without control characters that is not empty")
    return value.strip()


def flag(value: object, _base: Path) -> bool:
    """Yes or no."""
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise ValueError("true or false")


def number(low: float, high: float, *, whole: bool = False) -> Setting:
    """A number between two others, both of them allowed."""
    kind = "a whole number" if whole else "a number"
    span = f"from {low} to {high}"

    def convert(value: object, _base: Path) -> float:
        found = _parsed(value, whole=whole)
        if found is None or not low <= found <= high:
            raise ValueError(f"{kind} {span}")
        return found if whole else float(found)

    return convert


def _parsed(value: object, *, whole: bool) -> float | None:
    if isinstance(value, str):
        try:
            return int(value) if whole else float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and isinstance(value, float)):
        return None
    return value


_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*(?:([KMGT])(I?)B?|B)?", re.IGNORECASE)
_MIN_MEMORY = 1_000_000


def size(value: object, _base: Path) -> int:
    """A number of bytes."""
    match = _SIZE.fullmatch(str(value).strip()) if isinstance(value, int | str) and value is not True else None
    if match is not None:
        power = "KMGT".index(match[2].upper()) + 1 if match[2] else 0
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
        if size >= _MIN_MEMORY:
            return size
    raise ValueError('a number of bytes of at least 1 MB, such as "500MB", "1GB" or 1000000000')


def one_of(allowed: Iterable[str]) -> Setting:
    """One of some names."""
    names = tuple(allowed)

    def convert(value: object, _base: Path) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return value

    return convert


def some_of(allowed: Iterable[str]) -> Setting:
    """Some of some names, as a list or separated by commas."""
    names = tuple(allowed)

    def convert(value: object, _base: Path) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, list | tuple):
            chosen = tuple(dict.fromkeys(part.strip() if isinstance(part, str) else "" for part in parts))
            if chosen and all(part in names for part in chosen):
                return chosen
        raise ValueError(f"one or more of {', '.join(names)}, separated by commas")

    return convert

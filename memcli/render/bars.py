"""Bars of text."""

from __future__ import annotations

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(value: float, top: float, room: int) -> str:
    """A bar of `room` cells for `top`, in steps of an eighth; whatever is not nothing shows."""
    eighths = round(value / top * room * 8) if top > 0 else 0
    eighths = max(eighths, 1) if value > 0 else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()

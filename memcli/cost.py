"""What models cost: a dated table of prices, and what a number of tokens comes to."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

_TABLE = Path(__file__).with_name("prices.toml")
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens read (`usd_in`) and written (`usd_out`); who says so, and as of which day."""

    model: str
    usd_in: float
    usd_out: float
    source: str
    date: str


def price_of(model: str, overrides: Mapping[str, Price]) -> Price | None:
    """The price of a model by its exact name: the user's own, else that of the table, None where nobody gives one."""
    return overrides.get(model) or prices().get(model)


def dollars(price: Price, tokens_in: int, tokens_out: int) -> float:
    """What so many tokens cost, in US dollars."""
    return (tokens_in * price.usd_in + tokens_out * price.usd_out) / MILLION


@cache
def prices() -> Mapping[str, Price]:
    """The table that ships with memcli, by the model's name."""
    rows = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["price"]
    return MappingProxyType(
        {
            model: Price(model, float(row["usd_in"]), float(row["usd_out"]), row["source"], row["date"])
            for row in rows
            for model in row["models"]
        }
    )

"""What the flags of `memcli cost` say of tiers: models, prices and tokenizers, each as TIER=..."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from memcli.config import MODEL_TIERS, Config
from memcli.cost import Price
from memcli.errors import UsageError

_MOST_USD = 1_000_000
_MOST_MESSAGES = 1_000_000_000


def messages_per_day(text: str) -> Decimal:
    """A number of messages, exactly as it was written.

    Raises:
        UsageError: it is none, or less than a message in ten thousand days.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal(0)
    if not number.is_finite() or not Decimal("0.0001") <= number <= _MOST_MESSAGES:
        raise UsageError(f"--messages-per-day {text}: not a number of messages", "as in: --messages-per-day 50")
    return number


def with_models(config: Config, given: Sequence[str]) -> Config:
    """The settings with the models of TIER=NAME words; a tier's own prices and tokenizer are of its own model.

    Raises:
        UsageError: no such tier, or no name.
    """
    tiers = dict(config.tiers)
    for word in given:
        tier, name = _split(word, "--model", "small=gpt-4.1-mini")
        if not name.strip():
            raise UsageError(f"--model {word}: no model is named", "as in: --model small=gpt-4.1-mini")
        if name.strip() != tiers[tier].model:
            tiers[tier] = replace(tiers[tier], model=name.strip(), price_in=None, price_out=None, tokenizer=None)
    return replace(config, tiers=tiers)


def token_prices(config: Config, given: Sequence[str]) -> dict[str, Price]:
    """Prices by tier from TIER=IN,OUT words, dollars per million tokens.

    Raises:
        UsageError: no such tier, or no two prices.
    """
    found: dict[str, Price] = {}
    for word in given:
        tier, text = _split(word, "--price", "small=0.40,1.60")
        read, comma, written = text.partition(",")
        if not comma:
            raise UsageError(
                f"--price {word}: two prices are needed", "per million tokens read and written: small=0.4,1.6"
            )
        usd_in, usd_out = (float(_dollars(each, f"--price {word}")) for each in (read, written))
        found[tier] = Price(config.tiers[tier].model or "a model without a name", usd_in, usd_out, "--price", "")
    return found


def window_prices(given: Sequence[str]) -> dict[str, Decimal]:
    """Prices per window from TIER=USD words.

    Raises:
        UsageError: no such tier, or no price.
    """
    found: dict[str, Decimal] = {}
    for word in given:
        tier, text = _split(word, "--window-price", "small=0.02")
        found[tier] = _dollars(text, f"--window-price {word}")
    return found


def _split(word: str, flag: str, example: str) -> tuple[str, str]:
    tier, _, text = word.partition("=")
    if tier not in MODEL_TIERS:
        raise UsageError(f"{flag} {word}: no tier of that name", f"as in: {flag} {example}")
    return tier, text


def _dollars(text: str, where: str) -> Decimal:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal(-1)
    if not usd.is_finite() or not 0 <= usd <= _MOST_USD:
        raise UsageError(f"{where}: {text or 'nothing'} is no number of dollars", "as in: small=0.02")
    return usd


def tokenizers(given: Sequence[str]) -> dict[str, Path]:
    """Files of tokenizers by tier, from TIER=FILE words.

    Raises:
        UsageError: no such tier, or no file.
    """
    found: dict[str, Path] = {}
    for word in given:
        tier, text = _split(word, "--tokenizer", "small=tokenizer.json")
        if not text or not Path(text).is_file():
            raise UsageError(f"--tokenizer {word}: no such file", "name a tokenizer.json")
        found[tier] = Path(text)
    return found

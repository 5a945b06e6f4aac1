"""`memcli cost`: what model tiers will cost, for a plan or for real transcripts, and what they have cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from memcli.config import Config, Profile
from memcli.cost import MODEL_TIERS, PLANNING_PRICES, CallTokens, Plan, Rate, Workload, plan
from memcli.errors import UsageError
from memcli.spending import Accounts, collect
from memcli.store.db import Store

DAYS_OF_MONTH = 30
MOST_USD = 1_000_000
MOST_TOKENS = {"small": 300, "premium": 800}
INSTRUCTIONS = {"small": 600, "premium": 700}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plan for the chosen profile, and for all profiles that call a model."""

    chosen: Plan
    compared: tuple[Plan, ...]
    message_tokens: int

    def to_json(self) -> dict[str, object]:
        """The plans as one JSON document."""
        work = self.chosen.workload
        return {
            "agents": work.agents,
            "messages_per_day": float(work.messages_per_day),
            "days": work.days,
            "messages": work.messages,
            "tokens_per_message": self.message_tokens,
            **plan_json(self.chosen),
            "profiles": [plan_json(each) for each in self.compared],
        }


def plan_json(found: Plan) -> dict[str, object]:
    """One plan as JSON; dollars are rounded to a millionth."""
    days = found.workload.days
    return {
        "profile": found.profile.name,
        "windows": found.windows,
        "processed": found.processed,
        "calls": found.calls,
        "usd": _rounded(found.usd),
        "usd_per_agent": _rounded(found.per_agent),
        "usd_per_day": _rounded(found.usd / days),
        "usd_per_month": _rounded(found.usd / days * DAYS_OF_MONTH),
        "tiers": [
            {
                "tier": tier.tier,
                "calls": tier.calls,
                "usd_per_call": _rounded(tier.usd_per_call),
                "usd": _rounded(tier.usd),
                "usd_per_agent": _rounded(tier.usd / found.workload.agents),
                "price": tier.basis,
            }
            for tier in found.tiers
        ],
        "one_call_per_message": {
            "calls": found.one_by_one_calls,
            "usd": _rounded(found.one_by_one),
            "usd_factor": _ratio(found.factor(found.one_by_one)),
            "calls_factor": round(found.one_by_one_calls / found.calls, 3) if found.calls else None,
            "tokens_factor": _ratio(found.tokens_saved),
            "usd_every_message": _rounded(found.one_for_all),
            "usd_factor_every_message": _ratio(found.factor(found.one_for_all)),
        },
    }


def _rounded(usd: Decimal) -> float:
    return float(round(usd, 6))


def _ratio(ratio: Decimal | None) -> float | None:
    return None if ratio is None else float(round(ratio, 3))


def scenario(
    config: Config,
    workload: Workload,
    message_tokens: int,
    window_prices: Mapping[str, Decimal],
    note: Callable[[str], None],
) -> Scenario:
    """Plan for the profile of the settings, and for every profile that calls a model.

    `message_tokens` is how long a message is thought to be, `window_prices` what the user says that a tier's window
    costs; without it the tier's model counts, and without a model the planning price.

    Raises:
        UsageError: the price of a tier's model is not known.
    """
    profile, warning = config.active_profile()
    if warning is not None:
        note(warning)
    found = {
        each.name: plan(
            each,
            workload,
            {tier: _rate(tier, each, message_tokens, window_prices) for tier in each.tiers if tier in MODEL_TIERS},
        )
        for each in [*config.profiles.values(), profile]
    }
    return Scenario(found[profile.name], tuple(each for each in found.values() if each.tiers), message_tokens)


def _rate(tier: str, profile: Profile, message_tokens: int, window_prices: Mapping[str, Decimal]) -> Rate:
    expected = (profile.expected_memories or 0) * (profile.expected_tokens or 0)
    most = MOST_TOKENS[tier]
    tokens = CallTokens(INSTRUCTIONS[tier], message_tokens, min(expected or most, most))
    given = window_prices.get(tier)
    if given is not None:
        return Rate(tokens, per_window=given, basis="--window-price")
    return Rate(tokens, per_window=PLANNING_PRICES[tier], basis="planning price, no model is set")


def window_prices(given: Sequence[str]) -> dict[str, Decimal]:
    """Prices per window from TIER=USD words.

    Raises:
        UsageError: no such tier, or no price.
    """
    found: dict[str, Decimal] = {}
    for word in given:
        tier, _, text = word.partition("=")
        if tier not in MODEL_TIERS:
            raise UsageError(f"--window-price {word}: no tier is called {tier!r}", f"as in: {MODEL_TIERS[0]}=0.02")
        found[tier] = _dollars(text, f"--window-price {word}")
    return found


def _dollars(text: str, where: str) -> Decimal:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal(-1)
    if not usd.is_finite() or not 0 <= usd <= MOST_USD:
        raise UsageError(f"{where}: {text!r} is no number of dollars", "as in: small=0.02")
    return usd


def report(config: Config, note: Callable[[str], None]) -> Accounts:
    """What was spent in the database of the settings, compared with their profile."""
    profile, warning = config.active_profile()
    if warning is not None:
        note(warning)
    with Store.open(config.db) as store:
        return collect(store, config, profile, datetime.now(UTC))

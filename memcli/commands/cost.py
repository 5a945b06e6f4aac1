"""`memcli cost`: what model tiers will cost, for a plan or for real transcripts, and what they have cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from memcli.config import MODEL_TIERS, Config, Profile, Tier
from memcli.cost import (
    PLANNING_PRICES,
    CallTokens,
    Plan,
    Price,
    Rate,
    Workload,
    expected_answer,
    plan,
    tier_price,
    unknown_price,
)
from memcli.embed.counting import token_counter
from memcli.errors import UsageError
from memcli.extract.prompt import load_prompt, render
from memcli.forecast import Scenario
from memcli.model import Part
from memcli.spending import Accounts, collect
from memcli.store.db import Store

_SOME_TIME = "2026-01-01T12:00:00Z"


def scenario(
    config: Config,
    workload: Workload,
    message_tokens: int,
    window_prices: Mapping[str, Decimal],
    prices: Mapping[str, Price],
    note: Callable[[str], None],
) -> Scenario:
    """Plan for the profile of the settings, and for every profile that calls a model whose price is known.

    `message_tokens` is how long a message is thought to be. What the user says that a tier's window costs
    (`window_prices`) comes before the price of its model (`prices` by tier, else that of `tier_price`); without a
    model the planning price counts.

    Raises:
        UsageError: the price of a model of that profile is not known.
    """
    profile, warning = config.active_profile()
    if warning is not None:
        note(warning)

    def planned(each: Profile) -> Plan:
        tiers = [tier for tier in each.tiers if tier in MODEL_TIERS]
        rates = {tier: _rate(tier, each, message_tokens, window_prices, prices, config) for tier in tiers}
        return plan(each, workload, rates)

    chosen = planned(profile)
    compared: list[Plan] = []
    left_out: dict[str, list[str]] = {}
    for each in {**config.profiles, profile.name: profile}.values():
        try:
            found = chosen if each.name == profile.name else planned(each)
        except UsageError as error:
            left_out.setdefault(error.message, []).append(each.name)
            continue
        if found.tiers:
            compared.append(found)
    for reason, names in left_out.items():
        note(f"left out of the comparison: {', '.join(names)}; {reason}")
    return Scenario(chosen, tuple(compared), message_tokens)


def _rate(
    tier: str,
    profile: Profile,
    message_tokens: int,
    given: Mapping[str, Decimal],
    prices: Mapping[str, Price],
    config: Config,
) -> Rate:
    settings = config.tiers[tier]
    instructions, around = prompt_tokens(settings, profile)
    answer = expected_answer(profile, settings.max_tokens)
    tokens = CallTokens(instructions, message_tokens + around, answer)
    if tier in given:
        return Rate(tokens, per_window=given[tier], basis="--window-price")
    price = tier_price(settings, prices.get(tier))
    if price is not None:
        return Rate(tokens, price=price, basis=price.model)
    if settings.model is not None:
        raise unknown_price(settings)
    return Rate(tokens, per_window=PLANNING_PRICES[tier], basis="planning price, no model is set")


def prompt_tokens(tier: Tier, profile: Profile) -> tuple[int, int]:
    """Tokens of a tier's prompt without any message, and of what is put around each message.

    The tier's own tokenizer counts where it names one, else that of the default embedding model.

    Raises:
        UsageError: the tier's own prompt or tokenizer cannot be read.
    """
    count = token_counter(tier.tokenizer)
    system = load_prompt(tier.name, tier.prompt, profile.focus).text
    empty = [Part(number, "user", "", timestamp=_SOME_TIME) for number in (1, 2)]
    one, two = (count(render(tuple(empty[:number]))) for number in (1, 2))
    return count(system) + one - (two - one), two - one


def report(config: Config, note: Callable[[str], None]) -> Accounts:
    """What was spent in the database of the settings, compared with their profile."""
    profile, warning = config.active_profile()
    if warning is not None:
        note(warning)
    with Store.open(config.db) as store:
        return collect(store, config, profile, datetime.now(UTC))

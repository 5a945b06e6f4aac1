"""What models cost: a dated table of prices, what a number of tokens comes to, and plans. Pure; money is Decimal."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from types import MappingProxyType

from memcli.config import Profile

_TABLE = Path(__file__).with_name("prices.toml")
MILLION = 1_000_000
# The tiers that a provider is paid for.
MODEL_TIERS = ("small", "premium")
# Tokens read and written for one memory: up to the first is good, over the second a lower rate is advised.
GOOD_TOKENS_PER_MEMORY = 150
MOST_TOKENS_PER_MEMORY = 200
# Windows that bring more or less than the expected memories by this factor leave the range.
EXPECTED_WITHIN = 2
# Dollars per window, to plan with before a model is chosen.
PLANNING_PRICES = {"small": Decimal("0.02"), "premium": Decimal("0.15")}


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


@dataclass(frozen=True, slots=True)
class Workload:
    """What is planned for: so many kept messages a day of each of so many agents, over so many days."""

    messages_per_day: Decimal
    agents: int
    days: int

    @property
    def messages(self) -> int:
        """All messages of all agents."""
        return self.per_agent * self.agents

    @property
    def per_agent(self) -> int:
        """Messages of one agent; a part of a message counts as one."""
        return _ceiling(self.messages_per_day * self.days)

    def windows(self, max_messages: int) -> int:
        """Full windows; what is left over of each agent's messages makes one more."""
        return _ceiling(Decimal(self.per_agent) / max_messages) * self.agents


@dataclass(frozen=True, slots=True)
class CallTokens:
    """The tokens of one call: `instructions` whatever it is about, `message` for each message, `answer` per window."""

    instructions: int
    message: int
    answer: int

    def of(self, messages: int, window: int) -> tuple[Decimal, Decimal]:
        """Tokens (read, written) of a call for `messages` out of a window of `window` messages."""
        return Decimal(self.instructions + messages * self.message), Decimal(self.answer) * messages / window


@dataclass(frozen=True, slots=True)
class Rate:
    """What a tier's calls cost: by tokens (`price`), or so much a window whatever its size (`per_window`).

    `basis` says in words where the figure is from.
    """

    tokens: CallTokens
    price: Price | None = None
    per_window: Decimal | None = None
    basis: str = ""

    def call(self, messages: int, window: int) -> Decimal:
        """Dollars of a call for `messages` messages, where a full window holds `window`.

        A price per window says nothing of smaller calls: they take the share of it that their tokens have.
        """
        read, written = self.tokens.of(messages, window)
        if self.per_window is not None:
            whole = sum(self.tokens.of(window, window))
            return self.per_window * (read + written) / whole if messages != window else self.per_window
        if self.price is None:
            raise ValueError("neither a price by tokens nor one per window")
        return (read * _exact(self.price.usd_in) + written * _exact(self.price.usd_out)) / MILLION


@dataclass(frozen=True, slots=True)
class TierPlan:
    """What one tier comes to: its calls, dollars per call and in all, and where the price is from."""

    tier: str
    calls: int
    usd_per_call: Decimal
    usd: Decimal
    basis: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a profile comes to for a workload. `windows` are all, `processed` those that the rate lets through.

    `one_by_one` is what a call for each message would cost: `sampled` for as many messages as the windows hold that
    are processed, `all` for every message. `tokens_saved` is the ratio of tokens to those of the former, None where
    nothing is called.
    """

    profile: Profile
    workload: Workload
    windows: int
    processed: int
    tiers: tuple[TierPlan, ...]
    one_by_one: Decimal
    one_by_one_calls: int
    one_for_all: Decimal
    tokens_saved: Decimal | None

    @property
    def calls(self) -> int:
        """Calls of all tiers."""
        return sum(tier.calls for tier in self.tiers)

    @property
    def usd(self) -> Decimal:
        """Dollars of all tiers."""
        return sum((tier.usd for tier in self.tiers), Decimal(0))

    @property
    def per_agent(self) -> Decimal:
        """Dollars per agent over the whole time."""
        return self.usd / self.workload.agents

    def factor(self, instead: Decimal) -> Decimal | None:
        """How many times `instead` the plan costs; None where it costs nothing."""
        return instead / self.usd if self.usd else None


def plan(profile: Profile, workload: Workload, rates: Mapping[str, Rate]) -> Plan:
    """Work out what `profile` comes to; `rates` has each of its tiers that costs money, and may have others.

    One call per message is given its due: it writes no more than its share of a window's answer.

    Raises:
        KeyError: a model tier of the profile has no rate.
    """
    size = profile.max_messages
    windows = workload.windows(size)
    processed = _rounded(windows * _exact(profile.rate))
    # A plan for fewer messages than a window holds has one short window.
    filled = min(size, workload.per_agent)
    sampled = min(processed * filled, workload.messages)
    tiers = []
    one_by_one = one_for_all = tokens = tokens_one_by_one = Decimal(0)
    for tier in profile.tiers:
        if tier not in MODEL_TIERS:
            continue
        rate = rates[tier]
        each = rate.call(filled, size)
        tiers.append(TierPlan(tier, processed, each, each * processed, rate.basis))
        single = rate.call(1, size)
        one_by_one += single * sampled
        one_for_all += single * workload.messages
        tokens += sum(rate.tokens.of(filled, size)) * processed
        tokens_one_by_one += sum(rate.tokens.of(1, size)) * sampled
    return Plan(
        profile,
        workload,
        windows,
        processed,
        tuple(tiers),
        one_by_one,
        sampled * len(tiers),
        one_for_all,
        tokens_one_by_one / tokens if tokens else None,
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What model tiers brought: `memories` that were no duplicates, of `windows` with `messages` that they have seen.

    `all_messages` are those of all windows, seen or not; `tokens` and `usd` (None: a price is not known) what it took;
    `tokens_each` how long a memory is, None where there is none.
    """

    memories: int
    windows: int
    messages: int
    all_messages: int
    tokens: int
    usd: float | None
    tokens_each: float | None = None

    @property
    def usd_per_memory(self) -> float | None:
        """Dollars spent for one memory."""
        return _share(self.usd, self.memories)

    @property
    def tokens_per_memory(self) -> float | None:
        """Tokens read and written for one memory."""
        return _share(self.tokens, self.memories)

    @property
    def per_window(self) -> float | None:
        """Memories of a window that was seen."""
        return _share(self.memories, self.windows)

    @property
    def per_message(self) -> float | None:
        """Memories of a message in such a window: the efficiency."""
        return _share(self.memories, self.messages)

    @property
    def per_thousand(self) -> float | None:
        """Memories per 1,000 messages, those included that the rate left out: what profiles call the creation rate."""
        return _share(self.memories * 1000, self.all_messages)


def advice(profile: Profile, outcome: Outcome) -> list[str]:
    """What to change where tokens or dollars per memory leave what `profile` expects; empty where they do not.

    A memory is expected to take at most `MOST_TOKENS_PER_MEMORY` tokens, and windows to bring from half to twice the
    memories that the profile names: with fewer, each costs more than twice what was expected.
    """
    if not outcome.windows:
        return []
    rate, size = f"the rate of {profile.name} (now {profile.rate:g})", f"its windows (now {profile.max_messages})"
    if not outcome.memories:
        return [f"{outcome.windows:,} windows brought no memory: lower {rate}, or choose another model or profile"]
    found = []
    tokens = outcome.tokens_per_memory or 0
    if tokens > MOST_TOKENS_PER_MEMORY:
        found.append(
            f"a memory takes {tokens:,.0f} tokens, over {MOST_TOKENS_PER_MEMORY}: lower {rate}, or enlarge {size}"
        )
    expected, brought = profile.expected_memories, outcome.per_window or 0
    if expected is not None and brought < expected / EXPECTED_WITHIN:
        cost = outcome.usd_per_memory
        dear = f"; a memory costs {expected / brought:.1f} times what that would make it" if cost else ""
        found.append(
            f"a window brings {brought:.1f} memories where {profile.name} expects {expected}{dear}:"
            f" lower {rate}, or choose a profile that expects less"
        )
    if expected is not None and brought > expected * EXPECTED_WITHIN:
        found.append(
            f"a window brings {brought:.1f} memories where {profile.name} expects {expected}:"
            " choose a profile that expects more, or a model that is choosier"
        )
    return found


def _share(whole: float | None, parts: int) -> float | None:
    return None if whole is None or not parts else whole / parts


def creation_rate(profile: Profile) -> int | None:
    """Memories per 1,000 messages that a profile's rate stands for; None where no tier of it follows the rate."""
    return round(profile.rate * 1000) if any(tier in MODEL_TIERS for tier in profile.tiers) else None


def cents(usd: Decimal) -> Decimal:
    """Dollars to the cent, halves up."""
    return usd.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _exact(number: float) -> Decimal:
    """The decimal number that was written, not the binary one next to it."""
    return Decimal(str(number))


def _ceiling(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_CEILING))


def _rounded(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_HALF_UP))

"""What models cost: a dated table of prices, what a number of tokens comes to, and plans. Pure; money is Decimal."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from types import MappingProxyType

from memcli.config import MODEL_TIERS, Profile, Tier
from memcli.errors import UsageError
from memcli.model import PlannedCall

_TABLE = Path(__file__).with_name("prices.toml")
MILLION = 1_000_000
# Tokens read and written for one memory: up to the first is good, over the second a lower rate is advised.
GOOD_TOKENS_PER_MEMORY = 150
MOST_TOKENS_PER_MEMORY = 200
# About how long a token is, for lengths of memories.
CHARACTERS_PER_TOKEN = 4
# Windows that bring more or less than the expected memories by this factor leave the range.
EXPECTED_WITHIN = 2
DAYS_OF_MONTH = 30
# How many times as much as windows and tiers one call per message should cost at least.
GOAL = 5
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


def tier_price(tier: Tier, given: Price | None = None) -> Price | None:
    """The price of a tier's model: the one `given`, else the tier's own, else the table's, None where nobody knows.

    A tier with prices needs no model: what is asked may be decided later.
    """
    if given is not None:
        return given
    if tier.price_in is not None and tier.price_out is not None:
        return Price(tier.model or "a model without a name", tier.price_in, tier.price_out, "memcli.toml", "")
    return None if tier.model is None else price_of(tier.model, {})


def unknown_price(tier: Tier) -> UsageError:
    """The error that a tier's price is not known, with what to do about it."""
    return UsageError(
        f"the price of {tier.model} is not known (tier {tier.name})",
        f"give it in dollars per million tokens: --price {tier.name}=IN,OUT, or price_in and price_out in"
        f" [tiers.{tier.name}] (0 and 0 for a model of your own)",
    )


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

    `one_by_one` is what one call per message would cost, for every message; `sampled` the part of it that is for as
    many messages as the processed windows hold. `tokens` are read and written by all calls, `tokens_one_by_one` for
    every message.
    """

    profile: Profile
    workload: Workload
    windows: int
    processed: int
    tiers: tuple[TierPlan, ...]
    one_by_one: Decimal
    sampled: Decimal
    tokens: Decimal
    tokens_one_by_one: Decimal

    @property
    def calls(self) -> int:
        """Calls of all tiers."""
        return sum(tier.calls for tier in self.tiers)

    @property
    def calls_one_by_one(self) -> int:
        """Calls of all tiers where each message has its own."""
        return self.workload.messages * len(self.tiers)

    @property
    def usd(self) -> Decimal:
        """Dollars of all tiers."""
        return sum((tier.usd for tier in self.tiers), Decimal(0))

    @property
    def per_agent(self) -> Decimal:
        """Dollars per agent over the whole time."""
        return self.usd / self.workload.agents

    @property
    def saved(self) -> Decimal | None:
        """How many times as much one call per message would cost; None where the plan costs nothing."""
        return self.one_by_one / self.usd if self.usd else None

    @property
    def saved_by_windows(self) -> Decimal | None:
        """The part of `saved` that is due to the windows; the rest is due to the rate."""
        return self.sampled / self.usd if self.usd else None


def plan(profile: Profile, workload: Workload, rates: Mapping[str, Rate]) -> Plan:
    """Work out what `profile` comes to; `rates` has each of its tiers that costs money, and may have others.

    One call per message is given its due: it writes no more than its share of a window's answer.

    Raises:
        KeyError: a model tier of the profile has no rate.
    """
    size = profile.max_messages
    windows = workload.windows(size)
    processed = _rounded(windows * _exact(profile.rate))
    # Where there are fewer messages than a window holds, the only window is a short one.
    filled = min(size, workload.per_agent)
    sampled_messages = min(processed * filled, workload.messages)
    tiers = []
    one_by_one = sampled = tokens = tokens_one_by_one = Decimal(0)
    for tier in profile.tiers:
        if tier not in MODEL_TIERS:
            continue
        rate = rates[tier]
        each, single = rate.call(filled, size), rate.call(1, size)
        tiers.append(TierPlan(tier, processed, each, each * processed, rate.basis))
        one_by_one += single * workload.messages
        sampled += single * sampled_messages
        tokens += sum(rate.tokens.of(filled, size)) * processed
        tokens_one_by_one += sum(rate.tokens.of(1, size)) * workload.messages
    return Plan(profile, workload, windows, processed, tuple(tiers), one_by_one, sampled, tokens, tokens_one_by_one)


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


@dataclass(slots=True)
class Sum:
    """Calls and what they come to.

    Tokens are those read, those written as the profile expects and those written at most; dollars likewise. `single_`
    is what a call for each of the messages would read and cost, its answer no longer than its share.
    """

    calls: int = 0
    messages: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    most_tokens_out: int = 0
    usd: float = 0.0
    most_usd: float = 0.0
    single_tokens_in: int = 0
    single_usd: float = 0.0

    def add(self, other: Sum) -> None:
        """Add the other's calls to these."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Counted:
    """How a tier's tokens are counted; `is_exact` says that it is by the model's own tokenizer, called `name`."""

    count: Callable[[str], int]
    name: str
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """What calls that were not made would come to, by tier, agent and day of the newest message ("": no time).

    A tier without a price in `prices` adds no dollars. `prompts` are the tokens of the prompts counted so far.
    """

    profile: Profile
    prices: Mapping[str, Price]
    counted: Mapping[str, Counted]
    models: dict[str, str] = field(default_factory=dict)
    tiers: dict[str, Sum] = field(default_factory=dict)
    agents: dict[str, Sum] = field(default_factory=dict)
    days: dict[str, Sum] = field(default_factory=dict)
    prompts: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, call: PlannedCall) -> None:
        """Count one call."""
        count = self.counted[call.tier].count
        # One prompt serves all windows of a tier.
        if (call.tier, call.system) not in self.prompts:
            self.prompts[call.tier, call.system] = count(call.system)
        prompt = self.prompts[call.tier, call.system]
        found = Sum(1, call.messages, prompt + count(call.user))
        found.single_tokens_in = found.tokens_in + prompt * (call.messages - 1)
        found.most_tokens_out = call.max_tokens
        found.tokens_out = expected_answer(self.profile, call.max_tokens)
        price = self.prices.get(call.tier)
        if price is not None:
            found.usd = dollars(price, found.tokens_in, found.tokens_out)
            found.most_usd = dollars(price, found.tokens_in, found.most_tokens_out)
            found.single_usd = dollars(price, found.single_tokens_in, found.tokens_out)
        self.models[call.tier] = call.model
        for groups, name in ((self.tiers, call.tier), (self.agents, call.agent), (self.days, (call.at or "")[:10])):
            groups.setdefault(name, Sum()).add(found)

    @property
    def whole(self) -> Sum:
        """Everything together."""
        whole = Sum()
        for each in self.tiers.values():
            whole.add(each)
        return whole

    @property
    def unpriced(self) -> list[str]:
        """Tiers whose calls have no price."""
        return [tier for tier in self.tiers if tier not in self.prices]

    @property
    def span(self) -> int | None:
        """Days from the first message's to the last one's, both counted; None where a message has no time."""
        if not self.days or "" in self.days:
            return None
        return (date.fromisoformat(max(self.days)) - date.fromisoformat(min(self.days))).days + 1


def expected_answer(profile: Profile, most: int) -> int:
    """Tokens of an answer: what the profile expects of a window where it says so, and no more than `most`."""
    if profile.expected_memories is None or profile.expected_tokens is None:
        return most
    return min(profile.expected_memories * profile.expected_tokens, most)


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

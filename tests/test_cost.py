"""What models cost: the table of prices, plans to the cent, estimates that add up, and advice."""

import dataclasses
import re
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memcli.config import DEFAULT_TIERS, MODEL_TIERS, PROFILES, Profile, Tier
from memcli.cost import (
    PLANNING_PRICES,
    CallTokens,
    Counted,
    Estimate,
    Outcome,
    Price,
    Rate,
    Sum,
    Workload,
    advice,
    cents,
    creation_rate,
    dollars,
    expected_answer,
    plan,
    price_of,
    prices,
    tier_price,
)
from memcli.model import PlannedCall

WORDS = Counted(lambda text: len(text.split()), "words", is_exact=True)
CHEAP, DEAR = Price("cheap", 0.4, 1.6, "test", ""), Price("dear", 3.0, 15.0, "test", "")
TOKENS = CallTokens(400, 90, 300)
PLANNED = {tier: Rate(TOKENS, per_window=usd) for tier, usd in PLANNING_PRICES.items()}
BY_TOKENS = {"small": Rate(TOKENS, price=CHEAP), "premium": Rate(TOKENS, price=DEAR)}
SCENARIO = Workload(Decimal(50), 1000, 30)

profiles = st.builds(
    Profile,
    st.just("any"),
    max_messages=st.integers(1, 50),
    rate=st.integers(0, 100).map(lambda percent: percent / 100),
    tiers=st.sampled_from([("rules",), ("rules", "small"), ("premium",), ("rules", "small", "premium")]),
)
workloads = st.builds(
    Workload, st.integers(1, 4000).map(lambda tenths: Decimal(tenths) / 10), st.integers(1, 3000), st.integers(1, 400)
)
rates = st.sampled_from([PLANNED, BY_TOKENS])


def exact(number):
    return Fraction(str(number))


def test_the_acceptance_example_comes_out_to_the_cent():
    found = plan(PROFILES["customer-support"], SCENARIO, PLANNED)
    assert (found.windows, found.processed, found.calls) == (75_000, 22_500, 22_500)
    assert found.usd == Decimal(450)
    assert found.per_agent == Decimal("0.45")
    assert [(tier.tier, tier.usd) for tier in found.tiers] == [("small", Decimal(450))]


def test_with_premium_a_window_costs_both_prices():
    found = plan(PROFILES["comprehensive"], SCENARIO, PLANNED)
    assert (found.windows, found.processed) == (100_000, 60_000)
    assert [cents(tier.usd) for tier in found.tiers] == [Decimal("1200.00"), Decimal("9000.00")]
    assert found.usd == Decimal(10_200)


def test_a_profile_without_model_tiers_costs_nothing_and_saves_nothing():
    found = plan(PROFILES["local"], SCENARIO, {})
    assert (found.usd, found.calls, found.saved, found.saved_by_windows) == (0, 0, None, None)


def test_a_tier_without_a_rate_is_an_error_and_no_guess():
    with pytest.raises(KeyError):
        plan(PROFILES["balanced"], SCENARIO, {"premium": PLANNED["premium"]})


def test_a_call_by_tokens_is_worked_out_in_full():
    # 400 + 20 * 90 = 2200 tokens read and 300 written, at $0.40 and $1.60 a million.
    assert BY_TOKENS["small"].call(20, 20) == Decimal("0.00136")
    # One message of twenty: 490 read, and a twentieth of the answer written.
    assert BY_TOKENS["small"].call(1, 20) == Decimal("0.00022")
    found = plan(PROFILES["balanced"], Workload(Decimal(20), 1, 10), BY_TOKENS)
    assert (found.windows, found.processed) == (10, 4)
    assert found.usd == Decimal("0.00544")
    assert found.one_by_one == Decimal("0.044")
    assert found.sampled == Decimal("0.0176")
    assert found.saved_by_windows == Decimal("0.0176") / Decimal("0.00544")


def test_a_price_per_window_is_shared_out_by_tokens():
    small = PLANNED["small"]
    assert small.call(20, 20) == Decimal("0.02")
    assert small.call(1, 20) == Decimal("0.02") * (Decimal(490) + 15) / (2200 + 300)


@given(profiles, workloads, rates)
def test_the_parts_of_a_plan_add_up(profile, workload, chosen):
    found = plan(profile, workload, chosen)
    assert found.usd == sum(tier.usd for tier in found.tiers)
    assert all(tier.usd == tier.usd_per_call * tier.calls for tier in found.tiers)
    assert 0 <= found.processed <= found.windows
    assert abs(found.processed - found.windows * exact(profile.rate)) <= Fraction(1, 2)
    assert found.windows * profile.max_messages >= workload.messages
    assert (found.windows - workload.agents) * profile.max_messages < workload.messages
    assert found.calls_one_by_one == workload.messages * len(found.tiers)
    assert found.sampled <= found.one_by_one
    assert abs(found.per_agent * workload.agents - found.usd) < Decimal("1e-15")


@given(profiles, workloads, rates, st.integers(2, 50))
def test_more_agents_cost_in_proportion(profile, workload, chosen, times):
    profile = dataclasses.replace(profile, rate=1.0)
    more = Workload(workload.messages_per_day, workload.agents * times, workload.days)
    expected = plan(profile, workload, chosen).usd * times
    assert abs(plan(profile, more, chosen).usd - expected) <= expected * Decimal("1e-20")


@given(profiles, workloads, rates)
def test_windows_never_cost_more_than_a_call_per_message(profile, workload, chosen):
    found = plan(profile, workload, chosen)
    if found.saved_by_windows is not None:
        # Windows that the rounding of the rate adds are no loss of batching.
        assume(found.processed >= 10)
        assert found.saved_by_windows >= Decimal("0.9")
        assert found.saved >= found.saved_by_windows


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from(sorted(prices())))
def test_dollars_are_those_of_exact_arithmetic(tokens_in, tokens_out, model):
    price = prices()[model]
    expected = (exact(price.usd_in) * tokens_in + exact(price.usd_out) * tokens_out) / 1_000_000
    assert dollars(price, tokens_in, tokens_out) == pytest.approx(float(expected), rel=1e-12, abs=1e-18)


def test_every_price_has_a_source_and_a_day():
    assert len(prices()) > 20
    for model, price in prices().items():
        assert price.model == model
        assert price.usd_in > 0, model
        assert price.usd_out >= 0, model
        assert re.fullmatch(r"https://[\w./-]+", price.source), model
        assert re.fullmatch(r"\d{4}-\d{2}(-\d{2})?", price.date), model
        assert date.fromisoformat((price.date + "-01")[:10]) < date(2100, 1, 1)


def test_an_unknown_model_has_no_price_and_the_users_own_comes_first():
    assert price_of("gpt-4.1-mini", {}).usd_in == 0.4
    # A snapshot or a relative of a known model is another model.
    assert price_of("gpt-4.1-mini-2030-01-01", {}) is None
    assert price_of("GPT-4.1-mini", {}) is None
    assert price_of("gpt-4.1-mini", {"gpt-4.1-mini": DEAR}) is DEAR


def test_a_tiers_own_price_comes_before_the_tables_and_a_given_one_before_both():
    tier = DEFAULT_TIERS["small"]
    assert tier_price(tier) is None

    def of(**changes):
        found = tier_price(Tier(**changes))
        return None if found is None else (found.usd_in, found.usd_out)

    assert of(name="small", model="nobody-knows-it") is None
    assert of(name="small", model="gpt-4.1-mini") == (0.4, 1.6)
    assert of(name="small", model="gpt-4.1-mini", price_in=0.0, price_out=0.0) == (0, 0)
    assert tier_price(Tier("small", "gpt-4.1-mini", price_in=7, price_out=8), CHEAP) is CHEAP


def call(tier="small", agent="a", at="2026-03-01T10:00:00Z", words=10, messages=5, most=300):
    return PlannedCall(tier, f"{tier}-model", agent, messages, at, "you are", " ".join(["x"] * words), most)


calls = st.lists(
    st.builds(
        call,
        st.sampled_from(MODEL_TIERS),
        st.sampled_from(["a", "b", "\x1b[1m"]),
        st.sampled_from(["2026-03-01T10:00:00Z", "2026-03-04T23:59:59Z", None]),
        st.integers(1, 40),
        st.integers(1, 20),
        st.integers(1, 800),
    ),
    max_size=30,
)


@given(calls, st.sampled_from(["balanced", "conservative", "customer-support"]))
def test_every_way_to_group_an_estimate_adds_up_to_the_same(planned, name):
    profile, known = PROFILES[name], {"small": CHEAP, "premium": DEAR}
    found = Estimate(profile, known, dict.fromkeys(MODEL_TIERS, WORDS))
    for each in planned:
        found.add(each)
    tokens_in = [2 + len(each.user.split()) for each in planned]
    expected = Sum(
        len(planned),
        sum(each.messages for each in planned),
        sum(tokens_in),
        sum(expected_answer(profile, each.max_tokens) for each in planned),
        sum(each.max_tokens for each in planned),
    )
    for groups in (found.tiers, found.agents, found.days):
        whole = Sum()
        for each in groups.values():
            whole.add(each)
            assert each.tokens_out <= each.most_tokens_out
            assert each.usd <= each.most_usd + 1e-12
        for field in ("calls", "messages", "tokens_in", "tokens_out", "most_tokens_out"):
            assert getattr(whole, field) == getattr(expected, field)
        # A call for each message repeats the prompt, here of two words.
        assert whole.single_tokens_in == sum(tokens_in) + sum(2 * (each.messages - 1) for each in planned)
        assert whole.single_usd >= whole.usd - 1e-12
        usd = sum(dollars(known[each.tier], n, each.max_tokens) for each, n in zip(planned, tokens_in, strict=True))
        assert whole.most_usd == pytest.approx(usd)
    has_time = planned and all(each.at for each in planned)
    days = {each.at[:10] for each in planned if each.at}
    assert found.span == ((4 if len(days) == 2 else 1) if has_time else None)


def test_a_tier_without_a_price_has_tokens_but_no_dollars():
    found = Estimate(PROFILES["balanced"], {"small": CHEAP}, dict.fromkeys(MODEL_TIERS, WORDS))
    found.add(call("small"))
    found.add(call("premium"))
    assert found.unpriced == ["premium"]
    assert found.tiers["premium"].tokens_in == 12
    assert found.tiers["premium"].usd == 0
    assert found.tiers["small"].usd == pytest.approx(dollars(CHEAP, 12, 300))


def test_an_answer_is_as_long_as_the_profile_expects_and_no_longer_than_allowed():
    assert expected_answer(PROFILES["conservative"], 300) == 4 * 25
    assert expected_answer(PROFILES["balanced"], 300) == 300
    assert expected_answer(PROFILES["customer-support"], 300) == 300


def test_the_creation_rate_is_that_of_the_requirements():
    named = ("conservative", "balanced", "comprehensive", "maximum")
    assert [creation_rate(PROFILES[name]) for name in named] == [200, 400, 600, 800]
    assert creation_rate(PROFILES["local"]) is None


def outcome(memories=160, windows=20, tokens=24_000, usd=0.5):
    return Outcome(memories, windows, windows * 20, windows * 50, tokens, usd)


def test_figures_within_the_range_need_no_advice():
    found = outcome()
    assert advice(PROFILES["balanced"], found) == []
    assert (found.tokens_per_memory, found.per_window, found.per_message) == (150, 8, 0.4)
    assert found.usd_per_memory == 0.5 / 160
    assert found.per_thousand == 160
    assert advice(PROFILES["balanced"], outcome(0, 0, 0, 0)) == []


@pytest.mark.parametrize(
    ("found", "name", "expected"),
    [
        (outcome(tokens=160 * 200), "balanced", []),
        (outcome(tokens=160 * 201), "balanced", ["201 tokens, over 200: lower the rate of balanced (now 0.4)"]),
        (
            outcome(memories=79, tokens=0),
            "balanced",
            ["4.0 memories where balanced expects 8; a memory costs 2.0 times"],
        ),
        (outcome(memories=80, tokens=0), "balanced", []),
        (outcome(memories=320, tokens=0), "balanced", []),
        (outcome(memories=321, tokens=0), "balanced", ["16.1 memories where balanced expects 8: choose"]),
        (outcome(memories=1, tokens=0), "customer-support", []),
        (outcome(memories=0), "customer-support", ["20 windows brought no memory"]),
    ],
)
def test_what_leaves_the_range_is_named_with_what_to_do(found, name, expected):
    said = advice(PROFILES[name], found)
    assert len(said) == len(expected)
    assert all(part in line for part, line in zip(expected, said, strict=True)), said


def test_shares_of_nothing_are_unknown():
    nothing = Outcome(0, 0, 0, 0, 0, None)
    for figure in ("usd_per_memory", "tokens_per_memory", "per_window", "per_message", "per_thousand", "tokens_each"):
        assert getattr(nothing, figure) is None

"""What model tiers cost: plans, estimates and accounts, for 80 columns."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.cost import cents
from memcli.render.terminal import safe, show

if TYPE_CHECKING:
    from memcli.commands.cost import Scenario
    from memcli.cost import Plan

GOAL = 5


def usd(amount: Decimal | float) -> str:
    """Dollars: to the cent from a dollar on, below with three digits that count."""
    exact = Decimal(str(amount))
    if exact == 0 or abs(exact) >= 1:
        return f"${cents(exact):,}"
    places = max(2, 2 - exact.adjusted())
    return f"${round(exact, places):,f}"


def show_plans(scenario: Scenario) -> None:
    """Print the plan for the chosen profile, what batching saves, and all profiles side by side."""
    plan = scenario.chosen
    work = plan.workload
    head = (
        f"{safe(plan.profile.name)}: {work.agents:,} agents, {work.messages_per_day:f} messages a day each,"
        f" {work.days:,} days"
    )
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold")
    facts.add_column(justify="right", no_wrap=True)
    facts.add_column(style="dim")
    facts.add_row("messages", f"{work.messages:,}", "all of them kept by the filter")
    facts.add_row(
        "windows",
        f"{plan.windows:,}",
        f"of {plan.profile.max_messages:,} messages; {plan.processed:,} processed at rate {plan.profile.rate:g}",
    )
    for tier in plan.tiers:
        facts.add_row(
            f"  {tier.tier}", usd(tier.usd), f"{tier.calls:,} calls at {usd(tier.usd_per_call)} ({safe(tier.basis)})"
        )
    facts.add_row("total", usd(plan.usd), f"{usd(plan.usd / work.days)} a day")
    facts.add_row("per agent", usd(plan.per_agent), "over the whole time")
    show([Text(head, style="bold"), facts, *_saved(scenario), Text(""), *_side_by_side(scenario)])


def _saved(scenario: Scenario) -> list[Text]:
    plan = scenario.chosen
    factor = plan.factor(plan.one_by_one)
    if factor is None or plan.tokens_saved is None:
        return [Text("No tier of this profile calls a model: it costs nothing.")]
    reached = "reached" if factor >= GOAL else "not reached"
    return [
        Text(""),
        Text("one call per message instead of one per window", style="bold"),
        Text(f"{plan.one_by_one_calls:,} calls, {usd(plan.one_by_one)}: {factor:.1f} times as much; the goal of"),
        Text(f"{GOAL} times or more is {reached}. With every message and no rate it would be {usd(plan.one_for_all)}."),
    ]


def _side_by_side(scenario: Scenario) -> list[Table | Text]:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("profile", "windows", "processed", "small", "premium", "total", "per agent", "saves"):
        table.add_column(heading, justify="left" if heading == "profile" else "right", no_wrap=True)
    for plan in scenario.compared:
        by_tier = {tier.tier: usd(tier.usd) for tier in plan.tiers}
        is_chosen = plan.profile.name == scenario.chosen.profile.name
        table.add_row(
            Text(safe(plan.profile.name), style="bold" if is_chosen else ""),
            f"{plan.windows:,}",
            f"{plan.processed:,}",
            by_tier.get("small", "-"),
            by_tier.get("premium", "-"),
            usd(plan.usd),
            usd(plan.per_agent),
            _times(plan),
        )
    assumed = (
        f"Assumed: {scenario.message_tokens} tokens a message, full windows, answers as long as the profile expects,"
        " else as the tier allows. saves: how many times more one call per message would cost."
    )
    return [table, Text(""), Text(assumed, style="dim")]


def _times(plan: Plan) -> str:
    factor = plan.factor(plan.one_by_one)
    return "-" if factor is None else f"{factor:.1f}x"

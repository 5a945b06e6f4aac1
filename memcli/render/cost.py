"""What model tiers cost: plans, estimates and accounts, for 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memcli.cost import DAYS_OF_MONTH, GOAL, GOOD_TOKENS_PER_MEMORY, MOST_TOKENS_PER_MEMORY, Sum, creation_rate
from memcli.render.layout import bar, cut, number_of, usd, width_of_output
from memcli.render.terminal import one_line, safe, show

if TYPE_CHECKING:
    from memcli.cost import Estimate
    from memcli.forecast import Estimated, Scenario
    from memcli.spending import Accounts
    from memcli.store.spending import Spent

SHOWN = 7
BAR = 12
WHOLE_FROM = 100
SHORT_FROM = 10_000_000


def show_plans(scenario: Scenario) -> None:
    """Print the plan for the chosen profile, what batching saves, and all profiles side by side."""
    plan = scenario.chosen
    work = plan.workload
    head = (
        f"{safe(plan.profile.name)}: {number_of(work.agents, 'agent')}, {work.messages_per_day:f} messages a day each,"
        f" {number_of(work.days, 'day')}"
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
            f"  {tier.tier}", usd(tier.usd), f"{tier.calls:,} calls at {usd(tier.usd_per_call)}: {safe(tier.basis)}"
        )
    facts.add_row("total", usd(plan.usd), f"{usd(plan.usd / work.days)} a day")
    facts.add_row("per agent", usd(plan.per_agent), "over the whole time")
    show([Text(head, style="bold"), facts, *_saved(scenario), Text(""), *_side_by_side(scenario)])


def _saved(scenario: Scenario) -> list[Text]:
    plan = scenario.chosen
    saved, by_windows = plan.saved, plan.saved_by_windows
    if saved is None or by_windows is None:
        return [Text("No tier of this profile takes money.")]
    reached = "reached" if saved >= GOAL else "not reached"
    return [
        Text(""),
        Text("one call per message instead", style="bold"),
        Text(
            f"{plan.calls_one_by_one:,} calls, {usd(plan.one_by_one)}: {saved:.1f} times as much,"
            f" {by_windows:.1f} by windows, {saved / by_windows:.1f} by the rate"
        ),
        Text(f"the goal, {GOAL} times, is {reached}"),
    ]


def _side_by_side(scenario: Scenario) -> list[Table | Text]:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("profile", "windows", "calls", "small", "premium", "total", "per agent", "saves"):
        table.add_column(heading, justify="left" if heading == "profile" else "right", overflow="fold")
    for plan in scenario.compared:
        by_tier = {tier.tier: _short_usd(tier.usd) for tier in plan.tiers}
        table.add_row(
            Text(safe(plan.profile.name), style="bold" if plan.profile.name == scenario.chosen.profile.name else ""),
            _short(plan.windows),
            _short(plan.calls),
            by_tier.get("small", "-"),
            by_tier.get("premium", "-"),
            _short_usd(plan.usd),
            _short_usd(plan.per_agent),
            "-" if plan.saved is None else f"{plan.saved:.1f}x",
        )
    tokens = scenario.message_tokens
    notes = (
        f"Assumed: {tokens:,} tokens a message and what the prompt adds, full windows, answers as",
        "long as the profile expects, else as the tier allows. saves: how many times as",
        "much one call per message would cost, its answer a share of the window's.",
    )
    return [table, Text(""), *(Text(note, style="dim") for note in notes)]


def _short(number: int) -> str:
    return f"{number:,}" if number < SHORT_FROM else f"{number / 1_000_000:,.1f}M"


def _short_usd(amount: Decimal) -> str:
    if amount >= SHORT_FROM:
        return f"${amount / 1_000_000:,.1f}M"
    return f"${amount:,.0f}" if amount >= WHOLE_FROM else usd(amount)


def show_estimate(found: Estimated) -> None:
    """Print what was read and what the calls for it would come to, by tier, agent and time."""
    report = found.report
    dropped = sum(report.filtered.values())
    head = (
        f"{number_of(report.files.read, 'file')}, {number_of(report.messages_new, 'message')} ({dropped:,} dropped,"
        f" {report.pending:,} waiting), {number_of(found.windows, 'window')}"
    )
    if report.windows_skipped_by_rate:
        head += f", {report.windows_skipped_by_rate:,} left out by the rate"
    show([Text(head, style="bold"), *_estimate_lines(found.estimate), Text("Nobody was called.", style="dim")])


def show_planned(found: Estimate) -> None:
    """Print what the calls that a dry run left out would come to."""
    show([Text(""), Text("calls of models that were left out", style="bold"), *_estimate_lines(found)])


def _estimate_lines(found: Estimate) -> list[object]:
    """An estimate for a terminal; of tiers without a price there are no dollars."""
    profile = safe(found.profile.name)
    if not found.tiers:
        return [Text(f"profile {profile}: no call of a model, $0.00")]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("", "calls", "tokens in", "out", "dollars", "at most"):
        table.add_column(heading, justify="right" if heading else "left", overflow="ellipsis", no_wrap=True)
    for tier, total in found.tiers.items():
        name = f"{tier} {one_line(found.models[tier])}"
        _add_sum(table, name, total, is_priced=tier in found.prices)
    is_priced = not found.unpriced
    if len(found.tiers) > 1:
        _add_sum(table, "all", found.whole, is_priced=is_priced)
    if len(found.agents) > 1:
        table.add_row(Text("by agent", style="bold"))
        dearest = sorted(found.agents.items(), key=lambda each: (-each[1].usd, -each[1].tokens_in, each[0]))
        for agent, total in dearest[:SHOWN]:
            _add_sum(table, f"  {one_line(agent)}", total, is_priced=is_priced)
        if len(dearest) > SHOWN:
            rest = Sum()
            for _, total in dearest[SHOWN:]:
                rest.add(total)
            _add_sum(table, f"  {len(dearest) - SHOWN:,} others", rest, is_priced=is_priced)
    lines: list[object] = [table, Text("")]
    if is_priced:
        whole = found.whole
        lines.append(Text(_over_time(found)))
        factor = f", {whole.single_usd / whole.usd:.1f} times as much" if whole.usd else ""
        lines.append(Text(f"one call per message instead: {whole.messages:,} calls, {usd(whole.single_usd)}{factor}"))
    lines += [Text(line, style="yellow") for line in (f"the price of {tier} is not known" for tier in found.unpriced)]
    return lines + [Text(line, style="dim") for line in _grounds(found)]


def _add_sum(table: Table, name: str, total: Sum, *, is_priced: bool) -> None:
    table.add_row(
        Text(name),
        f"{total.calls:,}",
        f"{total.tokens_in:,}",
        f"{total.tokens_out:,}",
        usd(total.usd) if is_priced else "?",
        usd(total.most_usd) if is_priced else "?",
    )


def _over_time(found: Estimate) -> str:
    if found.span is None:
        return "Some messages have no time: dollars per day are not known."
    day = found.whole.usd / found.span
    month = f"{usd(day * DAYS_OF_MONTH)} a month of {DAYS_OF_MONTH} days"
    return f"{usd(day)} a day over {number_of(found.span, 'day')}, {month}"


def _grounds(found: Estimate) -> Iterator[str]:
    """What an estimate rests on: prices and their dates, and who counted."""
    for tier in found.tiers:
        price, counted = found.prices.get(tier), found.counted[tier]
        if price is not None:
            since = f", {price.date}" if price.date else ""
            yield f"{tier}: ${price.usd_in:g} and ${price.usd_out:g} a million tokens ({safe(price.source)}{since})"
        how = "counted by" if counted.is_exact else "an estimate by"
        yield f"{tier}: tokens are {how} {safe(counted.name)}"
    yield "out: what the profile expects of an answer, else the tier's max_tokens, as is at most"


def show_accounts(accounts: Accounts) -> None:
    """Print what was spent in groups, what it brought, and what to change."""
    if not accounts.tiers:
        show([Text(f"Nothing was spent: {safe(accounts.db)} holds no call of a model.")])
        return
    month = f"{usd(accounts.month.usd)} by model tiers since {accounts.since}"
    if accounts.budget_usd is not None:
        month += f" of a budget of {usd(accounts.budget_usd)}"
    blocks: list[object] = [
        Text.assemble((usd(accounts.usd), "bold"), f" spent, {month}"),
    ]
    if accounts.unpriced:
        blocks.append(Text(f"without {number_of(accounts.unpriced, 'call')} whose price is not known", style="yellow"))
    unsettled = accounts.unsettled
    if unsettled.calls:
        worst = (
            f"{usd(unsettled.usd)} of it are the worst case of {number_of(unsettled.calls, 'call')} without an answer"
        )
        blocks.append(Text(worst, style="yellow"))
    blocks += [Text(""), _groups(accounts)]
    if accounts.outcome.windows:
        blocks += [Text(""), *_outcome(accounts)]
    blocks += [Text(line, style="yellow") for line in accounts.advice()]
    show(blocks)


def _groups(accounts: Accounts) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "calls", "tokens in", "out", "dollars", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading), overflow="ellipsis")
    groups: tuple[tuple[str, Sequence[Spent], bool], ...] = (
        ("tier", accounts.tiers, False),
        ("model", accounts.models, False),
        ("agent", accounts.agents, False),
        ("day", accounts.days, True),
        ("run", accounts.runs, True),
    )
    for title, rows, is_newest in groups:
        shown = rows[-SHOWN:] if is_newest else rows[:SHOWN]
        more = f" (the {'newest' if is_newest else 'dearest'} {SHOWN} of {len(rows):,})" if len(rows) > SHOWN else ""
        table.add_row(Text(f"by {title}{more}", style="bold"))
        top = max((each.usd for each in shown), default=0.0)
        for each in shown:
            calls = "?" if each.calls is None else f"{each.calls:,}"
            name = Text(f"  {one_line(each.name)}")
            figures = (calls, f"{each.tokens_in:,}", f"{each.tokens_out:,}", usd(each.usd))
            table.add_row(name, *figures, Text(bar(each.usd, top, BAR), style="cyan"))
    return table


def _outcome(accounts: Accounts) -> list[Text]:
    outcome, profile = accounts.outcome, accounts.profile
    per_window, each, rate = profile.expected_memories, profile.expected_tokens, creation_rate(profile)
    rows = [
        ("memories", f"{outcome.memories:,}", f"of {outcome.windows:,} windows that model tiers saw"),
        ("dollars a memory", _figure(outcome.usd_per_memory, usd), ""),
        (
            "tokens a memory",
            _figure(outcome.tokens_per_memory, _plain),
            f"paid; up to {GOOD_TOKENS_PER_MEMORY} is good, over {MOST_TOKENS_PER_MEMORY} is not",
        ),
        ("length", _figure(outcome.tokens_each, _plain), _expected("tokens a memory", each, profile.name)),
        ("per window", _figure(outcome.per_window, _plain), _expected("memories", per_window, profile.name)),
        ("per message", _figure(outcome.per_message, _plain), "efficiency: memories of a message seen"),
        ("per 1,000 messages", _figure(outcome.per_thousand, _plain), _expected("memories", rate, profile.name)),
    ]
    lines = [Text("what it brought", style="bold")]
    width = width_of_output()
    lines += [cut(Text.assemble(f"  {name:<18} {figure:>9}  ", (about, "dim")), width) for name, figure, about in rows]
    return lines


def _expected(what: str, number: int | None, profile: str) -> str:
    return what if number is None else f"{what}; {safe(profile)} expects {number:,}"


def _figure(number: float | None, shown: Callable[[float], str]) -> str:
    return "-" if number is None else shown(number)


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number >= WHOLE_FROM else f"{number:.2f}"

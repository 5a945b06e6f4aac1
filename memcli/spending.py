"""What was spent on models, and what came of it: the accounts behind `memcli cost report`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from memcli.config import Config, Profile
from memcli.cost import CHARACTERS_PER_TOKEN, Outcome, advice, creation_rate
from memcli.store import calls, spending
from memcli.store.db import Store
from memcli.store.spending import Spent, Yield


@dataclass(frozen=True, slots=True)
class Accounts:
    """All spending of a database in groups, and what it brought; `profile` is what it is compared with.

    `month` is what model tiers took since `since`, the first of the month, and `budget_usd` what they may take in one.
    `unsettled` are calls that never were answered, at their worst case, which is in all the other sums.
    """

    db: str
    profile: Profile
    tiers: list[Spent]
    models: list[Spent]
    agents: list[Spent]
    days: list[Spent]
    runs: list[Spent]
    since: str
    month: calls.Spent
    budget_usd: float | None
    unsettled: Spent
    yields: list[Yield]
    outcome: Outcome

    @property
    def usd(self) -> float:
        """Dollars of everything."""
        return sum(each.usd for each in self.tiers)

    @property
    def unpriced(self) -> int:
        """Calls whose price is not known, which `usd` therefore lacks."""
        return sum(each.unpriced for each in self.tiers)

    def advice(self) -> list[str]:
        """What to change where the figures leave what the profile expects."""
        return advice(self.profile, self.outcome)

    def to_json(self) -> dict[str, object]:
        """The accounts as one JSON document; dollars are rounded to a millionth."""
        outcome = self.outcome
        return {
            "db": self.db,
            "usd": round(self.usd, 6),
            "calls": sum(each.calls or 0 for each in self.tiers),
            "tokens": sum(each.tokens for each in self.tiers),
            "unpriced_calls": self.unpriced,
            "unsettled": {"calls": self.unsettled.calls, "usd": round(self.unsettled.usd, 6)},
            "month": {"since": self.since, "usd": round(self.month.usd, 6), "budget_usd": self.budget_usd},
            "tiers": _rows("tier", self.tiers),
            "models": _rows("model", self.models),
            "agents": _rows("agent", self.agents),
            "days": _rows("day", self.days),
            "runs": _rows("run", self.runs),
            "yields": [asdict(each) for each in self.yields],
            "outcome": {
                "memories": outcome.memories,
                "windows": outcome.windows,
                "messages": outcome.messages,
                "usd_per_memory": _rounded(outcome.usd_per_memory),
                "tokens_per_memory": _rounded(outcome.tokens_per_memory),
                "memories_per_window": _rounded(outcome.per_window),
                "memories_per_message": _rounded(outcome.per_message),
                "memories_per_1000_messages": _rounded(outcome.per_thousand),
                "tokens_each": _rounded(outcome.tokens_each),
            },
            "expected": {
                "profile": self.profile.name,
                "memories_per_window": self.profile.expected_memories,
                "tokens_each": self.profile.expected_tokens,
                "memories_per_1000_messages": creation_rate(self.profile),
            },
            "advice": self.advice(),
        }


def _rows(name: str, groups: list[Spent]) -> list[dict[str, object]]:
    return [
        {
            name: int(each.name) if name == "run" else each.name,
            "calls": each.calls,
            "tokens_in": each.tokens_in,
            "tokens_out": each.tokens_out,
            "usd": round(each.usd, 6),
            "unpriced_calls": each.unpriced,
        }
        for each in groups
    ]


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


def collect(store: Store, config: Config, profile: Profile, at: datetime) -> Accounts:
    """Add up what was spent, in one state of the database; `at` says which month is this one."""
    with store.snapshot():
        tiers = spending.spent_by(store, "tier")
        yields = spending.yields(store)
        paid = [each for each in tiers if each.name != spending.EMBEDDING]
        windows, seen = spending.windows_seen(store)
        created = sum(each.created for each in yields)
        return Accounts(
            db=str(store.path),
            profile=profile,
            tiers=tiers,
            models=spending.spent_by(store, "model"),
            agents=spending.spent_by(store, "agent"),
            days=spending.spent_by(store, "day"),
            runs=spending.spent_by(store, "run"),
            since=f"{at:%Y-%m}-01",
            month=calls.spent_since(store, f"{at:%Y-%m}"),
            budget_usd=config.max_usd_per_month,
            unsettled=spending.unsettled(store),
            yields=yields,
            outcome=Outcome(
                memories=created,
                windows=windows,
                messages=seen,
                all_messages=spending.windowed_messages(store),
                tokens=sum(each.tokens for each in paid),
                usd=sum(each.usd for each in paid) if not any(each.unpriced for each in paid) else None,
                tokens_each=_tokens_each(yields),
            ),
        )


def _tokens_each(yields: list[Yield]) -> float | None:
    """About how many tokens a memory has, at four characters each."""
    created = sum(each.created for each in yields)
    return sum(each.characters for each in yields) / created / CHARACTERS_PER_TOKEN if created else None

"""What model tiers will cost: plans for a workload and estimates for real transcripts, as documents."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal

from memcli.cost import DAYS_OF_MONTH, GOAL, Estimate, Plan, Sum
from memcli.ingest.report import IngestReport


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
        "tokens": round(found.tokens),
        "one_call_per_message": {
            "calls": found.calls_one_by_one,
            "tokens": round(found.tokens_one_by_one),
            "usd": _rounded(found.one_by_one),
            "factor": _ratio(found.saved),
            "factor_by_windows": _ratio(found.saved_by_windows),
            "goal": GOAL,
        },
    }


def _rounded(usd: Decimal | float) -> float:
    return round(float(usd), 6)


def _ratio(ratio: Decimal | None) -> float | None:
    return None if ratio is None else float(round(ratio, 3))


@dataclass(frozen=True, slots=True)
class Estimated:
    """What was read, and what calls for it would come to."""

    report: IngestReport
    estimate: Estimate

    @property
    def windows(self) -> int:
        """Windows that were cut, those included that no model would be asked about."""
        tallies = self.report.models.values()
        asked = max((tally.waiting + tally.too_short + tally.reused for tally in tallies), default=0)
        return max(asked, self.report.windows_processed) + self.report.windows_skipped_by_rate

    def dry_run_json(self) -> dict[str, object]:
        """The report of the dry run; where a model would be asked, with the estimate in it."""
        planned = {"estimate": estimate_json(self.estimate)} if self.estimate.counted else {}
        return self.report.to_json() | planned

    def to_json(self) -> dict[str, object]:
        """Both as one JSON document."""
        read = self.report
        return estimate_json(self.estimate) | {
            "files": read.files.read,
            "files_failed": len(read.files.failed),
            "lines_rejected": read.rejected,
            "messages": read.messages_new,
            "messages_dropped": sum(read.filtered.values()),
            "messages_pending": read.pending,
            "windows": self.windows,
            "windows_skipped_by_rate": read.windows_skipped_by_rate,
            "windows_too_short": {tier: tally.too_short for tier, tally in read.models.items()},
        }


def estimate_json(found: Estimate) -> dict[str, object]:
    """An estimate as JSON; dollars are rounded to a millionth, null where a price is not known."""
    is_priced = not found.unpriced
    whole, span = found.whole, found.span
    per_day = None if span is None or not is_priced else whole.usd / span
    return {
        "profile": found.profile.name,
        **_sum_json(whole, is_priced=is_priced),
        "span_days": span,
        "usd_per_day": None if per_day is None else _rounded(per_day),
        "usd_per_month": None if per_day is None else _rounded(per_day * DAYS_OF_MONTH),
        "one_call_per_message": {
            "calls": whole.messages,
            "tokens_in": whole.single_tokens_in,
            "usd": _rounded(whole.single_usd) if is_priced else None,
            "factor_by_windows": round(whole.single_usd / whole.usd, 3) if is_priced and whole.usd else None,
        },
        "tiers": [
            {"tier": tier, "model": found.models[tier]}
            | _sum_json(total, is_priced=tier in found.prices)
            | {
                "price": asdict(found.prices[tier]) if tier in found.prices else None,
                "counted_by": found.counted[tier].name,
                "is_exact": found.counted[tier].is_exact,
            }
            for tier, total in found.tiers.items()
        ],
        "agents": [
            {"agent": agent} | _sum_json(total, is_priced=is_priced) for agent, total in sorted(found.agents.items())
        ],
        "days": [
            {"day": day or None} | _sum_json(total, is_priced=is_priced) for day, total in sorted(found.days.items())
        ],
    }


def _sum_json(found: Sum, *, is_priced: bool) -> dict[str, object]:
    return {
        "calls": found.calls,
        "messages_sent": found.messages,
        "tokens_in": found.tokens_in,
        "tokens_out": found.tokens_out,
        "most_tokens_out": found.most_tokens_out,
        "usd": _rounded(found.usd) if is_priced else None,
        "most_usd": _rounded(found.most_usd) if is_priced else None,
    }

"""`memcli cost estimate`: what ingesting real transcripts would cost. Everything is done but the calls."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from memcli.commands.ingest import Request, ingest
from memcli.config import MODEL_TIERS, Config, Tier
from memcli.cost import DAYS_OF_MONTH, Counted, Estimate, Price, Sum, tier_price, unknown_price
from memcli.errors import UsageError
from memcli.ingest.report import IngestReport
from memcli.protocols import Progress

_DEFAULT = "the tokenizer of memcli's embedding model"


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
        "usd_per_day": _rounded(per_day),
        "usd_per_month": None if per_day is None else _rounded(per_day * DAYS_OF_MONTH),
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


def _rounded(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 6)


def estimate(
    config: Config,
    request: Request,
    prices: Mapping[str, Price],
    tokenizers: Mapping[str, Path],
    progress: Progress,
    environ: Mapping[str, str],
) -> Estimated:
    """Read the transcripts of `request` into a database that is thrown away, and add up the calls of such a run.

    `prices` are the user's by tier, `tokenizers` the files of the models' own tokenizers.

    Raises:
        UsageError: no tier of the profile has a model, or a model's price is not known.
    """
    profile, _ = config.active_profile()
    wanted = [tier for tier in config.extract or profile.tiers if tier in MODEL_TIERS]
    chosen = _chosen(config, wanted, prices, tokenizers)
    if wanted and not chosen:
        raise UsageError(
            f"profile {profile.name}: no model is set for {' and '.join(wanted)}",
            f"name one: --model {wanted[0]}=NAME, or model in [tiers.{wanted[0]}]",
        )
    known: dict[str, Price] = {}
    for tier, settings in chosen.items():
        price = tier_price(settings, prices.get(tier))
        if price is None:
            raise unknown_price(settings)
        known[tier] = price
    for tier in wanted:
        if tier not in chosen:
            progress.note(f"profile {profile.name}: {tier} is left out, no model is set for it")
    found = Estimate(profile, known, counters(chosen))
    with tempfile.TemporaryDirectory(prefix="memcli-estimate-") as folder:
        scratch = replace(
            config,
            db=Path(folder) / "empty.db",
            # Where no model is asked, something must still cut the windows.
            extract=tuple(chosen) or ("rules",),
            tiers={**config.tiers, **chosen},
            model=None,
            base_url=None,
        )
        report = ingest(scratch, replace(request, dry_run=True), progress, environ, found.add)
    return Estimated(report, found)


def rehearse(config: Config, request: Request, progress: Progress, environ: Mapping[str, str]) -> Estimated:
    """A dry run of ingest with what its calls would come to; a model without a known price has no dollars."""
    profile, _ = config.active_profile()
    wanted = [tier for tier in config.extract or profile.tiers if tier in MODEL_TIERS]
    chosen = _chosen(config, wanted, {}, {})
    known = {tier: price for tier, settings in chosen.items() if (price := tier_price(settings)) is not None}
    found = Estimate(profile, known, counters(chosen))
    return Estimated(ingest(config, request, progress, environ, found.add), found)


def _chosen(
    config: Config, wanted: Sequence[str], prices: Mapping[str, Price], tokenizers: Mapping[str, Path]
) -> dict[str, Tier]:
    """Those of the wanted tiers that have a model. Whoever gives a price need not say yet of which model it is."""
    found = {}
    for tier in wanted:
        settings = replace(config.tiers[tier], tokenizer=tokenizers.get(tier, config.tiers[tier].tokenizer))
        if settings.model is None and tier in prices:
            settings = replace(settings, model=prices[tier].model)
        if settings.model is not None:
            found[tier] = settings
    return found


def counters(tiers: Mapping[str, Tier]) -> dict[str, Counted]:
    """How each tier's tokens are counted: by its own tokenizer, else by that of the default embedding model."""
    if not tiers:
        return {}
    from memcli.embed.counting import token_counter  # noqa: PLC0415 - a dry run without models counts nothing

    default = Counted(token_counter(None), _DEFAULT, is_exact=False)
    return {
        name: default
        if tier.tokenizer is None
        else Counted(token_counter(tier.tokenizer), str(tier.tokenizer), is_exact=True)
        for name, tier in tiers.items()
    }

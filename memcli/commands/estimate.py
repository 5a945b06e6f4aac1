"""`memcli cost estimate`: what ingesting real transcripts would cost. Everything is done but the calls."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from memcli.commands.ingest import Request, ingest
from memcli.config import Config
from memcli.cost import DAYS_OF_MONTH, MODEL_TIERS, Counted, Estimate, Price, Sum, tier_price, unknown_price
from memcli.embed.counting import token_counter
from memcli.errors import UsageError
from memcli.ingest.report import IngestReport
from memcli.protocols import Progress

_DEFAULT = "the tokenizer of memcli's embedding model"


@dataclass(frozen=True, slots=True)
class Estimated:
    """What was read, and what calls for it would come to."""

    report: IngestReport
    estimate: Estimate

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
            "windows": read.windows_processed + read.windows_skipped_by_rate,
            "windows_skipped_by_rate": read.windows_skipped_by_rate,
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
    tiers = {tier: config.tiers[tier] for tier in wanted}
    for tier, settings in tiers.items():
        # Whoever gives a price need not say yet of which model it is.
        if settings.model is None and tier in prices:
            tiers[tier] = replace(settings, model=prices[tier].model)
    chosen = {tier: settings for tier, settings in tiers.items() if settings.model is not None}
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
    found = Estimate(profile, known, counters(chosen, tokenizers))
    for tier in tiers.keys() - chosen.keys():
        progress.note(f"profile {profile.name}: {tier} is left out, no model is set for it")
    with tempfile.TemporaryDirectory(prefix="memcli-estimate-") as folder:
        scratch = replace(
            config,
            db=Path(folder) / "empty.db",
            extract=tuple(chosen) or ("verbatim",),
            tiers=config.tiers | chosen,
            model=None,
            base_url=None,
        )
        report = ingest(scratch, replace(request, dry_run=True), progress, environ, plan=found.add)
    return Estimated(report, found)


def counters(tiers: Mapping[str, object], tokenizers: Mapping[str, Path]) -> dict[str, Counted]:
    """How each tier's tokens are counted: by the file that the user names, else by the default model's tokenizer."""
    default = Counted(token_counter(None), _DEFAULT, is_exact=False)
    return {
        tier: Counted(token_counter(tokenizers[tier]), str(tokenizers[tier]), is_exact=True)
        if tier in tokenizers
        else default
        for tier in tiers
    }

"""`memcli cost estimate`: what ingesting real transcripts would cost. Everything is done but the calls."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from memcli.commands.ingest import Request, ingest
from memcli.config import MODEL_TIERS, Config, Tier
from memcli.cost import Counted, Estimate, Price, tier_price, unknown_price
from memcli.errors import UsageError
from memcli.forecast import Estimated
from memcli.protocols import Progress

_DEFAULT = "the tokenizer of memcli's embedding model"


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
    if config.max_usd is not None and found.whole.most_usd > config.max_usd:
        progress.note(f"that may be more than max_usd, ${config.max_usd:g}: a run stops there, the next one goes on")
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

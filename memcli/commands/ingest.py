"""`memcli ingest`: transcripts into the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from memcli import wiring
from memcli.commands.database import writable_database
from memcli.config import Config
from memcli.embed.api import ApiModel, SilentEmbedder
from memcli.embed.models import ModelFiles
from memcli.errors import UsageError
from memcli.ingest.feed import Feed
from memcli.ingest.identify import Intake
from memcli.ingest.inputs import CursorIndex, discover
from memcli.ingest.report import IngestReport
from memcli.ingest.run import Ingest, Options
from memcli.protocols import Embedder, Progress, Spending
from memcli.readers import make_reader, parse_map
from memcli.store.db import Store
from memcli.store.files import load_cursors
from memcli.store.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked of one ingest, beside the configuration."""

    paths: Sequence[str]
    format: str | None = None
    map: str | None = None
    since: str | None = None
    limit: int | None = None
    time_budget: float | None = None
    flush: bool = False
    reextract: bool = False
    dry_run: bool = False


def ingest(config: Config, request: Request, progress: Progress, environ: Mapping[str, str]) -> IngestReport:
    """Ingest the transcripts of `request`. What a file is, and what is wrong with the call, is found out first."""
    if not request.paths and not request.reextract:
        raise UsageError("no transcript is named", "name transcripts, folders of them, or - for stdin")
    mapping = parse_map(request.map) if request.map is not None else None
    if mapping and request.format not in {None, "flat"}:
        raise UsageError(f"--map is for the format flat, not {request.format}", "drop one of them")
    format_name = "flat" if mapping else request.format
    if format_name is not None:
        make_reader(format_name, mapping)
    options = _options(config, request, progress)
    tiers = _tiers(config, options, progress)
    found, failed = discover(request.paths)
    with writable_database(config, "ingest", dry_run=request.dry_run) as path:
        spending = Spending()
        # Found before the file is made: a name that means no model must not leave an empty database behind.
        new = None if path.exists() else wiring.new_model(config, environ, spending, dry_run=request.dry_run)
        with Store.create(path) as store:
            model = new or wiring.model_for(store, config, environ, spending, dry_run=request.dry_run)
            if not request.dry_run:
                wiring.adopt_model(store, model, environ)
            run = Ingest(
                store,
                wiring.extractors(tiers, store, with_starter_rules=config.starter_rules, note=progress.note),
                _embedder(model, config, request, progress, environ, spending),
                Vectors(store, model.model_id, config.max_memory, wiring.coding()),
                model.near_threshold if config.near_threshold is None else config.near_threshold,
                replace(options, embed_ahead=_is_static(model)),
                progress,
                spending,
            )
            feed = Feed(
                found,
                CursorIndex(load_cursors(store), found),
                wiring.reader_chooser(format_name, mapping),
                batch_size=config.batch_size,
                next_file_id=store.next_id("files"),
                limit=request.limit,
                agent=config.agent,
                note=progress.note,
                format_name=format_name,
                mapping=request.map,
            )
            feed.files.seen += len(failed)
            feed.files.failed.extend(failed)
            report = run.run(feed)
    report.db, report.dry_run = str(config.db), request.dry_run
    return report


def _is_static(model: ModelFiles | ApiModel) -> bool:
    """Whether embedding leaves a processor to others: a transformer keeps all of them busy, and a provider is paid."""
    return isinstance(model, ModelFiles) and model.recipe.is_static


def _embedder(
    model: ModelFiles | ApiModel,
    config: Config,
    request: Request,
    progress: Progress,
    environ: Mapping[str, str],
    spending: Spending,
) -> Embedder:
    if request.dry_run and isinstance(model, ApiModel):
        progress.note(f"dry run: {model.name} is not called, so near duplicates are neither found nor counted")
        return SilentEmbedder(model)
    return wiring.embedder_of(model, config, environ, spending)


def _options(config: Config, request: Request, progress: Progress) -> Options:
    profile, warning = config.active_profile()
    if warning is not None:
        progress.note(warning)
    intake = Intake(frozenset(config.roles), profile.min_chars, profile.filters, request.since)
    return Options(
        profile,
        config.rate_applies_to,
        intake,
        config.batch_size,
        request.flush,
        request.time_budget,
        request.reextract,
    )


def _tiers(config: Config, options: Options, progress: Progress) -> Sequence[str]:
    """The tiers to run: those that were asked for, else the profile's. Model tiers need a provider."""
    wanted = config.extract or options.profile.tiers
    absent = [tier for tier in wanted if tier not in wiring.BUILT_TIERS]
    if config.extract and absent:
        raise UsageError(
            f"the tier {absent[0]} is not available: no model provider is configured",
            f"available: {', '.join(wiring.BUILT_TIERS)}",
        )
    if absent:
        progress.note(
            f"profile {options.profile.name}: {' and '.join(absent)} left out, no model provider is configured"
        )
    return [tier for tier in wanted if tier in wiring.BUILT_TIERS]

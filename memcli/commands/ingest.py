"""`memcli ingest`: transcripts into the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from memcli import wiring
from memcli.commands.database import writable_database
from memcli.config import MODEL_TIERS, Config, Profile
from memcli.embed.models import ModelFiles
from memcli.errors import UsageError
from memcli.ingest.feed import Feed
from memcli.ingest.identify import Intake
from memcli.ingest.inputs import CursorIndex, discover
from memcli.ingest.report import IngestReport
from memcli.ingest.run import Ingest, Options
from memcli.model import PlannedCall
from memcli.protocols import Progress, Spending
from memcli.readers import make_reader, parse_map
from memcli.redact.names import Names
from memcli.store.db import Store
from memcli.store.files import load_cursors
from memcli.store.names import names_key
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


def ingest(
    config: Config,
    request: Request,
    progress: Progress,
    environ: Mapping[str, str],
    plan: Callable[[PlannedCall], None] = lambda _: None,
) -> IngestReport:
    """Ingest the transcripts of `request`. What a file is, and what is wrong with the call, is found out first.

    A dry run tells `plan` of every call of a model that it leaves out.
    """
    if not request.paths and not request.reextract:
        raise UsageError("no transcript is named", "name transcripts, folders of them, or - for stdin")
    format_name, mapping = _format(request)
    options = _options(config, request, progress)
    tiers = _tiers(config, options, progress)
    models = wiring.model_tiers(tiers, config, options.profile, environ, progress.note, dry_run=request.dry_run)
    found, failed = discover(request.paths)
    with writable_database(config, "ingest", dry_run=request.dry_run) as path:
        spending = Spending()
        # Found before the file is made: a name that means no model must not leave an empty database behind.
        new = None if path.exists() else wiring.new_model(config, environ, spending, dry_run=request.dry_run)
        with Store.create(path) as store:
            model = new or wiring.model_for(store, config, environ, spending, dry_run=request.dry_run)
            if not request.dry_run:
                wiring.adopt_model(store, model, environ)
            names = Names(names_key(store), redacts=config.redact)
            options = replace(
                options, intake=replace(options.intake, names=names), embed_ahead=_is_static(model) and not models
            )
            run = Ingest(
                store,
                wiring.extractors(tiers, store, with_starter_rules=config.starter_rules, note=progress.note),
                wiring.writing_embedder(model, config, environ, spending, progress.note, dry_run=request.dry_run),
                Vectors(store, model.model_id, config.max_memory, wiring.coding()),
                model.near_threshold if config.near_threshold is None else config.near_threshold,
                options,
                progress,
                spending,
                wiring.asking(models, store, config, progress.note, plan if request.dry_run else None),
            )
            feed = Feed(
                found,
                CursorIndex(load_cursors(store), found, names),
                wiring.reader_chooser(format_name, mapping),
                batch_size=config.batch_size,
                next_file_id=store.next_id("files"),
                limit=request.limit,
                agent=config.agent,
                note=progress.note,
                format_name=format_name,
                mapping=request.map,
                names=names,
            )
            feed.files.seen += len(failed)
            feed.files.failed.extend((names.of_path(path), why) for path, why in failed)
            report = run.run(feed)
    report.db, report.dry_run = str(config.db), request.dry_run
    return report


def _format(request: Request) -> tuple[str | None, dict[str, str] | None]:
    """The format that was asked for, and the field names of a flat one."""
    mapping = parse_map(request.map) if request.map is not None else None
    if mapping and request.format not in {None, "flat"}:
        raise UsageError(f"--map is for the format flat, not {request.format}", "drop one of them")
    format_name = "flat" if mapping else request.format
    if format_name is not None:
        make_reader(format_name, mapping)
    return format_name, mapping


def _is_static(model: wiring.Model) -> bool:
    """Whether embedding leaves a processor to others: a transformer keeps all of them busy, and a provider is paid."""
    return isinstance(model, ModelFiles) and model.recipe.is_static


def _options(config: Config, request: Request, progress: Progress) -> Options:
    profile, warning = config.active_profile()
    if warning is not None:
        progress.note(warning)
    asks_models = bool({*MODEL_TIERS} & {*wiring.available_tiers(config)} & {*_wanted(config, profile)})
    intake = Intake(
        frozenset(config.roles),
        profile.min_chars,
        profile.filters,
        request.since,
        told=asks_models,
        redact=config.redact,
    )
    return Options(
        profile,
        config.rate_applies_to,
        intake,
        config.batch_size,
        request.flush,
        request.time_budget,
        request.reextract,
    )


def _wanted(config: Config, profile: Profile) -> Sequence[str]:
    return config.extract or profile.tiers


def _tiers(config: Config, options: Options, progress: Progress) -> Sequence[str]:
    """The tiers to run: those that were asked for, else the profile's. Model tiers need a model."""
    wanted, available = _wanted(config, options.profile), wiring.available_tiers(config)
    absent = [tier for tier in wanted if tier not in available]
    if config.extract and absent:
        raise UsageError(
            f"the tier {absent[0]} is not available: no model is configured for it",
            f"set model in [tiers.{absent[0]}] of memcli.toml, or choose among: {', '.join(available)}",
        )
    if absent:
        progress.note(f"profile {options.profile.name}: {' and '.join(absent)} left out, no model is configured")
    return [tier for tier in wanted if tier in available]

"""`memcli reindex`: the database moves to another embedding model."""

from __future__ import annotations

from collections.abc import Mapping

from memcli import wiring
from memcli.commands.database import writable_database
from memcli.config import Config
from memcli.embed.api import PREFIX, ApiModel, SilentEmbedder
from memcli.embed.installed import resolve
from memcli.embed.models import keep_model
from memcli.errors import NoDatabaseError
from memcli.maintain.reindex import Reindex, ReindexReport, Target
from memcli.protocols import Progress, Spending
from memcli.store.db import Store
from memcli.store.vectors import Vectors


def reindex(
    config: Config, name: str, progress: Progress, environ: Mapping[str, str], *, dry_run: bool
) -> ReindexReport:
    """Embed all memories with the model `name`, then switch to it. In a dry run no provider is called.

    Raises:
        NoDatabaseError: there is no database.
        UsageError: there is no such model.
        ProviderError: the provider fails; what was embedded is kept.
        LockedError: another run is at work.
    """
    if not config.db.exists():
        raise NoDatabaseError(f"no database at {config.db}", "make one with: memcli ingest PATH")
    store_dir = wiring.models_dir(environ)
    files = None if name.startswith(PREFIX) else resolve(name, store_dir)
    with writable_database(config, "reindex", dry_run=dry_run) as path, Store.create(path) as store:
        spending = Spending()
        if files is None:
            model = _provider(store, config, name, environ, spending, dry_run=dry_run)
            target = Target(name, wiring.provider_meta(model), spending)
            is_silent = dry_run and model != wiring.provider_of(store)
            embedder = SilentEmbedder(model) if is_silent else wiring.embedder_of(model, config, environ, spending)
        else:
            if not dry_run:
                keep_model(files, store_dir)
            is_silent, target = False, Target(files.name)
            embedder = wiring.embedder_of(files, config, environ)
        if is_silent:
            progress.note(f"dry run: {name} is not called, so its answers are neither checked nor counted")
        vectors = Vectors(store, embedder.model_id, config.max_memory, wiring.coding())
        report = Reindex(store, embedder, target, vectors, config.batch_size, progress).run()
    report.db, report.dry_run = str(config.db), dry_run
    if is_silent:
        report.model_id = None
    return report


def _provider(
    store: Store, config: Config, name: str, environ: Mapping[str, str], spending: Spending, *, dry_run: bool
) -> ApiModel:
    present = wiring.provider_of(store)
    if present is not None and present.name == name:
        return present
    model = wiring.new_provider(name.removeprefix(PREFIX), config, environ, spending, dry_run=dry_run)
    if not dry_run:
        wiring.remember_url(model.base_url, environ)
    return model

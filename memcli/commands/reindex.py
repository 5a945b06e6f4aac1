"""`memcli reindex`: the database moves to another embedding model."""

from __future__ import annotations

from collections.abc import Mapping

from memcli import wiring
from memcli.commands.database import writable_database
from memcli.config import Config
from memcli.embed.installed import resolve
from memcli.embed.models import keep_model
from memcli.errors import NoDatabaseError
from memcli.maintain.reindex import Reindex, ReindexReport
from memcli.protocols import Progress
from memcli.store.db import Store
from memcli.store.vectors import Vectors


def reindex(
    config: Config, name: str, progress: Progress, environ: Mapping[str, str], *, dry_run: bool
) -> ReindexReport:
    """Embed all memories with the model `name`, then switch to it.

    Raises:
        NoDatabaseError: there is no database.
        UsageError: there is no such model.
        LockedError: another run is at work.
    """
    if not config.db.exists():
        raise NoDatabaseError(f"no database at {config.db}", "make one with: memcli ingest PATH")
    store_dir = wiring.models_dir(environ)
    files = resolve(name, store_dir)
    with writable_database(config, "reindex", dry_run=dry_run) as path, Store.create(path) as store:
        if not dry_run:
            keep_model(files, store_dir)
        embedder = wiring.LazyEmbedder(files, config.embed_batch_size)
        vectors = Vectors(store, files.model_id, config.max_memory, wiring.coding())
        report = Reindex(store, embedder, files.name, vectors, config.batch_size, progress).run()
    report.db, report.dry_run = str(config.db), dry_run
    return report

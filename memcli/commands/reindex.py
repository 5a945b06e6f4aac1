"""`memcli reindex`: the index is looked after, compressed, or made anew with another embedding model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from memcli import wiring
from memcli.bench.child import run_python
from memcli.commands.database import writable_database
from memcli.config import Config, data_dir
from memcli.embed.api import PREFIX, ApiModel, SilentEmbedder
from memcli.embed.carried import CarriedEmbedder
from memcli.embed.compressed import PCA, CompressedEmbedder, CompressedModel, checked_spec
from memcli.embed.installed import resolve
from memcli.embed.models import ModelFiles, keep_model
from memcli.errors import InterruptedRunError, MemcliError, UsageError
from memcli.maintain.care import Care, CareReport, CheckReport
from memcli.maintain.care import check as run_check
from memcli.maintain.compress import CompressionReport, compare, compression, stored_in, to_row
from memcli.maintain.reindex import Reindex, ReindexReport, Target
from memcli.protocols import Embedder, Progress, Spending
from memcli.store import reindex as rows
from memcli.store.db import Store, require_database
from memcli.store.reindex import index_size
from memcli.store.segments import give_back
from memcli.store.vectors import Vectors

_CACHE_BYTES = 256 << 20
# Of how many new texts the drift is measured, and from which loss on a basis is worth fitting anew.
_DRIFT_TEXTS, _DRIFT = 512, 0.02


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
    store_dir = wiring.models_dir(environ)
    files = None if name.startswith(PREFIX) else resolve(name, store_dir)
    with _writing(config, dry_run=dry_run) as store:
        spending = Spending()
        if files is None:
            model = _provider(store, config, name, environ, spending, dry_run=dry_run)
            target = Target(name, wiring.provider_meta(model), spending)
            is_silent = dry_run and model != wiring.provider_of(store)
            embedder = (
                SilentEmbedder(model)
                if is_silent
                else wiring.embedder_of(model, config, environ, spending, progress.note)
            )
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


def compress(
    config: Config, spec: str, progress: Progress, environ: Mapping[str, str], *, dry_run: bool
) -> ReindexReport:
    """Compress the vectors as `spec` says; `none` embeds the texts again to have them whole.

    Raises:
        NoDatabaseError: there is no database.
        UsageError: there is no such compression, there are no vectors, or a PCA of compressed ones is asked for.
    """
    with _writing(config, dry_run=dry_run) as store:
        model_id, spending = store.meta("model_id"), Spending()
        if model_id is None:
            raise UsageError(f"{config.db} has no vectors yet", "ingest something first: memcli ingest PATH")
        base = wiring.base_model(store, config, environ)
        checked_spec(spec, base.dim)
        present = rows.compression(store, model_id)
        provider = wiring.provider_meta(base) if isinstance(base, ApiModel) else None
        if spec == ("none" if present is None else present.spec):
            name = base.name if present is None else f"{base.name} ({spec})"
            return ReindexReport(str(config.db), name, model_id, model_id, dry_run=dry_run)
        if dry_run and present is not None and isinstance(base, ApiModel):
            raise UsageError(f"{base.name} would have to be called for that", "leave out --dry-run")
        embedder = wiring.embedder_of(base, config, environ, spending, progress.note)
        target = Target(base.name, provider, spending)
        old = Vectors(store, model_id, min(config.max_memory, _CACHE_BYTES), wiring.coding())
        rss = None if dry_run else _search_rss(config.db, environ, base)
        if spec != "none":
            embedder, target = _compressing(store, config, (base, embedder), spec, old, target)
        vectors = Vectors(store, embedder.model_id, config.max_memory, wiring.coding())
        report = Reindex(store, embedder, target, vectors, config.batch_size, progress).run()
        if not give_back(store):
            progress.note("the space that the old vectors took could not be given back now; later runs fill it")
        if report.compression is not None:
            report.compression.file_after = rows.file_bytes(store)
            report.compression.rss_before = rss
    if report.compression is not None and not dry_run:
        report.compression.rss_after = _search_rss(config.db, environ, base)
    report.db, report.dry_run = str(config.db), dry_run
    return report


def _compressing(
    store: Store, config: Config, base: tuple[ModelFiles | ApiModel, Embedder], spec: str, old: Vectors, target: Target
) -> tuple[Embedder, Target]:
    """The embedder that compresses the vectors that there are, and what to move to."""
    model, embedder = base
    is_whole = store.meta("model_id") == model.model_id
    begun = rows.begun_compression(store, model.model_id, spec)
    if begun is not None and is_whole:
        found = wiring.compression_of(begun, model.dim)
    elif spec.startswith(PCA) and not is_whole:
        raise UsageError(
            "a basis is fitted to vectors that are not compressed", "run this first: memcli reindex --compress none"
        )
    elif not index_size(store, old_id := str(store.meta("model_id"))).vectors:
        raise UsageError(f"{store.path} has no vectors of {old_id}", "ingest something first: memcli ingest PATH")
    else:
        found = compression(old, model.model_id, spec)

    def measure() -> CompressionReport:
        new = Vectors(store, found.model_id, min(config.max_memory, _CACHE_BYTES), wiring.coding())
        return compare(store, old, new, str(store.meta("model_id")), found, model.dim, is_whole=is_whole)

    moved = replace(target, name=f"{model.name} ({spec})", compression=to_row(found, model.dim), measure=measure)
    if not is_whole:
        return CompressedEmbedder(embedder, found), moved
    carried = CarriedEmbedder(embedder, stored_in(store, old))
    return CompressedEmbedder(carried, found), replace(moved, carried=lambda: carried.carried)


def care(config: Config, progress: Progress, environ: Mapping[str, str], *, dry_run: bool) -> CareReport:
    """Compact the index, take out of it what is of no memory, and put in what it lacks.

    Raises:
        NoDatabaseError: there is no database.
        LockedError: another run is at work.
    """
    with _writing(config, dry_run=dry_run) as store:
        model = wiring.model_of(store, config, environ)
        embedder = wiring.embedder_of(model, config, environ)
        vectors = Vectors(store, model.model_id, config.max_memory, wiring.coding())
        report = Care(store, embedder, vectors, progress).run()
    report.db, report.dry_run = str(config.db), dry_run
    return report


def check(config: Config, environ: Mapping[str, str]) -> CheckReport:
    """Verify the index as of the last commit, and change nothing: a run may be at work, the file may be read-only.

    Raises:
        NoDatabaseError: there is no database.
    """
    with Store.open(config.db) as store, store.snapshot():
        model = wiring.model_of(store, config, environ)

        def drift() -> tuple[float, float] | None:
            if not isinstance(model, CompressedModel) or model.compression.basis is None:
                return None
            texts = rows.texts_after(store, model.compression.last_memory_id, _DRIFT_TEXTS)
            if not texts or isinstance(model.base, ApiModel):
                return None
            found = wiring.embedder_of(model.base, config, environ).embed(texts)
            return model.compression.kept(found), model.compression.energy

        vectors = Vectors(store, model.model_id, config.max_memory, wiring.coding())
        report = run_check(store, vectors, store.meta("model_id"), drift)
    if report.kept is not None and report.kept < (report.kept_when_fitted or 0) - _DRIFT:
        report.advice.append(
            "new texts fit the basis worse: fit another with memcli reindex --compress none, then --compress pca:DIMS"
        )
    report.db = str(config.db)
    return report


@contextmanager
def _writing(config: Config, *, dry_run: bool) -> Iterator[Store]:
    require_database(config.db)
    with writable_database(config, "reindex", dry_run=dry_run) as path, Store.create(path) as store:
        yield store


def _search_rss(db: Path, environ: Mapping[str, str], base: ModelFiles | ApiModel) -> int | None:
    """The largest memory of a process that searches, in bytes; None for a model that somebody would charge for.

    None, too, where it cannot be measured, as for want of memory: nothing but a line of the report depends on it.
    """
    if isinstance(base, ApiModel):
        return None
    query = ("-m", "memcli", "search", "what was decided", "--db", str(db.absolute()), "--json", "--no-cache")
    with tempfile.TemporaryDirectory(prefix="memcli-search-") as folder:
        try:
            return int(run_python(query, Path(folder), data_dir(environ), quiet=True).peak_rss_mb * 1e6)
        except InterruptedRunError:
            raise
        except (MemcliError, OSError):
            return None


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

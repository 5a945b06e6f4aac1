"""`memcli check`: the database is verified, and what can be made again is made again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from memcli import wiring
from memcli.commands.database import draft_prefix, writable_database
from memcli.config import Config
from memcli.embed.models import ModelFiles, faults
from memcli.errors import DamagedError, MemcliError
from memcli.maintain.check import CheckReport
from memcli.maintain.check import check as run_check
from memcli.maintain.check_repair import NeedsRebuildError, RepairReport
from memcli.maintain.check_repair import repair as mend
from memcli.protocols import Progress
from memcli.store.check import Finding
from memcli.store.db import Store
from memcli.store.repair import UnreadableError, rebuild
from memcli.store.vectors import Vectors


def check(config: Config, progress: Progress, environ: Mapping[str, str]) -> CheckReport:
    """Verify the database and its embedding model, and change nothing.

    Raises:
        NoDatabaseError: there is no database.
        MismatchError: it is none of memcli, or one of another schema version.
    """
    report = CheckReport(str(config.db))
    try:
        with Store.open(config.db) as store:
            vectors = _vectors(store, report)
            run_check(store, vectors, lambda: _model(store, config, environ), progress, report)
    except DamagedError as error:
        report.add(Finding("", None, error.message, error.hint))
    return report


def repair(config: Config, progress: Progress, environ: Mapping[str, str], *, dry_run: bool) -> RepairReport:
    """Make again what is derived: indexes, keywords, tags, caches, vectors. Nothing else is written.

    Raises:
        NoDatabaseError: there is no database.
        LockedError: another run is at work.
        MismatchError: it is none of memcli, or one of another schema version.
        DamagedError: it is too damaged to be opened.
    """
    with Store.open(config.db):
        pass
    with writable_database(config, "check --repair", dry_run=dry_run) as path:
        at_work = replace(config, db=path)
        before = check(at_work, progress, environ)
        report = RepairReport(str(config.db), before, before, dry_run=dry_run)
        if before.faults:
            if before.has_broken_pages:
                _rebuild(path, report)
            try:
                _mend(at_work, progress, environ, report)
            except NeedsRebuildError:
                _rebuild(path, report)
                _mend(at_work, progress, environ, report)
            report.after = check(at_work, progress, environ)
    report.after.db = str(config.db)
    return report


def _mend(config: Config, progress: Progress, environ: Mapping[str, str], report: RepairReport) -> None:
    with Store.create(config.db) as store:
        vectors = _vectors(store, report.before)
        embedder = None
        if not any(_model(store, config, environ)):
            model = wiring.model_of(store, config, environ)
            is_free = isinstance(wiring.base_model(store, config, environ), ModelFiles)
            # A dry run calls no provider.
            embedder = None if report.dry_run and not is_free else partial(wiring.embedder_of, model, config, environ)
        mend(store, vectors, embedder, progress, report)


def _rebuild(path: Path, report: RepairReport) -> None:
    """Put the file together anew, unless rows are damaged that only an old index could still tell something of."""
    if report.before.has_lost_rows:
        report.done.append("pages and indexes were left as they are: rows are damaged that cannot be made again")
        return
    with tempfile.TemporaryDirectory(prefix=draft_prefix(path), dir=path.parent) as folder:
        try:
            _, lost = rebuild(path, Path(folder) / "rebuilt.db")
        except UnreadableError as error:
            report.done.append(f"pages and indexes were left as they are: {error} cannot be read to its end")
            return
    report.done.append("all pages and indexes were written anew")
    if lost:
        report.done.append(f"{lost:,} segments could not be read: their vectors are lost")


def _vectors(store: Store, report: CheckReport) -> Vectors | None:
    model_id = store.meta("model_id")
    if not isinstance(model_id, str):
        return None
    report.model_id = model_id
    return Vectors(store, model_id, 0, wiring.coding())


def _model(store: Store, config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """What is wrong with the files of the embedding model, and with its copy in the data folder."""
    try:
        if wiring.base_model_id(store) is None:
            return
        model = wiring.base_model(store, config, environ)
        wiring.model_of(store, config, environ)
    except MemcliError as error:
        yield Finding("model", None, error.message, error.hint)
        return
    if not isinstance(model, ModelFiles):
        return
    copy = wiring.models_dir(environ) / model.model_id
    kept = [replace(model, folder=copy)] if copy.is_dir() and copy != model.folder else []
    for files in (model, *kept):
        for wrong in faults(files):
            yield Finding("model", str(files.folder), wrong, _MODEL)


_MODEL = "delete the folder if it is in the data folder, then pull or import the model again; else reinstall memcli"

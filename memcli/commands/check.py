"""`memcli check`: the database is verified, and what can be made again is made again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memcli import wiring
from memcli.config import Config
from memcli.embed.models import ModelFiles, compute_model_id
from memcli.errors import DamagedError, MemcliError
from memcli.maintain.check import CheckReport
from memcli.maintain.check import check as run_check
from memcli.protocols import Progress
from memcli.store.check import Finding
from memcli.store.db import Store
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
    for folder in dict.fromkeys((model.folder, copy)):
        if folder is copy and not folder.is_dir():
            continue
        try:
            found = compute_model_id(folder)
        except DamagedError as error:
            yield Finding("model", str(folder), error.message, error.hint)
            continue
        if found != model.model_id:
            yield Finding("model", str(folder), f"{folder}: its content is not that of model {model.model_id}", _MODEL)


_MODEL = "delete the folder if it is in the data folder, then pull or import the model again; else reinstall memcli"

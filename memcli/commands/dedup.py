"""`memcli dedup`: what is stored is deduplicated against itself, explained, decided by the user, and undone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memcli import wiring
from memcli.bench.dedup import Calibration, read_pairs
from memcli.bench.dedup import calibrate as find_threshold
from memcli.commands.database import writable_database
from memcli.config import Config
from memcli.dedup.gates import GATE_VERSION
from memcli.embed.api import ApiModel
from memcli.embed.installed import chosen_model, resolve
from memcli.embed.models import ModelFiles, keep_model, write_calibration
from memcli.errors import UsageError
from memcli.maintain import review as review_case
from memcli.maintain.dedup import Dedup, Options
from memcli.maintain.explain import Explanation
from memcli.maintain.explain import explain as explain_memory
from memcli.maintain.report import DedupReport
from memcli.maintain.second import SecondOpinion
from memcli.maintain.undo import UndoReport, undo_merge, undo_run
from memcli.protocols import Progress
from memcli.stats import check_agent
from memcli.store.db import Store, require_database
from memcli.store.dedup import Scope
from memcli.store.memories import Evidence
from memcli.store.metrics import agent_names
from memcli.store.review import Pair, open_pairs
from memcli.store.vectors import Vectors

COMMAND = "dedup"


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked of one dedup, beside the configuration."""

    agent: str | None = None
    threshold: float | None = None
    across_types: bool = False
    across_agents: bool = False
    rethreshold: bool = False
    verify_model: str | None = None
    dry_run: bool = False


def dedup(config: Config, request: Request, progress: Progress, environ: Mapping[str, str]) -> DedupReport:
    """Deduplicate what is stored against itself.

    Raises:
        NoDatabaseError: there is no database.
        UsageError: there is no such agent, or no such model to verify with.
    """
    with _writing(config, dry_run=request.dry_run) as store:
        _check_agent(store, request.agent)
        files = wiring.model_of(store, config, environ)
        options = Options(
            _threshold(config, files) if request.threshold is None else request.threshold,
            config.batch_size,
            Scope(request.agent, request.across_types, request.across_agents),
            request.rethreshold,
        )
        if not isinstance(files, ModelFiles | ApiModel):
            progress.note(f"the vectors are compressed ({files.compression.spec}): their cosines are those that count")
        vectors = Vectors(store, files.model_id, config.max_memory, wiring.coding())
        base_id = wiring.base_model_id(store) or files.model_id
        second = _second_opinion(config, request.verify_model, base_id, options.threshold, environ)
        report = Dedup(store, vectors, files.model_id, options, progress, second).run()
    report.db, report.dry_run = str(config.db), request.dry_run
    return report


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration of a model; `path` is where it was written, None for a dry run."""

    model: str
    before: float
    found: Calibration
    path: Path | None

    def to_json(self) -> dict[str, object]:
        """The calibration as one JSON document."""
        document = {"model": self.model, "path": None if self.path is None else str(self.path), "before": self.before}
        return document | self.found.to_json()


def calibrate(config: Config, pairs: Path, environ: Mapping[str, str], *, dry_run: bool) -> Calibrated:
    """Choose the near threshold of the database's model (without one, of the model of new databases) by labelled pairs.

    It is kept with the copy of the model in the data folder, so every database with this model follows it.

    Raises:
        UsageError: the pairs cannot be read, or the data folder cannot be written.
    """
    labelled = read_pairs(pairs)
    folder = wiring.models_dir(environ)
    if config.db.exists():
        with Store.open(config.db) as store:
            files = wiring.base_model(store, config, environ)
    else:
        files = chosen_model(folder)
    if isinstance(files, ApiModel):
        raise UsageError(
            f"{files.name} is a provider's model: nothing of it is kept here", "set near_threshold instead"
        )
    found = find_threshold(labelled, wiring.LazyEmbedder(files, config.embed_batch_size))
    path = None if dry_run else write_calibration(keep_model(files, folder), found.to_json())
    return Calibrated(files.name, files.near_threshold, found, path)


def review(config: Config, agent: str | None) -> list[Pair]:
    """The pairs, of an agent or of all, whose evidence failed and that the user has not decided, strongest first."""
    with Store.open(config.db) as store:
        _check_agent(store, agent)
        return open_pairs(store, agent)


def accept(config: Config, review_id: int, environ: Mapping[str, str], *, dry_run: bool) -> review_case.Decision:
    """Merge a pair, as the user says that it is the same."""
    with _writing(config, dry_run=dry_run) as store:
        files = wiring.model_of(store, config, environ)
        vectors = Vectors(store, files.model_id, config.max_memory, wiring.coding())
        evidence = Evidence(files.model_id, _threshold(config, files), GATE_VERSION)
        decision = review_case.accept(store, vectors, evidence, review_id)
    decision.db, decision.dry_run = str(config.db), dry_run
    return decision


def reject(config: Config, review_id: int, *, dry_run: bool) -> review_case.Decision:
    """Keep a pair apart, for good."""
    with _writing(config, dry_run=dry_run) as store:
        decision = review_case.reject(store, review_id)
    decision.db, decision.dry_run = str(config.db), dry_run
    return decision


def explain(config: Config, memory_id: int, environ: Mapping[str, str]) -> Explanation:
    """The star of a memory, with the evidence, and what is near it."""
    with Store.open(config.db) as store:
        files = wiring.model_of(store, config, environ)
        vectors = Vectors(store, files.model_id, config.max_memory, wiring.coding())
        return explain_memory(store, vectors, _threshold(config, files), memory_id)


def undo(config: Config, *, run_id: int | None, merge_id: int | None, dry_run: bool) -> UndoReport:
    """Undo the merges of a run, or a single one."""
    with _writing(config, dry_run=dry_run) as store:
        vectors = Vectors(store, str(store.meta("model_id")), config.max_memory, wiring.coding())
        if merge_id is not None:
            report = undo_merge(store, vectors, merge_id)
        else:
            report = undo_run(store, vectors, int(run_id or 0))
    report.db, report.dry_run = str(config.db), dry_run
    return report


def _second_opinion(
    config: Config, name: str | None, model_id: str, threshold: float, environ: Mapping[str, str]
) -> SecondOpinion | None:
    if name is None:
        return None
    second = resolve(name, wiring.models_dir(environ))
    if second.model_id == model_id:
        raise UsageError(
            f"{second.name} is the model of the database: it has no second opinion",
            "name a stronger one; memcli model list",
        )
    return SecondOpinion(wiring.LazyEmbedder(second, config.embed_batch_size), second.near_threshold, threshold)


def _threshold(config: Config, files: wiring.Model) -> float:
    return files.near_threshold if config.near_threshold is None else config.near_threshold


@contextmanager
def _writing(config: Config, *, dry_run: bool) -> Iterator[Store]:
    require_database(config.db)
    with writable_database(config, COMMAND, dry_run=dry_run) as path, Store.create(path) as store:
        yield store


def _check_agent(store: Store, agent: str | None) -> None:
    if agent is not None:
        check_agent(agent, agent_names(store))

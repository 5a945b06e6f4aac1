"""`memcli dedup`: what is stored is deduplicated against itself, explained, decided by the user, and undone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from memcli import wiring
from memcli.commands.database import writable_database
from memcli.config import Config
from memcli.errors import NoDatabaseError, UsageError
from memcli.maintain.dedup import Dedup, Options
from memcli.maintain.report import DedupReport
from memcli.protocols import Progress
from memcli.store.db import Store
from memcli.store.dedup import Scope
from memcli.store.metrics import agent_names
from memcli.store.vectors import Vectors

COMMAND = "dedup"


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked of one dedup, beside the configuration."""

    threshold: float | None = None
    across_types: bool = False
    across_agents: bool = False
    rethreshold: bool = False
    dry_run: bool = False


def dedup(config: Config, request: Request, progress: Progress, environ: Mapping[str, str]) -> DedupReport:
    """Deduplicate what is stored against itself.

    Raises:
        NoDatabaseError: there is no database.
        UsageError: there is no such agent.
    """
    with _writing(config, dry_run=request.dry_run) as store:
        if config.agent is not None:
            _check_agent(config.agent, agent_names(store))
        files = wiring.model_of(store, environ)
        threshold = request.threshold
        if threshold is None:
            threshold = files.near_threshold if config.near_threshold is None else config.near_threshold
        options = Options(
            threshold,
            config.batch_size,
            Scope(config.agent, request.across_types, request.across_agents),
            request.rethreshold,
        )
        vectors = Vectors(store, files.model_id, config.max_memory)
        report = Dedup(store, vectors, files.model_id, options, progress).run()
    report.db, report.dry_run = str(config.db), request.dry_run
    return report


@contextmanager
def _writing(config: Config, *, dry_run: bool) -> Iterator[Store]:
    if not config.db.exists():
        raise NoDatabaseError(f"no database at {config.db}", "make one with: memcli ingest PATH")
    with writable_database(config, COMMAND, dry_run=dry_run) as path, Store.create(path) as store:
        yield store


def _check_agent(agent: str, known: list[str]) -> None:
    if agent not in known:
        shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")  # noqa: PLR2004 - enough for a hint
        raise UsageError(f"no such agent: {agent}", f"agents: {shown}" if known else "the database has no memories")

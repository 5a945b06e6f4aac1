"""`memcli rules test` and `memcli rules coverage`: what rules do on real messages, before and after they are added."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from memcli import wiring
from memcli.commands.ingest import Request, ingest
from memcli.commands.rules import checked_rule
from memcli.config import Config
from memcli.extract.rules import Rule, RuleExtractor, compile_rule, starter_rules
from memcli.protocols import Progress
from memcli.rulebook import Coverage, StoredMessage, Trial, cover, try_rule
from memcli.stats import check_agent
from memcli.store.db import Store
from memcli.store.metrics import agent_names
from memcli.store.rules import kept_message_count, kept_messages

_STEP = 1000


def trial(
    config: Config,
    values: Mapping[str, object],
    path: str | None,
    first: int,
    progress: Progress,
    environ: Mapping[str, str],
) -> Trial:
    """Try a rule on the stored messages or, with `path`, on a transcript as `ingest` would read it.

    Raises:
        UsageError: the pattern is refused, or `path` is not there.
    """
    compiled = compile_rule(checked_rule(values))
    source = _stored(config.db, progress) if path is None else _read(config, path, compiled.rule, progress, environ)
    with source as messages:
        return try_rule(compiled, str(config.db) if path is None else path, messages, first)


def coverage(config: Config, agent: str | None, progress: Progress) -> Coverage:
    """Run the active rules over the stored messages, of one agent or of all, and count.

    Raises:
        UsageError: no message and no rule is of that agent.
    """
    with Store.open(config.db) as store:
        rules, problems = wiring.rules_of(store, with_starter_rules=config.starter_rules)
        if agent is not None:
            check_agent(agent, sorted({*agent_names(store), *(rule.agent for rule in rules if rule.agent is not None)}))
        extractor = RuleExtractor([rule for rule in rules if agent is None or rule.is_for(agent)])
        extractor.problems[:0] = problems
        messages = (message for message in _messages(store, progress) if agent is None or message[1] == agent)
        return cover(extractor, messages, {rule.id for rule in starter_rules()})


@contextmanager
def _stored(db: Path, progress: Progress) -> Iterator[Iterator[StoredMessage]]:
    with Store.open(db) as store:
        yield _messages(store, progress)


def _messages(store: Store, progress: Progress) -> Iterator[StoredMessage]:
    progress.phase("trying", kept_message_count(store))
    for number, message in enumerate(kept_messages(store), 1):
        yield message
        if number % _STEP == 0:
            progress.advance(0, _STEP)


@contextmanager
def _read(
    config: Config, path: str, rule: Rule, progress: Progress, environ: Mapping[str, str]
) -> Iterator[Iterator[StoredMessage]]:
    """The messages of a transcript: ingested into a database that is deleted, by a tier that takes nothing."""
    with tempfile.TemporaryDirectory(prefix="memcli-rules-test-") as folder:
        db = Path(folder) / "messages.db"
        apart = replace(config, db=db, extract=("rules",), starter_rules=False, agent=rule.agent or config.agent)
        report = ingest(apart, Request([path]), progress, {**environ, "MEMCLI_DATA_DIR": folder})
        if report.rejected or report.files.failed:
            progress.note(f"not taken: lines {report.rejected:,}, files {len(report.files.failed):,}")
        with _stored(db, progress) as messages:
            yield messages

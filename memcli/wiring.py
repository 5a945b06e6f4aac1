"""From a Config to concrete parts. Heavy packages are imported here, when a command needs them and not before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from memcli.config import data_dir
from memcli.embed.installed import chosen_model, resolve
from memcli.embed.models import ModelFiles, find_model, keep_model
from memcli.errors import MismatchError
from memcli.extract.rule_files import rule_of
from memcli.extract.rules import Rule, RuleExtractor, starter_rules
from memcli.extract.verbatim import VerbatimExtractor
from memcli.ingest.feed import MAP_STATE
from memcli.model import Cursor, Extraction, Window
from memcli.protocols import Embedder, Extractor, Reader
from memcli.readers import detect, make_reader, parse_map
from memcli.store import rules as rule_rows
from memcli.store.db import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memcli.store.vectors import Coding

BUILT_TIERS = ("rules", "verbatim")


class LazyEmbedder:
    """An embedder that loads its model at the first text: a run that finds nothing new never pays for it."""

    def __init__(self, files: ModelFiles, batch_size: int) -> None:
        self.model_id = files.model_id
        self.dim = files.dim
        self._files = files
        self._batch_size = batch_size
        self._embedder: Embedder | None = None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        return self._loaded().embed(texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        return self._loaded().embed_queries(texts)

    def _loaded(self) -> Embedder:
        if self._embedder is None:
            from memcli.embed.onnx import OnnxEmbedder  # noqa: PLC0415 - onnxruntime and tokenizers take 0.2 s

            self._embedder = OnnxEmbedder(self._files, self._batch_size)
        return self._embedder


class LazyRuleExtractor:
    """The rules tier of a database, which compiles its rules at the first window: thousands of them take a second."""

    tier = RuleExtractor.tier

    def __init__(self, store: Store, *, with_starter_rules: bool, note: Callable[[str], None]) -> None:
        self._store = store
        self._with_starter_rules = with_starter_rules
        self._note = note
        self._extractor: RuleExtractor | None = None

    def version_for(self, agent: str) -> str:
        """See Extractor."""
        return self._compiled().version_for(agent)

    def extract(self, window: Window) -> Extraction:
        """See Extractor."""
        return self._compiled().extract(window)

    def _compiled(self) -> RuleExtractor:
        if self._extractor is None:
            rules, problems = rules_of(self._store, with_starter_rules=self._with_starter_rules)
            self._extractor = RuleExtractor(rules)
            for problem in (*problems, *self._extractor.problems):
                self._note(problem)
        return self._extractor


def coding() -> Coding:
    """How vectors and texts are made ready for the scan."""
    from memcli.dedup.codes import encode  # noqa: PLC0415 - numpy takes 0.1 s
    from memcli.dedup.gates import GATE_VERSION, merge_key  # noqa: PLC0415 - as above
    from memcli.store.vectors import Coding  # noqa: PLC0415 - as above

    return Coding(encode, merge_key, GATE_VERSION)


def models_dir(environ: Mapping[str, str]) -> Path:
    """The folder of installed models and of the copies that databases rely on."""
    return data_dir(environ) / "models"


def model_of(store: Store, environ: Mapping[str, str], wanted: str | None = None) -> ModelFiles:
    """The model a database was made with; for a new one the `wanted` one, else the one that new databases take.

    Raises:
        MismatchError: the database's model is neither in the package nor in the data folder, or is not the wanted one.
        UsageError: there is no wanted model.
    """
    model_id, folder = store.meta("model_id"), models_dir(environ)
    if model_id is None:
        chosen = chosen_model(folder) if wanted is None else resolve(wanted, folder)
        return find_model(chosen.model_id, folder) or chosen
    if wanted is not None and (other := resolve(wanted, folder)).model_id != model_id:
        raise MismatchError(
            f"{store.path} was made with the embedding model {model_id}, not with {other.name} ({other.model_id})",
            f"leave out --model, or move on with: memcli reindex --model {wanted}",
        )
    files = find_model(model_id, folder)
    if files is None:
        raise MismatchError(
            f"{store.path} was made with the embedding model {model_id}, which is not in {folder}",
            f"put the model's files back into {folder / model_id}, or move on with: memcli reindex --model default",
        )
    return files


def adopt_model(store: Store, files: ModelFiles, environ: Mapping[str, str]) -> None:
    """Make `files` the model of a new database, and keep a copy of it: a later default must not break the file."""
    if store.meta("model_id") is not None:
        return
    keep_model(files, models_dir(environ))
    store.set_model(files.model_id)


def extractors(
    tiers: Sequence[str], store: Store, *, with_starter_rules: bool, note: Callable[[str], None]
) -> list[Extractor]:
    """The extractors of the named tiers, cheapest first, whatever order they are named in.

    `note` is told of rules that are left out because they cannot be used.
    """
    made: list[Extractor] = []
    if "rules" in tiers:
        made.append(LazyRuleExtractor(store, with_starter_rules=with_starter_rules, note=note))
    if "verbatim" in tiers:
        made.append(VerbatimExtractor())
    return made


def stored_rules(store: Store) -> tuple[list[Rule], list[str]]:
    """The user's rules in the order they were added, and what is wrong with those that cannot be read."""
    rules: list[Rule] = []
    problems: list[str] = []
    for table in rule_rows.load(store):
        try:
            rules.append(rule_of(table))
        except ValueError as error:
            problems.append(f'rule "{table["name"]}" ({table["id"]}) is left out: {error}')
    return rules, problems


def rules_of(store: Store, *, with_starter_rules: bool) -> tuple[list[Rule], list[str]]:
    """All rules, and what is wrong with those that cannot be read.

    Of equally important ones the first decides, so what is more of the user's own comes first: an agent's rules, those
    for all agents, the built-in ones.
    """
    rules, problems = stored_rules(store)
    rules.sort(key=lambda rule: rule.agent is None)
    if with_starter_rules:
        disabled = rule_rows.disabled_starters(store)
        rules.extend(replace(rule, active=rule.id not in disabled) for rule in starter_rules())
    return rules, problems


def reader_chooser(
    format_name: str | None, mapping: Mapping[str, str] | None
) -> Callable[[Cursor | None, bytes], Reader | None]:
    """How a file's reader is chosen: by the user's word, else by the file's cursor, else by its first bytes."""

    def choose(known: Cursor | None, head: bytes) -> Reader | None:
        if format_name is not None:
            return make_reader(format_name, mapping)
        if known is None:
            return detect(head, mapping)
        return make_reader(known.format, parse_map(known.state[MAP_STATE]) if MAP_STATE in known.state else None)

    return choose

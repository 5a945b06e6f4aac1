"""From a Config to concrete parts. Heavy packages are imported here, when a command needs them and not before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memcli.config import MODEL_TIERS, Config, Profile, data_dir
from memcli.embed.installed import chosen_model, resolve
from memcli.embed.models import ModelFiles, find_model, keep_model
from memcli.errors import DamagedError, MismatchError, UsageError
from memcli.files import make_private_folder, whole_file
from memcli.store import rules as rule_rows
from memcli.store.db import Store
from memcli.store.reindex import CompressionRow
from memcli.store.reindex import compression as compression_row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memcli.cost import Price
    from memcli.embed.api import ApiModel
    from memcli.embed.compressed import CompressedModel, Compression
    from memcli.extract.rules import Rule, RuleExtractor
    from memcli.ingest.asking import Asking
    from memcli.model import Cursor, Extraction, PlannedCall, Window
    from memcli.protocols import Embedder, Extractor, ModelTier, Reader, Spending
    from memcli.store.vectors import Coding

    Model = ModelFiles | ApiModel | CompressedModel
    Note = Callable[[str], None]

_URLS = "provider-urls"


class LazyEmbedder:
    """An embedder that loads its model at the first text: a run that finds nothing new never pays for it."""

    def __init__(self, files: ModelFiles, batch_size: int | None) -> None:
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

    tier = "rules"

    def __init__(self, store: Store, *, with_starter_rules: bool, note: Note) -> None:
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
            from memcli.extract.rules import RuleExtractor  # noqa: PLC0415 - a search needs no rules

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


def model_of(store: Store, config: Config, environ: Mapping[str, str]) -> Model:
    """The model of a database's vectors; for a new one, the one that new databases take.

    Raises:
        MismatchError: the database's model is neither in the package nor in the data folder.
        UsageError: its provider is at an address that this user has never named.
    """
    row = None if store.meta("model_id") is None else compression_row(store, store.meta("model_id"))
    base = base_model(store, config, environ)
    if row is None:
        return base
    from memcli.embed.compressed import CompressedModel  # noqa: PLC0415 - numpy takes 0.1 s

    return CompressedModel(base, compression_of(row, base.dim))


def compression_of(row: CompressionRow, base_dim: int) -> Compression:
    """A stored compression of vectors of length `base_dim`.

    Raises:
        DamagedError: its basis is not that of its id.
    """
    import numpy as np  # noqa: PLC0415 - takes 0.1 s

    from memcli.embed.compressed import Compression  # noqa: PLC0415 - as above

    basis = None
    if row.basis is not None and len(row.basis) == 4 * row.dims * base_dim:
        basis = np.frombuffer(row.basis, "<f4").reshape(row.dims, base_dim)
    found = Compression(row.base_model_id, row.spec, basis, row.energy, row.rows, row.last_memory_id)
    if found.model_id != row.model_id:
        raise DamagedError("the basis that the vectors are compressed with is damaged", "restore a backup")
    return found


def base_model(store: Store, config: Config, environ: Mapping[str, str]) -> ModelFiles | ApiModel:
    """The embedding model behind a database's vectors, whatever is done to these.

    Raises:
        MismatchError: the database's model is neither in the package nor in the data folder.
        UsageError: its provider is at an address that this user has never named.
    """
    model_id, folder = base_model_id(store), models_dir(environ)
    if model_id is None:
        return chosen_model(folder)
    provider = provider_of(store)
    if provider is not None:
        return _trusted(store, provider, config.base_url, environ)
    files = find_model(model_id, folder)
    if files is None:
        raise MismatchError(
            f"{store.path} was made with the embedding model {model_id}, which is not in {folder}",
            f"put the model's files back into {folder / model_id}, or move on with: memcli reindex --model default",
        )
    return files


def base_model_id(store: Store) -> str | None:
    """The id of the embedding model behind a database's vectors, None where it has none yet."""
    model_id = store.meta("model_id")
    row = None if model_id is None else compression_row(store, model_id)
    return model_id if row is None else row.base_model_id


def model_for(store: Store, config: Config, environ: Mapping[str, str], spending: Spending, *, dry_run: bool) -> Model:
    """The model to write with: the database's, for a new one that of the settings. A new provider is asked once.

    Raises:
        MismatchError: the settings name another model than the database has.
        UsageError: no such model, or a base URL for a model that needs none.
    """
    if store.meta("model_id") is None:
        return new_model(config, environ, spending, dry_run=dry_run)
    if config.model is not None:
        _check_same(store, config.model, environ)
    return model_of(store, config, environ)


def new_model(
    config: Config, environ: Mapping[str, str], spending: Spending, *, dry_run: bool
) -> ModelFiles | ApiModel:
    """The model that the settings name for a new database. A provider is asked once; not in a dry run.

    Raises:
        UsageError: no such model, or a base URL for a model that needs none.
        DamagedError: the model that new databases take is not there any more.
        ProviderError: the provider does not answer with a vector.
    """
    wanted = config.model
    if wanted is None:
        return chosen_model(models_dir(environ))
    from memcli.embed.api import PREFIX  # noqa: PLC0415 - few databases have a provider

    if wanted.startswith(PREFIX):
        return new_provider(wanted.removeprefix(PREFIX), config, environ, spending, dry_run=dry_run)
    if config.base_url is not None:
        raise UsageError(f"a base URL is for models of a provider, not for {wanted}", f"as in: {PREFIX}NAME")
    return resolve(wanted, models_dir(environ))


def _check_same(store: Store, wanted: str, environ: Mapping[str, str]) -> None:
    from memcli.embed.api import PREFIX  # noqa: PLC0415 - few databases have a provider

    model_id, is_api = base_model_id(store), wanted.startswith(PREFIX)
    provider = provider_of(store)
    if is_api:
        is_same = provider is not None and provider.name == wanted
    else:
        is_same = resolve(wanted, models_dir(environ)).model_id == model_id
    if not is_same:
        present = model_id if provider is None else provider.name
        raise MismatchError(
            f"{store.path} was made with the embedding model {present}, not with {wanted}",
            f"leave out --model, or move on with: memcli reindex --model {wanted}",
        )


def new_provider(
    name: str, config: Config, environ: Mapping[str, str], spending: Spending, *, dry_run: bool
) -> ApiModel:
    """The model `name` of a provider, without the prefix. It is asked once; in a dry run not, and `dim` is made up.

    Raises:
        UsageError: no name, a bad address, no key, or the extra is not installed.
        ProviderError: the provider does not answer with a vector.
    """
    from memcli.embed.api import PREFIX, ApiModel, ApiOptions, probe  # noqa: PLC0415 - few databases have a provider
    from memcli.provider import OPENAI_URL, checked_url  # noqa: PLC0415 - as above

    url = checked_url(config.base_url or OPENAI_URL)
    if not name:
        raise UsageError(f"{PREFIX} lacks the name of a model", f"as in: {PREFIX}text-embedding-3-small")
    if dry_run:
        return ApiModel(name, 1, url)
    return probe(name, url, environ, ApiOptions(price=config.embed_price), spending)


def embedder_of(
    model: Model, config: Config, environ: Mapping[str, str], spending: Spending | None = None, note: Note | None = None
) -> Embedder:
    """The embedder of a model, which loads nothing before the first text; `note` is told when a provider is slow."""
    if isinstance(model, ModelFiles):
        return LazyEmbedder(model, config.embed_batch_size)
    from memcli.embed.api import ApiEmbedder, ApiModel, ApiOptions  # noqa: PLC0415 - few databases have a provider

    if not isinstance(model, ApiModel):
        from memcli.embed.compressed import CompressedEmbedder  # noqa: PLC0415 - numpy takes 0.1 s

        return CompressedEmbedder(embedder_of(model.base, config, environ, spending, note), model.compression)
    return ApiEmbedder(model, environ, ApiOptions(price=config.embed_price, told=note), spending)


def writing_embedder(
    model: Model,
    config: Config,
    environ: Mapping[str, str],
    spending: Spending,
    note: Note,
    *,
    dry_run: bool,
) -> Embedder:
    """The embedder of a command that adds memories; in a dry run no provider is called, which `note` is told."""
    from memcli.embed.api import ApiModel, SilentEmbedder  # noqa: PLC0415 - few databases have a provider

    if dry_run and isinstance(model, ApiModel):
        note(f"dry run: {model.name} is not called, so near duplicates are neither found nor counted")
        return SilentEmbedder(model)
    return embedder_of(model, config, environ, spending, note)


def provider_of(store: Store) -> ApiModel | None:
    """The provider's model that the database's vectors are of; None where it has none, or has moved on from it."""
    stored = store.meta("provider")
    if stored is None:
        return None
    from memcli.embed.api import ApiModel  # noqa: PLC0415 - few databases have a provider
    from memcli.provider import checked_url  # noqa: PLC0415 - as above

    try:
        found = json.loads(stored)
        model = ApiModel(str(found["model"]), int(found["dim"]), checked_url(found["base_url"]))
    except (ValueError, TypeError, KeyError, AttributeError, UsageError):
        return None
    return model if model.model_id == base_model_id(store) else None


def _trusted(store: Store, model: ApiModel, base_url: str | None, environ: Mapping[str, str]) -> ApiModel:
    from memcli.provider import OPENAI_URL, checked_url  # noqa: PLC0415 - few databases have a provider

    if base_url is not None:
        return replace(model, base_url=checked_url(base_url))
    # Whoever gives a database away must not learn the key and the questions of those who open it.
    if model.base_url not in {OPENAI_URL, *_named_urls(environ)}:
        raise UsageError(
            f"{store.path} gets its embeddings from {model.base_url}, which was never named on this machine",
            f'if you trust it: set base_url = "{model.base_url}" in memcli.toml, or MEMCLI_BASE_URL to it',
        )
    return model


def _named_urls(environ: Mapping[str, str]) -> list[str]:
    """The addresses of providers that this user has made databases with."""
    try:
        return (data_dir(environ) / _URLS).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []


def remember_url(url: str, environ: Mapping[str, str]) -> None:
    """Keep that the user has named this address of a provider.

    Raises:
        UsageError: the data folder cannot be written.
    """
    from memcli.provider import OPENAI_URL  # noqa: PLC0415 - few databases have a provider

    named = _named_urls(environ)
    if url == OPENAI_URL or url in named:
        return
    path = data_dir(environ) / _URLS
    try:
        make_private_folder(path.parent)
        with whole_file(path) as file:
            file.write("".join(f"{each}\n" for each in [*named, url]).encode())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "make the data folder writable") from error


def adopt_model(store: Store, model: Model, environ: Mapping[str, str]) -> None:
    """Make it the model of a new database. Of its files a copy is kept: a later default must not break the file."""
    if store.meta("model_id") is not None:
        return
    from memcli.embed.api import ApiModel  # noqa: PLC0415 - few databases have a provider

    if isinstance(model, ModelFiles):
        keep_model(model, models_dir(environ))
        store.set_model(model.model_id)
    elif isinstance(model, ApiModel):
        remember_url(model.base_url, environ)
        store.set_model(model.model_id, provider_meta(model))


def provider_meta(model: ApiModel) -> str:
    """What a database keeps of its provider's model, for `provider_of` to read; the key is not among it."""
    return json.dumps({"model": model.model, "dim": model.dim, "base_url": model.base_url})


def extractors(tiers: Sequence[str], store: Store, *, with_starter_rules: bool, note: Note) -> list[Extractor]:
    """The extractors of the named tiers, cheapest first, whatever order they are named in.

    `note` is told of rules that are left out because they cannot be used.
    """
    made: list[Extractor] = []
    if "rules" in tiers:
        made.append(LazyRuleExtractor(store, with_starter_rules=with_starter_rules, note=note))
    if "verbatim" in tiers:
        from memcli.extract.verbatim import VerbatimExtractor  # noqa: PLC0415 - a search extracts nothing

        made.append(VerbatimExtractor())
    return made


def available_tiers(config: Config) -> list[str]:
    """The tiers that can run: the free ones, and those with a model."""
    return ["rules", "verbatim", *(name for name in MODEL_TIERS if config.tiers[name].model is not None)]


def price_for(config: Config, tier: str) -> Price | None:
    """What the tier's model costs: what the user says, else the table of prices, None where neither knows."""
    from memcli.cost import tier_price  # noqa: PLC0415 - most runs ask no model

    settings = config.tiers[tier]
    return None if settings.model is None else tier_price(settings)


def model_tiers(
    tiers: Sequence[str], config: Config, profile: Profile, environ: Mapping[str, str], note: Note, *, dry_run: bool
) -> list[ModelTier]:
    """The model tiers among `tiers`, ready to be asked; none of them for anything but a plan in a dry run.

    `note` is told when a provider is slow.

    Raises:
        UsageError: the client is not installed, a key or a price is missing, or a prompt cannot be read.
    """
    made: list[ModelTier] = []
    for name in MODEL_TIERS:
        if name not in tiers:
            continue
        from memcli.extract.llm import LlmOptions, LlmTier  # noqa: PLC0415 - most runs ask no model
        from memcli.extract.prompt import load_prompt  # noqa: PLC0415 - as above

        settings = config.tiers[name]
        prompt = load_prompt(name, settings.prompt, profile.focus)
        tier = LlmTier(settings, prompt, environ, LlmOptions(told=note))
        if not dry_run:
            tier.check()
            _check_price(config, name)
        made.append(tier)
    return made


def _check_price(config: Config, tier: str) -> None:
    is_limited = config.max_usd is not None or config.max_usd_per_month is not None
    if is_limited and price_for(config, tier) is None:
        raise UsageError(
            f"no price is known for {config.tiers[tier].model}, so its calls cannot be kept within max_usd",
            f"set price_in and price_out, dollars per million tokens, in [tiers.{tier}] (0 where it is free)",
        )


def asking(
    tiers: Sequence[ModelTier],
    store: Store,
    config: Config,
    note: Note,
    plan: Callable[[PlannedCall], None] | None = None,
) -> Asking | None:
    """The model tiers with their prices and what is left of the budget, None where there are none.

    With `plan` nobody will be asked.
    """
    if not tiers:
        return None
    from memcli.ingest.asking import Asking  # noqa: PLC0415 - most runs ask no model
    from memcli.ingest.budget import Budget, Limits  # noqa: PLC0415 - as above
    from memcli.store import calls as call_rows  # noqa: PLC0415 - as above

    prices = {each.tier: price for each in tiers if (price := price_for(config, each.tier)) is not None}
    budget = Budget(
        Limits(config.max_usd, config.max_calls, config.max_tokens),
        Limits(config.max_usd_per_month, config.max_calls_per_month, config.max_tokens_per_month),
        call_rows.spent_since(store, datetime.now(UTC).strftime("%Y-%m")),
    )
    return Asking(store, tiers, prices, budget, config.concurrency, note, plan)


def stored_rules(store: Store) -> tuple[list[Rule], list[str]]:
    """The user's rules in the order they were added, and what is wrong with those that cannot be read."""
    from memcli.extract.rule_files import rule_of  # noqa: PLC0415 - a search needs no rules

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
        from memcli.extract.rules import starter_rules  # noqa: PLC0415 - a search needs no rules

        disabled = rule_rows.disabled_starters(store)
        rules.extend(replace(rule, active=rule.id not in disabled) for rule in starter_rules())
    return rules, problems


def reader_chooser(
    format_name: str | None, mapping: Mapping[str, str] | None
) -> Callable[[Cursor | None, bytes], Reader | None]:
    """How a file's reader is chosen: by the user's word, else by the file's cursor, else by its first bytes."""
    from memcli.ingest.feed import MAP_STATE  # noqa: PLC0415 - only ingest reads transcripts
    from memcli.readers import detect, make_reader, parse_map  # noqa: PLC0415 - as above

    def choose(known: Cursor | None, head: bytes) -> Reader | None:
        if format_name is not None:
            return make_reader(format_name, mapping)
        if known is None:
            return detect(head, mapping)
        return make_reader(known.format, parse_map(known.state[MAP_STATE]) if MAP_STATE in known.state else None)

    return choose

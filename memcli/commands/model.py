"""`memcli model`: the embedding models of this machine are fetched, imported, listed, shown, chosen and removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memcli import wiring
from memcli.commands.database import writable_database
from memcli.config import Config
from memcli.embed.api import PREFIX, ApiModel
from memcli.embed.installed import DEFAULT, choose_model, chosen_model, installed, remove_model, resolve, size_of
from memcli.embed.models import CARD_FILE, ModelFiles, default_model, keep_model
from memcli.errors import DamagedError, MemcliError, UsageError
from memcli.protocols import Progress
from memcli.store import reindex as rows
from memcli.store.db import Store


@dataclass(frozen=True, slots=True)
class Listed:
    """A model on this machine, or the provider's that the database at hand has.

    `is_chosen`: new databases take it, `is_used`: the database at hand was made with it.
    """

    files: ModelFiles | ApiModel
    is_packaged: bool
    is_chosen: bool
    is_used: bool

    def to_json(self) -> dict[str, object]:
        """The model as part of the JSON document."""
        files = self.files
        here = files if isinstance(files, ModelFiles) else None
        kind = "provider" if here is None else "static" if here.recipe.is_static else "transformer"
        return {
            "name": files.name,
            "model_id": files.model_id,
            "dim": files.dim,
            "max_tokens": here and here.max_tokens,
            "bytes": here and size_of(here),
            "kind": kind,
            "packaged": self.is_packaged,
            "new_databases": self.is_chosen,
            "this_database": self.is_used,
            "folder": here and str(here.folder),
        }


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a pull or an import: a model, or for a dry run of a pull only what it would have fetched."""

    name: str
    files: ModelFiles | None
    is_new: bool
    dry_run: bool
    warnings: tuple[str, ...] = ()
    downloads: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        known = {} if self.files is None else {"model_id": self.files.model_id, "dim": self.files.dim}
        fetched = {} if self.downloads is None else {"files": dict(self.downloads)}
        return {
            "name": self.name,
            **known,
            "new": self.is_new,
            "dry_run": self.dry_run,
            "warnings": list(self.warnings),
            **fetched,
        }


@dataclass(frozen=True, slots=True)
class Changed:
    """The model that `use` or `remove` was about.

    `database` was bound to it, since it had no memories yet; `kept` is one that stays with its own.
    """

    files: ModelFiles
    dry_run: bool
    database: str | None = None
    kept: str | None = None

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        return {
            "name": self.files.name,
            "model_id": self.files.model_id,
            "database": self.database,
            "kept": self.kept,
            "dry_run": self.dry_run,
        }


def pull(name: str, file: str | None, environ: Mapping[str, str], progress: Progress, *, dry_run: bool) -> Taken:
    """Fetch a model from the hub and install it; a dry run only asks for what would be fetched.

    Raises:
        UsageError: there is no such model or file, or it must be asked for by its name.
        ProviderError: the hub does not answer; what has arrived is kept.
        DamagedError: what arrived is damaged or unsafe.
    """
    from memcli.embed import hub  # noqa: PLC0415 - onnxruntime and the rest take 0.2 s
    from memcli.embed.install import install  # noqa: PLC0415 - as above

    store_dir = wiring.models_dir(environ)
    if hub.is_offline():
        files, commit = hub.cached(name)
        origin: dict[str, object] = {"source": name, "commit": commit}
    else:
        wanted = hub.look_up(name, file, progress)
        if dry_run:
            sizes = {each: wanted.listing.files[each][0] for each in wanted.names}
            return Taken(name, None, is_new=False, dry_run=True, downloads=sizes)
        files = hub.fetch(wanted, progress)
        origin = {"source": name, "commit": wanted.listing.commit}
        if wanted.listing.licence is not None:
            origin["licence"] = wanted.listing.licence
    done = install(name, files, file, store_dir, origin, dry_run=dry_run)
    return Taken(done.files.name, done.files, done.is_new, dry_run, done.warnings)


def import_folder(folder: Path, file: str | None, environ: Mapping[str, str], *, dry_run: bool) -> Taken:
    """Install the model of a folder.

    Raises:
        UsageError: there is no such folder or file, or the file must be asked for by its name.
        DamagedError: the folder is damaged or unsafe.
    """
    from memcli.embed.install import folder_files, install  # noqa: PLC0415 - onnxruntime and the rest take 0.2 s

    files = folder_files(folder)
    name = folder.resolve().name
    done = install(name, files, file, wiring.models_dir(environ), {"source": name}, dry_run=dry_run)
    return Taken(done.files.name, done.files, done.is_new, dry_run, done.warnings)


def listing(config: Config, environ: Mapping[str, str]) -> tuple[list[Listed], list[str]]:
    """The models on this machine, the packaged one first, and what is wrong with damaged ones.

    Where the database at hand has a provider's model, that is the last one.
    """
    store_dir = wiring.models_dir(environ)
    models, problems = installed(store_dir)
    provider = _provider_of(config)
    known: list[ModelFiles | ApiModel] = [*models, *([] if provider is None else [provider])]
    used, chosen, named = _used_by(config), "", config.model
    try:
        if named is None:
            chosen = chosen_model(store_dir).model_id
        elif not named.startswith(PREFIX):
            chosen = resolve(named, store_dir).model_id
        elif provider is not None and provider.name == named:
            chosen = provider.model_id
    except (DamagedError, UsageError) as error:
        problems.append(error.message)
    if used is not None and used not in {each.model_id for each in known}:
        problems.append(f"{config.db} was made with the model {used}, which is not here")
    packaged = models[0].model_id
    return [
        Listed(each, each.model_id == packaged, each.model_id == chosen, each.model_id == used) for each in known
    ], problems


def info(name: str, environ: Mapping[str, str]) -> dict[str, object]:
    """Everything that a model's card says, and where it is.

    Raises:
        UsageError: there is no such model, or a provider has it.
    """
    if name.startswith(PREFIX):
        raise UsageError(f"{name} is a provider's model, which has no card here", "memcli model list shows the others")
    files = resolve(name, wiring.models_dir(environ))
    card: dict[str, object] = json.loads((files.folder / CARD_FILE).read_text(encoding="utf-8"))
    # A calibration counts instead of what the card says.
    known = {"near_threshold": files.near_threshold, "bytes": size_of(files), "folder": str(files.folder)}
    return card | known


def use(config: Config, name: str, environ: Mapping[str, str], *, dry_run: bool) -> Changed:
    """Make a model the one that new databases take, and that of the database at hand where that has no memories.

    Whatever is wrong with the database at hand, or keeps it busy, the choice is made: it is of others.

    Raises:
        UsageError: there is no such model.
    """
    store_dir = wiring.models_dir(environ)
    files = resolve(name, store_dir)
    if not dry_run:
        keep_model(files, store_dir)
        choose_model(files, store_dir)
    at_hand = str(config.db)
    try:
        if _used_by(config) in {None, files.model_id}:
            return Changed(files, dry_run)
        is_bound = _bind(config, files, dry_run=dry_run)
    except MemcliError:
        is_bound = False
    return Changed(files, dry_run, at_hand, None) if is_bound else Changed(files, dry_run, None, at_hand)


def _bind(config: Config, files: ModelFiles, *, dry_run: bool) -> bool:
    """Make it the model of the database at hand; False where that has memories of another one."""
    with Store.open(config.db) as store:
        if rows.has_memories(store):
            return False
    with writable_database(config, "model use", dry_run=dry_run) as path, Store.create(path) as store:
        if rows.has_memories(store):
            return False
        with store.transaction(store.generation()) as conn:
            rows.switch_model(conn, files.model_id)
    return True


def remove(config: Config, name: str, environ: Mapping[str, str], *, dry_run: bool) -> Changed:
    """Delete an installed model.

    Raises:
        UsageError: there is no such model, it is the packaged one, or it is in use.
    """
    store_dir = wiring.models_dir(environ)
    files = resolve(name, store_dir)
    if files.model_id == default_model().model_id:
        raise UsageError(f"{files.name} comes with memcli and cannot be removed", "memcli model list shows the others")
    if files.folder.parent != store_dir:
        raise UsageError(f"{files.folder} is not one of the models in {store_dir}", "remove the folder yourself")
    if files.model_id == chosen_model(store_dir).model_id:
        raise UsageError(f"{files.name} is what new databases take", f"memcli model use {DEFAULT}")
    if files.model_id == _used_by(config):
        raise UsageError(f"{config.db} was made with {files.name}", f"memcli reindex --model {DEFAULT}")
    if not dry_run:
        remove_model(files, store_dir)
    return Changed(files, dry_run)


def _used_by(config: Config) -> str | None:
    """The model of the database at hand, None where there is none."""
    if not _is_there(config):
        return None
    with Store.open(config.db) as store:
        return wiring.base_model_id(store)


def _provider_of(config: Config) -> ApiModel | None:
    """The provider's model of the database at hand, None where it has none."""
    if not _is_there(config):
        return None
    with Store.open(config.db) as store:
        return wiring.provider_of(store)


def _is_there(config: Config) -> bool:
    return config.db.is_file() and config.db.stat().st_size > 0

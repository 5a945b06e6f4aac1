"""`memcli export` and `memcli import`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from memcli import wiring
from memcli.commands.database import writable_database
from memcli.commands.names import as_stored
from memcli.config import Config
from memcli.embed.carried import CarriedEmbedder
from memcli.errors import UsageError
from memcli.exchange import export as exporting
from memcli.exchange.datasette import metadata
from memcli.exchange.feed import Feed, check, is_database
from memcli.exchange.report import Exported, ImportReport
from memcli.exchange.run import COMMAND, Import
from memcli.exchange.vectors import CACHE_BYTES, any_of, read_npz, stored_in, write_npz
from memcli.files import whole_file
from memcli.ingest.inputs import STDIN, Found
from memcli.protocols import Progress, Spending
from memcli.redact import redact, untouched
from memcli.redact.names import Names
from memcli.store.db import Store
from memcli.store.files import load_cursors
from memcli.store.names import names_key
from memcli.store.vectors import Vectors
from memcli.text import clean


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What the user asked of an export; `out` None is standard output, `whole` asks for all that an import takes."""

    out: Path | None = None
    vectors: Path | None = None
    agent: str | None = None
    whole: bool = True


def export(
    config: Config,
    request: ExportRequest,
    chunks: Callable[[Iterable[Mapping[str, Any]]], Iterator[str]],
    write: Callable[[str], bool],
) -> Exported:
    """Write the memories as `chunks` makes text of them: to a file, which is there whole or not at all, or by `write`.

    It ends early when `write` says that nobody reads on.

    Raises:
        NoDatabaseError: there is no database.
        UsageError: the agent has no memories, or a file cannot be written.
    """
    with Store.open(config.db) as store, store.snapshot():
        if request.agent is not None:
            request = replace(request, agent=as_stored(store, clean(request.agent)))
        found = exporting.header(store, request.agent)
        if request.agent is not None and not found.memories:
            raise UsageError(f"there are no memories of the agent {request.agent}", "memcli stats shows the agents")
        documents: Iterable[Mapping[str, Any]] = (
            exporting.documents(store, request.agent)
            if request.whole
            else (star.to_json() for star in exporting.stars(store, request.agent))
        )
        vectors = None if request.vectors is None else _write_vectors(store, config, request.vectors, request.agent)
        if request.out is None:
            for chunk in chunks(documents):
                if not write(chunk):
                    break
        else:
            with _written(request.out) as file:
                for chunk in chunks(documents):
                    file.write(chunk.encode())
    out = None if request.out is None else str(request.out)
    return Exported(str(config.db), out, found.memories, found.messages if request.whole else 0, vectors)


def export_metadata(config: Config, out: Path | None, write: Callable[[str], bool]) -> None:
    """Write what Datasette should know of the database, to a file or by `write`.

    Raises:
        NoDatabaseError: there is no database.
        UsageError: the file cannot be written.
    """
    with Store.open(config.db):
        text = json.dumps(metadata(config.db), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        write(text)
    else:
        with _written(out) as file:
            file.write(text.encode())


def _write_vectors(store: Store, config: Config, path: Path, agent: str | None) -> int:
    model_id = store.meta("model_id") or ""
    vectors = Vectors(store, model_id, min(config.max_memory, CACHE_BYTES), wiring.coding())
    with _written(path) as file:
        return write_npz(file, model_id, exporting.vectors(store, vectors, agent))


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name once it is written to its end; only its owner may read it."""
    try:
        with whole_file(path) as file:
            yield file
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "name another file") from error


def import_files(
    config: Config,
    paths: Sequence[str],
    vectors_file: Path | None,
    progress: Progress,
    environ: Mapping[str, str],
    *,
    dry_run: bool,
) -> ImportReport:
    """Bring files and other databases into the database. What they are is found out first.

    Raises:
        UsageError: a file does not exist, or is the database itself.
        NoDatabaseError, MismatchError, DamagedError: a database cannot be read, or the vectors are of another model.
    """
    found = [_found(path, config.db) for path in dict.fromkeys(paths)]
    for each in found:
        check(each)
    with ExitStack() as stack:
        others = [stack.enter_context(Store.open(Path(each.path))) for each in found if is_database(each)]
        path = stack.enter_context(writable_database(config, COMMAND, dry_run=dry_run))
        spending = Spending()
        # Found before the file is made: a name that means no model must not leave an empty database behind.
        new = None if path.exists() else wiring.new_model(config, environ, spending, dry_run=dry_run)
        store = stack.enter_context(Store.create(path))
        model = new or wiring.model_for(store, config, environ, spending, dry_run=dry_run)
        finders = []
        for other in others:
            if other.meta("model_id") == model.model_id:
                finders.append(stored_in(other, model.model_id, wiring.coding()))
            else:
                progress.note(f"{other.path} has vectors of another embedding model: its texts are embedded anew")
        if vectors_file is not None:
            finders.append(read_npz(vectors_file, model.model_id))
        if not dry_run:
            wiring.adopt_model(store, model, environ)
        embedder = wiring.writing_embedder(model, config, environ, spending, progress.note, dry_run=dry_run)
        run = Import(
            store,
            CarriedEmbedder(embedder, any_of(finders)),
            Vectors(store, model.model_id, config.max_memory, wiring.coding()),
            model.near_threshold if config.near_threshold is None else config.near_threshold,
            progress,
            spending,
            names := Names(names_key(store), redacts=config.redact),
        )
        feed = Feed(
            found,
            load_cursors(store, imports=True),
            batch_size=config.batch_size,
            next_file_id=store.next_id("files"),
            agent=config.agent,
            redactor=redact if config.redact else untouched,
            names=names,
        )
        report = run.run(feed)
    report.db, report.dry_run = str(config.db), dry_run
    return report


def _found(path: str, db: Path) -> Found:
    if path == STDIN:
        return Found(STDIN, None)
    where = Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 - links stay as they were named
    try:
        status = where.stat()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name an export, or a database of memcli") from error
    if db.exists() and where.samefile(db):
        raise UsageError(f"{path} is the database itself", "name another with --db")
    if where.is_dir():
        raise UsageError(f"{path} is a folder", "name an export, or a database of memcli")
    return Found(str(where), status if where.is_file() else None)

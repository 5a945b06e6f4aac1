"""`memcli search`: questions to the database."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from memcli import wiring
from memcli.commands.names import as_stored, path_as_stored
from memcli.commands.shares import in_processes, processes_for
from memcli.config import Config
from memcli.errors import UsageError
from memcli.files import read_small, read_stdin
from memcli.redact import redact
from memcli.search import Answer, Request, Searcher
from memcli.store import search as search_rows
from memcli.store.cache import Limits
from memcli.store.db import Store
from memcli.store.search import Filters
from memcli.text import clean

if TYPE_CHECKING:
    from memcli.protocols import Embedder

STDIN = "-"
_SHOWN_NAMES = 4

T = TypeVar("T")


def search(
    config: Config,
    queries: Sequence[str],
    request: Request,
    environ: Mapping[str, str],
    *,
    use_cache: bool = True,
    mark: bool = False,
) -> list[tuple[Answer, list[str]]]:
    """Answer all queries, in their order; with `mark` each comes with the marked texts of its hits.

    Very many are answered in several processes, which see one state of the database.
    """
    return _spread(partial(_answers, use_cache=use_cache, mark=mark), config, request, environ, queries)


def search_json(
    config: Config, queries: Sequence[str], request: Request, environ: Mapping[str, str], *, use_cache: bool = True
) -> list[str]:
    """As `search`; each answer as a JSON document, which is made in the process that has found it.

    That of a single query is indented; of several each is one line, which is made in a quarter of the time.
    """
    indent = 2 if len(queries) == 1 else None
    return _spread(partial(_documents, use_cache=use_cache, indent=indent), config, request, environ, queries)


def unknown_names(config: Config, filters: Filters) -> list[str]:
    """For each filter that names an agent, session, tag or transcript that there is none of: what there is."""
    if filters.agent is filters.session is filters.tag is filters.source is None:
        return []
    filters = _storable(config, filters)
    with Store.open(config.db) as store:
        unknown = search_rows.unknown_names(store, filters)
    return [_instead(what, getattr(filters, what), names) for what, names in unknown.items()]


def _instead(what: str, asked: str, names: Sequence[str]) -> str:
    if what == "source":
        names = list(dict.fromkeys(name.rpartition("/")[2] for name in names))
    near = difflib.get_close_matches(asked, names, n=_SHOWN_NAMES)
    shown = ", ".join(near or names[:_SHOWN_NAMES])
    rest = "" if near or len(names) <= _SHOWN_NAMES else " and others"
    there_is = f"{'the nearest' if near else 'there'} {'is' if len(near or names) == 1 else 'are'} {shown}{rest}"
    return f"no memory has the {what} {asked}: {there_is if names else 'there is none yet'}"


def _spread(
    answer: Callable[[Config, Request, Mapping[str, str], Sequence[str]], list[T]],
    config: Config,
    request: Request,
    environ: Mapping[str, str],
    queries: Sequence[str],
) -> list[T]:
    filters = _storable(config, request.filters)
    request = replace(request, filters=filters, environment=tuple(map(clean, request.environment)))
    processes = processes_for(queries)
    if processes == 1:
        return answer(config, request, environ, queries)
    with Store.open(config.db) as store:
        before = store.generation()
        # Of no use here, and a read-only mapping cannot be sent.
        told = replace(config, profiles={}, tiers={})
        found = in_processes(partial(answer, told, request, dict(environ)), queries, processes)
        if store.generation() == before:
            return found
    return answer(config, request, environ, queries)


def _documents(
    config: Config,
    request: Request,
    environ: Mapping[str, str],
    queries: Sequence[str],
    *,
    use_cache: bool,
    indent: int | None,
) -> list[str]:
    answers = _answers(config, request, environ, queries, use_cache=use_cache, mark=False)
    return [json.dumps(answer.to_json(), ensure_ascii=False, indent=indent) for answer, _ in answers]


def _answers(
    config: Config,
    request: Request,
    environ: Mapping[str, str],
    queries: Sequence[str],
    *,
    use_cache: bool,
    mark: bool,
) -> list[tuple[Answer, list[str]]]:
    with Store.open(config.db) as store:
        searcher = open_searcher(store, config, environ, use_cache=use_cache)
        answers = searcher.answer([clean(query) for query in queries], request)
        return [(answer, searcher.marked(answer) if mark else []) for answer in answers]


def _storable(config: Config, filters: Filters) -> Filters:
    """Filters as the database would have their values; a transcript that there is, by its whole path."""
    if filters.source is not None and os.path.exists(filters.source):  # noqa: PTH110 - a pattern may be no path at all
        filters = replace(filters, source=os.path.realpath(filters.source))
    values = ((item.name, getattr(filters, item.name)) for item in fields(filters))
    storable: dict[str, Any] = {name: clean(value) for name, value in values if isinstance(value, str)}
    filters = replace(filters, **storable)
    named = (filters.agent, filters.session, filters.source)
    if any(redact(name)[1] for name in named if name is not None):
        with Store.open(config.db) as store:
            agent, session = as_stored(store, filters.agent), as_stored(store, filters.session)
            filters = replace(filters, agent=agent, session=session, source=path_as_stored(store, filters.source))
    return filters


def open_searcher(store: Store, config: Config, environ: Mapping[str, str], *, use_cache: bool) -> Searcher:
    """The searcher of a database, with the model that it was made with.

    Raises:
        MismatchError: the database's model is not here.
    """

    def embedder() -> Embedder:
        return wiring.embedder_of(wiring.model_of(store, config, environ), config, environ)

    limits = Limits(config.search_cache_size, config.search_cache_ttl) if use_cache else None
    return Searcher(store, embedder, config.max_memory, limits)


def read_queries(words: Sequence[str], file: str | None) -> list[str]:
    """Queries from the command line (`-`: standard input) and from a file, one per line; empty lines do not count.

    Raises:
        UsageError: there is no query, or the file cannot be read.
    """
    queries: list[str] = []
    for word in words:
        queries.extend(_lines(STDIN) if word == STDIN else [word])
    if file is not None:
        queries.extend(_lines(file))
    queries = [query.strip() for query in queries if query.strip()]
    if not queries:
        raise UsageError("no query", 'ask something, as in: memcli search "what did we decide about retries"')
    return queries


def _lines(file: str) -> list[str]:
    try:
        text = read_stdin() if file == STDIN else read_small(Path(file), pipes=True)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read the queries in {file}: {reason}", "a query per line; - is stdin") from error
    return text.split("\n")

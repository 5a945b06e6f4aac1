"""`memcli search`: questions to the database."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from memcli import wiring
from memcli.commands.shares import groups, in_processes, processes_for
from memcli.config import Config
from memcli.errors import UsageError
from memcli.search import Answer
from memcli.search import search as find
from memcli.store.db import Store
from memcli.store.search import Filters
from memcli.store.vectors import Vectors
from memcli.text import clean

STDIN = "-"


def search(
    config: Config, queries: Sequence[str], filters: Filters, k: int, environ: Mapping[str, str]
) -> list[Answer]:
    """Answer all queries, in their order; many of them in several processes, which see one state of the database."""
    processes = processes_for(queries)
    if processes == 1:
        return _answers(config, filters, k, environ, queries)
    with Store.open(config.db) as store:
        before = store.generation()
        told = replace(config, profiles={})  # of no use here, and a read-only mapping cannot be sent
        found = in_processes(partial(_answers, told, filters, k, dict(environ)), queries, processes)
        if store.generation() == before:
            return found
    return _answers(config, filters, k, environ, queries)


def _answers(
    config: Config, filters: Filters, k: int, environ: Mapping[str, str], queries: Sequence[str]
) -> list[Answer]:
    with Store.open(config.db) as store:
        model = wiring.model_of(store, config, environ)
        vectors = Vectors(store, model.model_id, config.max_memory)
        embedder = wiring.embedder_of(model, config, environ)
        cleaned = [clean(query) for query in queries]
        return [answer for group in groups(cleaned) for answer in find(store, embedder, vectors, group, filters, k)]


def read_queries(words: Sequence[str], file: str | None) -> list[str]:
    """Queries from the command line (`-`: standard input) and from a file, one per line; empty lines do not count.

    Raises:
        UsageError: there is no query, or the file cannot be read.
    """
    queries: list[str] = []
    for word in words:
        queries.extend(sys.stdin.read().split("\n") if word == STDIN else [word])
    if file is not None:
        try:
            text = sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"cannot read the queries in {file}: {reason}") from error
        queries.extend(text.split("\n"))
    queries = [query.strip() for query in queries if query.strip()]
    if not queries:
        raise UsageError("no query", 'ask something, as in: memcli search "what did we decide about retries"')
    return queries

"""Asking a database in process, with the embedding model loaded once."""

from contextlib import contextmanager

from support_ingest import environ, quick_model

from memcli.commands.search import open_searcher
from memcli.commands.search import search as find
from memcli.config import Config
from memcli.search import Request
from memcli.store.db import Store
from memcli.store.search import Filters

_REQUEST = ("mode", "k", "environment", "context", "explain")


def request(**options):
    """A Request: what is none of its own fields is a filter."""
    own = {name: options.pop(name) for name in _REQUEST if name in options}
    return Request(**own, filters=Filters(**options))


def search(db, *queries, use_cache=False, config=None, **options):
    """Answers as the JSON document has them."""
    with quick_model():
        found = find(config or Config(db=db), queries, request(**options), environ(), use_cache=use_cache)
    return [answer.to_json() for answer, _ in found]


def contents(db, asked, **options):
    """The texts of the hits of one query."""
    (answer,) = search(db, asked, **options)
    return [hit["content"] for hit in answer["hits"]]


@contextmanager
def searcher(db, *, use_cache=True, **settings):
    """A searcher that stays open."""
    with quick_model(), Store.open(db) as store:
        yield open_searcher(store, Config(db=db, **settings), environ(), use_cache=use_cache)

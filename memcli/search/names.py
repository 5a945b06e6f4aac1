"""Whom a query names."""

from __future__ import annotations

from memcli.search.words import possible_names, telling, words_of
from memcli.store import search as search_rows
from memcli.store.db import Store


def names_in(store: Store, query: str) -> tuple[list[str], list[str]]:
    """The speakers that a query names, and its words to look up.

    A name that is written with a capital says whose turns are meant: they do not hold it, those of others do.
    """
    words = words_of(query)
    names = sorted(search_rows.speakers(store, possible_names(words)))
    meant = {word.lower() for name in names for word in name.split() if word[:1].isupper()}
    return names, telling(words, meant)

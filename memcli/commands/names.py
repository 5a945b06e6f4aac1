"""Names that a user gives as they stand in a transcript, and that the database has without the credentials in them."""

from __future__ import annotations

from memcli.redact.names import Names
from memcli.store.db import Store
from memcli.store.names import is_in_a_path, is_named, names_key


def as_stored(store: Store, name: str | None) -> str | None:
    """The agent or session that is stored for `name`; what is stored under the name itself goes before."""
    if name is None or (key := names_key(store)) is None or is_named(store, name):
        return name
    return Names(key).of(name)


def path_as_stored(store: Store, path: str | None) -> str | None:
    """A path as it is stored, or a part of one; what is stored as it stands stays, and so do plain patterns."""
    if path is None or (key := names_key(store)) is None or is_in_a_path(store, path):
        return path
    return Names(key).of_path(path)

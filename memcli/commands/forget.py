"""`memcli forget`: what is named goes for good."""

from __future__ import annotations

import os
from dataclasses import replace

from memcli import wiring
from memcli.commands.database import writable_database
from memcli.config import Config
from memcli.ingest.inputs import storable_path
from memcli.maintain.forget import COMMAND, ForgetReport
from memcli.maintain.forget import forget as take_out
from memcli.readers import FORMATS
from memcli.redact.names import Names
from memcli.store.db import Store, require_database
from memcli.store.forget import Selection
from memcli.store.names import names_key
from memcli.store.vectors import Vectors
from memcli.text import clean


def forget(config: Config, selection: Selection, *, dry_run: bool) -> ForgetReport:
    """Forget what is selected; in a dry run on a copy that is deleted.

    Raises:
        NoDatabaseError: there is no database.
        UsageError: there is nothing of that kind.
        LockedError: another run, or a reader that does not end, is in the way.
    """
    require_database(config.db)
    with writable_database(config, COMMAND, dry_run=dry_run) as path, Store.create(path) as store:
        vectors = Vectors(store, str(store.meta("model_id")), config.max_memory, wiring.coding())
        report = take_out(store, vectors, _as_stored(store, selection))
    report.db, report.dry_run = str(config.db), dry_run
    return report


def _as_stored(store: Store, selection: Selection) -> Selection:
    """The selection with names as the database has them, and a path that exists as it was read."""
    source = selection.source
    if source is not None:
        whole = os.path.abspath(os.path.expanduser(source))  # noqa: PTH100, PTH111 - links stay as they were named
        source = storable_path(whole if os.path.exists(whole) else source.rstrip("/"))  # noqa: PTH110 - as above
    agent, session, text = (None if each is None else clean(each) for each in _names(selection))
    names = Names(names_key(store))
    also = agent and names.of(agent), session and names.of(session), source and names.of_path(source)
    own = tuple(dict.fromkeys(each.agent for each in FORMATS))
    return replace(selection, source=source, agent=agent, session=session, text=text, also=also, own_agents=own)


def _names(selection: Selection) -> tuple[str | None, str | None, str | None]:
    return selection.agent, selection.session, selection.text

"""`memcli check --secrets`: credentials in a database that is there already."""

from __future__ import annotations

from memcli.config import Config
from memcli.maintain.secrets import SecretsReport, scan
from memcli.protocols import Progress
from memcli.store.db import Store


def find_secrets(config: Config, progress: Progress) -> SecretsReport:
    """Scan all texts of the database.

    Raises:
        NoDatabaseError: there is no database.
        MismatchError, DamagedError: it cannot be read.
    """
    with Store.open(config.db, any_age=True) as store:
        return scan(store, progress)

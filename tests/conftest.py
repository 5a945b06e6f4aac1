"""Fixtures of the tests that run memcli as its users do."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from support_cli import FIXTURES, Home, Nursery, write_jsonl


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """One data folder for all homes: every one would copy the model into its own."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def nursery():
    """Where processes of memcli are forked from."""
    with Nursery() as running:
        yield running


@pytest.fixture
def home(tmp_path, data, nursery):
    """A user without a database."""
    return Home(tmp_path / "home", data, nursery)


@pytest.fixture(scope="module")
def original(tmp_path_factory, data):
    """A home with a good database, its log within the file."""
    home = Home(tmp_path_factory.mktemp("filled"), data)
    assert home.run("ingest", FIXTURES).code == 0
    with closing(sqlite3.connect(home.db)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return home


@pytest.fixture
def filled(home, original):
    """A home with a copy of a good database."""
    shutil.copy(original.db, home.db)
    return home


@pytest.fixture
def tea(tmp_path):
    """A transcript of one message."""
    return write_jsonl(tmp_path / "tea.jsonl", [{"role": "user", "content": "I prefer green tea over coffee."}])

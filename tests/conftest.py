"""Fixtures of the tests that run memcli as its users do."""

from __future__ import annotations

import pytest
from support_cli import Home, Nursery


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

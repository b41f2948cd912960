"""Engines for the tests that only use them."""

import pytest
from tiny_folder import write_tiny_folder

from latte_core import Engine


@pytest.fixture(scope="session")
def engine(tiny_folder):
    with Engine.load(tiny_folder) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    """An engine whose model learned its variance."""
    folder = write_tiny_folder(
        tmp_path_factory.mktemp("learned"), scheduler={"variance_type": "learned_range"}
    )
    with Engine.load(folder) as loaded:
        yield loaded

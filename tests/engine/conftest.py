"""One engine for the tests that only use it."""

import pytest

from latte_core import Engine


@pytest.fixture(scope="session")
def engine(tiny_folder):
    with Engine.load(tiny_folder) as loaded:
        yield loaded

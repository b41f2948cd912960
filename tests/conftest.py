"""Fixtures that many tests share."""

import pytest
from tiny_folder import write_tiny_folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A small random model folder in the Latte-1 layout, without a manifest. Do not change it."""
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny-latte")


def pytest_collection_modifyitems(items):
    """Run the page tests last: Playwright keeps an event loop, beside which no other can run."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)

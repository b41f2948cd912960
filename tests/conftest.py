"""Fixtures that many tests share."""

import pytest
from tiny_folder import write_tiny_folder


@pytest.fixture(scope="session", autouse=True)
def _exact_by_default():
    """A CPU that multiplies bf16 would take it: here all compute in fp32 unless a test asks."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("ladder", "memory", "outlook", "parts"):
            patch.setattr(f"latte_core.engine.{module}.cpu_bf16_pays", lambda: False)
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A small random model folder in the Latte-1 layout, without a manifest. Do not change it."""
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny-latte")


def pytest_collection_modifyitems(items):
    """Run the page tests last: Playwright keeps an event loop, beside which no other can run."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)

"""README's front matter makes a Space of this repository."""

from pathlib import Path

import gradio
import pytest
from space_rules import faults, front_matter

ROOT = Path(__file__).resolve().parents[1]
CARD = front_matter((ROOT / "README.md").read_text(encoding="utf-8"))


def test_space_card_is_what_the_hub_wants():
    assert faults(CARD, ROOT) == []
    assert CARD["sdk_version"].split(".")[0] == gradio.__version__.split(".")[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("title", ""),
        ("emoji", "coffee"),
        ("colorFrom", "brown"),
        ("colorTo", None),
        ("sdk", "docker"),
        ("sdk_version", "5.50.0"),
        ("sdk_version", "7.0.0"),
        ("sdk_version", 6.31),
        ("app_file", "main.py"),
        ("short_description", "x" * 61),
        ("python_version", 3.12),
        ("python_version", "3.11"),
        ("license", "free"),
        ("models", ["Latte-1"]),
    ],
)
def test_space_card_with_a_fault_is_refused(key, value):
    assert faults({**CARD, key: value}, ROOT) == [key]


def test_space_card_is_missed():
    assert front_matter("# Title\n") == {} and len(faults({}, ROOT)) == 10

"""Words outside a closed vocabulary lead to the nearest word inside it."""

import pytest

from latte_core.components.vocabulary import Vocabulary

WORDS = ["cat", "falls", "meadow", "ракета", "rocket", "кот"]
ALIASES = {"lion": "cat", "spaceship": "rocket", "собака": "кот", "slowly": ""}


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("spaceship", "rocket"),  # by meaning
        ("rokcet", "rocket"),  # by spelling
        ("rockets", "rocket"),
        ("ракету", "ракета"),  # another case of the noun
        ("собаку", "кот"),  # another case of a word that leads on
        ("кота", "кот"),
        ("car", None),  # too short to be a slip of the keyboard
        ("fall", "falls"),
        ("slowly", None),  # nothing is near
        ("slowlly", None),
        ("quartz", None),
        ("", None),
    ],
)
def test_nearest_word(word, near):
    assert Vocabulary(WORDS, ALIASES).nearest(word) == near


def test_suggestions_leave_out_what_has_none():
    found = Vocabulary(WORDS, ALIASES).suggestions(["lion", "quartz", "meadows"])
    assert found == {"lion": "cat", "meadows": "meadow"}
    assert Vocabulary(()).suggestions(["lion"]) == {}

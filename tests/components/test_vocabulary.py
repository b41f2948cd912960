"""Words outside a closed vocabulary lead to the nearest word inside it."""

import pytest

from latte_core.components.vocabulary import Vocabulary, put_nearest

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


def test_nearest_words_take_the_place_of_unknown_ones():
    nearest = {"lion": "cat", "forest": "meadow", "елка": "кактус"}
    assert put_nearest("A lion, a LION in the forest!", nearest) == "A cat, a cat in the meadow!"
    assert put_nearest("Ёлка и lioness", nearest) == "кактус и lioness"  # no part of a word
    assert put_nearest("slowly", {}) == "slowly"

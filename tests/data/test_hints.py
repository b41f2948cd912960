"""A word that a world does not know leads to what a person would call near, or nowhere."""

import pytest

from latte_core.components.vocabulary import Vocabulary
from latte_core.data import hints
from latte_core.data.captions import vocabulary
from latte_core.data.motions import MOTIONS
from latte_core.data.scenes import SCENES
from latte_core.data.sprites import SUBJECTS
from latte_core.data.world import World

WORLD = World(
    ("cat", "rocket", "car", "whale", "star"),
    motions=("left", "right", "up", "down", "bounce", "spin", "grow", "shrink"),
    scenes=("plain", "sky", "sunset", "night", "meadow", "desert"),
    languages=("en", "ru"),
)


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("forest", "meadow"),
        ("beach", "desert"),
        ("space", "night"),
        ("walks", "moves"),
        ("dances", "jumps"),
        ("bronze", "orange"),
        ("huge", "big"),
        ("лесу", "лугу"),
        ("космосе", "ночью"),
        ("бежит", "движется"),
        ("огромный", "большой"),
        ("dog", "cat"),  # things still lead to subjects
        ("собака", "кот"),
        ("lion", "cat"),
        *((word, None) for word in ("very", "two", "slowly", "happy", "with", "old", "people")),
        *((word, None) for word in ("очень", "быстро", "для", "или", "человек", "над")),
    ],
)
def test_word_leads_where_a_person_would_go(word, near):
    known = Vocabulary(vocabulary(WORLD), hints.nearest_words(WORLD))
    assert known.nearest(word) == near


def test_known_words_have_no_hint_and_hints_are_known():
    found, known = hints.nearest_words(WORLD), set(vocabulary(WORLD))
    assert not known & set(found)
    assert {near for near in found.values() if " " not in near} <= known | {""}


def test_only_spoken_languages_have_hints():
    found = hints.nearest_words(World(("cat", "rocket")))
    assert "forest" in found and "лесу" not in found


@pytest.mark.parametrize("language", ["en", "ru"])
def test_tables_hold_each_word_once_and_lead_to_words_of_the_whole_world(language):
    whole = World(tuple(SUBJECTS), tuple(MOTIONS), tuple(SCENES), languages=(language,))
    near = hints.NEAR[language]
    assert set(near) <= set(vocabulary(whole))
    things = hints.THINGS[language]
    assert set(things) <= set(vocabulary(whole))
    words = " ".join([*near.values(), *things.values(), hints.NOTHING[language]]).split()
    assert sorted(words) == sorted(set(words))

"""Words for things lead to the world's nearest subject, in the language they came in."""

from latte_core.data.captions import vocabulary
from latte_core.data.names import load_names, nearest_subjects
from latte_core.data.sprites import SUBJECTS
from latte_core.data.world import World

WORLD = World(("cat", "penguin", "rocket", "car", "whale", "bee"), languages=("en", "ru"))


def test_table_names_every_subject():
    codes = {row.code for row in load_names()}
    assert {subject.code.removesuffix("-fe0f") for subject in SUBJECTS.values()} <= codes


def test_words_lead_to_a_subject_of_their_kind():
    near = nearest_subjects(WORLD)
    wanted = {
        "dog": "cat",
        "helicopter": "rocket",
        "bus": "car",
        "shark": "whale",
        "duck": "penguin",
        "ant": "bee",
        "собака": "кот",
        "самолет": "ракета",
        "акула": "кит",
    }
    assert {word: near[word] for word in wanted} == wanted


def test_known_and_common_words_lead_nowhere():
    near = nearest_subjects(WORLD)
    assert not set(near) & set(vocabulary(WORLD))
    assert "animal" not in near and "животное" not in near


def test_only_spoken_languages_are_led_to():
    near = nearest_subjects(World(("cat", "rocket")))
    assert "dog" in near and "собака" not in near
    assert set(near.values()) == {"cat", "rocket"}

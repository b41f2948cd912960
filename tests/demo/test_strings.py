import json
import re
from pathlib import Path
from string import Formatter

import pytest

import demo
from demo.strings import FOLDER, languages, load_texts

# Keys whose last word comes from a table in the code.
BUILT = (
    *("settings.mode.", "settings.own.", "settings.tempo.", "stage.", "keys.", "part.", "loading."),
    *("recipe.", "history.", "compare.", "sheet.", "inside.", "api.", "picture."),
    "model.words.",
)
SOURCES = [path.read_text() for path in Path(demo.__file__).parent.rglob("*.py")]


def table(language):
    return json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))


def fields(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", languages())
def test_strings_of_every_language_have_the_same_keys_and_placeholders(language):
    english, other = table("en"), table(language)
    assert english.keys() == other.keys()
    for key, text in english.items():
        if isinstance(text, str):
            assert fields(text) == fields(other[key]), key


def test_strings_that_the_code_names_exist_and_the_others_are_used():
    known = set(table("en"))
    code = "\n".join(SOURCES)
    named = set(re.findall(r"texts(?:\.many)?\(\s*\"([a-z_.]+)\"", code))
    assert named <= known
    built = {key for key in known if key.startswith(BUILT)}
    unused = {key for key in known - built if not re.search(rf"['\"]{key}['\"]", code)}
    assert not unused


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (12.4, "12 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s")],
)
def test_strings_say_a_duration_as_a_person_does(seconds, words):
    assert load_texts().duration(seconds) == words

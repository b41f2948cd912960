"""What is said of a clip: all of it, in both languages, in words that the vocabulary holds."""

import random
import re

import numpy as np
import pytest

from latte_core.components.text_encoder import new_text_encoder
from latte_core.data import russian
from latte_core.data.captions import vocabulary, write_caption
from latte_core.data.motions import MOTIONS
from latte_core.data.scenes import COLOURS, SCENES
from latte_core.data.sprites import SUBJECTS
from latte_core.data.world import ClipSpec, World


def spec_of(motion, subject="balloon", size="", scene="plain"):
    return ClipSpec(subject, motion, scene, "white", size, 3)


def test_captions_tell_subject_motion_and_place():
    world, rng, words = World(), np.random.default_rng(0), random.Random(0)
    for _ in range(500):
        spec = world.draw(rng)
        caption = write_caption(spec, words)
        nouns = (spec.subject, *SUBJECTS[spec.subject].synonyms)
        places = (
            [f"{spec.colour} background"] if spec.scene == "plain" else SCENES[spec.scene].phrases
        )
        for phrases in (nouns, MOTIONS[spec.motion], places):
            assert any(re.search(rf"\b{p}\b", caption) for p in phrases), caption
        assert spec.size in caption
        wrong = "left" if spec.motion == "right" else "right"
        if spec.motion in ("left", "right"):
            assert wrong not in caption.split()


def test_article_fits_its_noun():
    words = random.Random(1)
    captions = [
        write_caption(spec_of("up", subject=s, size=size), words)
        for s in SUBJECTS
        for size in ("", "big")
        for _ in range(4)
    ]
    assert any(re.search(r"\ban [aeiou]", c) for c in captions)
    assert not any(re.search(r"\ban [^aeiou]|\ba [aeiou]", c) for c in captions)


def test_russian_tables_are_whole():
    assert list(russian.NOUNS) == list(SUBJECTS)
    assert list(russian.VERBS) == list(MOTIONS)
    assert list(russian.PLACES) == list(SCENES)
    assert list(russian.GROUNDS) == list(COLOURS)
    told = vocabulary(World(languages=("ru",)))
    assert all(re.fullmatch("[а-я]+", word) and "ё" not in word for word in told)


def test_russian_captions_tell_subject_motion_and_place():
    world, rng, words = World(), np.random.default_rng(0), random.Random(0)
    for _ in range(500):
        spec = world.draw(rng)
        caption = write_caption(spec, words, ("ru",))
        grounds = [f"{ground} фоне" for ground in russian.GROUNDS[spec.colour]]
        places = russian.PLACES.get(spec.scene, grounds)
        nouns = [noun for noun, _ in russian.NOUNS[spec.subject]]
        for phrases in (nouns, russian.VERBS[spec.motion], places):
            assert any(re.search(rf"\b{p}\b", caption) for p in phrases), caption


def test_russian_adjectives_agree_with_their_noun():
    untold = {"лошадь": "f", "конь": "m", "шмель": "m", "мышь": "f", "лебедь": "m"}  # soft sign
    untold["фламинго"] = "m"  # a foreign word
    endings = {"а": "f", "я": "f", "о": "n", "е": "n"}
    for nouns in russian.NOUNS.values():
        for noun, gender in nouns:
            last = noun.split()[-1]
            assert untold.get(last, endings.get(last[-1], "m")) == gender, noun
    caption = write_caption(spec_of("up", "star", "big"), random.Random(0), ("ru",))
    assert "большая звезд" in caption


def test_russian_words_come_in_any_order():
    spec, words = spec_of("up", "cat", scene="night"), random.Random(0)
    orders = set()
    for _ in range(200):
        caption = write_caption(spec, words, ("ru",)).removeprefix("видео где ")
        groups = [
            [n for n, _ in russian.NOUNS["cat"]],
            russian.VERBS["up"],
            russian.PLACES["night"],
        ]
        starts = [min(caption.find(p) for p in group if p in caption) for group in groups]
        orders.add(tuple(np.argsort(starts).tolist()))
    assert len(orders) == 6


def test_both_languages_take_turns():
    spec, words = spec_of("up"), random.Random(0)
    told = [write_caption(spec, words, ("en", "ru")) for _ in range(100)]
    share = np.mean([bool(re.search("[а-я]", caption)) for caption in told])
    assert 0.3 < share < 0.7


@pytest.mark.parametrize("languages", [("en",), ("ru",), ("en", "ru")])
def test_vocabulary_covers_every_caption(languages):
    world, rng, words = World(languages=languages), np.random.default_rng(2), random.Random(2)
    known = set(vocabulary(world))
    captions = [write_caption(world.draw(rng), words, languages) for _ in range(1000)]
    assert {w for c in captions for w in c.split()} <= known
    pieces = [(f"▁{word}", -1.0) for word in vocabulary(world)]
    encoder = new_text_encoder(pieces, d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2)
    assert encoder.unknown_words("dragon") == ["dragon"]  # the tokenizer can tell
    for caption in captions[:100]:
        assert encoder.unknown_words(caption) == []
    ids, mask = encoder.tokenize(captions[:100])
    assert ids.shape[1] <= 20  # what the recipe trains with
    assert mask.sum(1).tolist() == [len(c.split()) + 1 for c in captions[:100]]


def test_small_world_has_a_small_vocabulary():
    words = vocabulary(World(("cat",), ("left",), ("plain",), ("red",)))
    assert {"cat", "kitten", "moves", "left", "red"} <= set(words)
    assert not {"dog", "right", "blue", "ocean"} & set(words)

"""Clips of more than one subject in one place: pairs, a camera that pans, day and night."""

import random
import re
from dataclasses import replace

import numpy as np
import pytest

from latte_core.data import russian
from latte_core.data.captions import (
    ENGLISH_CAMERA,
    LEFT,
    NEITHER,
    RIGHT,
    plural,
    tell_caption,
    vocabulary,
    write_caption,
)
from latte_core.data.motions import MOTIONS
from latte_core.data.render import PAN, render_clip
from latte_core.data.scenes import COLOURS, SCENES
from latte_core.data.sprites import SUBJECTS
from latte_core.data.world import COMPOSITIONS, ClipSpec, World
from latte_core.errors import DataError

WHOLE = World(compositions=tuple(COMPOSITIONS), languages=("en", "ru"))
SIZE = 64
JOINTS = {"and", "while", "и", "а"}
PAIR = ClipSpec("balloon", "up", "plain", "white", "", 3, "star", "down")


def drawn(composition, count=60, seed=0, held_out=False):
    rng = np.random.default_rng(seed)
    return [WHOLE.draw_composed(rng, composition, held_out) for _ in range(count)]


def nouns_of(mover):
    english = {mover.subject, *SUBJECTS[mover.subject].synonyms}
    return english | {noun for noun, _ in russian.NOUNS[mover.subject]}


def verbs_of(mover):
    return {*MOTIONS[mover.motion], *russian.VERBS[mover.motion]}


def heights(clip, columns):
    """The centre y of what differs from the white ground in some columns, frame by frame."""
    part = clip[:, :, columns].astype(np.float64)
    weight = np.abs(part - part.max(axis=2, keepdims=True)).sum(-1)
    weight[weight < 80] = 0
    y = np.arange(SIZE)[:, None] / SIZE
    return (weight * y).sum((1, 2)) / weight.sum((1, 2))


def test_each_of_two_does_its_own_in_its_half():
    clip = render_clip(PAIR, 16, SIZE)
    left, right = heights(clip, slice(0, 32)), heights(clip, slice(32, 64))
    assert left[0] - left[-1] > 0.3  # the balloon rises
    assert right[-1] - right[0] > 0.3  # the star falls
    alone = replace(PAIR, partner="", partner_motion="")
    assert not np.array_equal(render_clip(alone, 16, SIZE), clip)


@pytest.mark.parametrize("motion", MOTIONS)
def test_neither_of_two_leaves_its_half_far(motion):
    for seed in range(3):
        spec = replace(PAIR, motion=motion, partner_motion=motion, seed=seed)
        clip = render_clip(spec, 16, SIZE).astype(int)
        busy = (np.abs(clip - clip[:, :, :1]).sum(-1) > 80).mean((0, 1))
        x = np.arange(SIZE)
        for half in (slice(0, 32), slice(32, 64)):
            assert busy[half].sum() > 1
            centre = (busy[half] * x[half]).sum() / busy[half].sum() / SIZE
            assert abs(centre - (0.25 if half.start == 0 else 0.75)) < 0.11


@pytest.mark.parametrize("side", ["left", "right"])
def test_camera_moves_the_scene_the_other_way(side):
    spec = ClipSpec("balloon", "down", "city", "white", "small", 5, camera=side)
    width = 80  # of which the camera pans a whole number of pixels
    first, last = render_clip(spec, 16, SIZE, width, (0, 15)).astype(int)[:, 20:52]
    errors = {}
    for shift in range(-48, 49):
        a = first[:, max(0, shift) : width + min(0, shift)]
        b = last[:, max(0, -shift) : width + min(0, -shift)]
        errors[shift] = np.abs(a - b).mean()
    assert min(errors, key=errors.get) == PAN * width * (1 if side == "right" else -1)
    still = render_clip(replace(spec, camera=""), 16, SIZE, width, (0, 15)).astype(int)[:, 20:52]
    assert np.abs(still[0] - still[1]).mean() < errors[0]


@pytest.mark.parametrize("scene", [name for name, scene in SCENES.items() if scene.nights])
def test_night_is_dark_and_day_is_what_nothing_is_said_of(scene):
    spec = ClipSpec("balloon", "up", scene, "white", "small", 4)
    unsaid, day, night = (
        render_clip(replace(spec, light=light), 4, SIZE) for light in ("", "day", "night")
    )
    assert np.array_equal(unsaid, day)
    assert night.mean() < 0.6 * day.mean()


def test_world_without_compositions_draws_as_it_always_did():
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    plain = World()
    specs = [plain.draw(rng) for _ in range(50)]
    assert not any(spec.has(name) for spec in specs for name in COMPOSITIONS)
    assert specs == [WHOLE.plainly.draw(again) for _ in range(50)]


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_composed_clips_have_that_composition_and_no_other(composition):
    for spec in drawn(composition):
        assert {name for name in COMPOSITIONS if spec.has(name)} == {composition}
        assert not WHOLE.is_held_out(spec)
    assert all(WHOLE.is_held_out(spec) for spec in drawn(composition, 20, held_out=True))


def test_no_part_of_a_trained_pair_is_held_out():
    for spec in drawn("pair", 200):
        for mover in spec.movers:
            alone = replace(spec, subject=mover.subject, motion=mover.motion, partner="")
            assert not WHOLE.is_held_out(alone)
        assert spec.subject != spec.partner


def test_shares_of_compositions_leave_most_clips_simple():
    rng = np.random.default_rng(2)
    specs = [WHOLE.draw(rng) for _ in range(1000)]
    share = {name: np.mean([spec.has(name) for spec in specs]) for name in COMPOSITIONS}
    assert 0.2 < share["pair"] < 0.35
    assert min(share["camera"], share["light"]) > 0.05
    assert np.mean([not any(s.has(name) for name in COMPOSITIONS) for s in specs]) > 0.4


def test_places_that_allow_nothing_say_so():
    with pytest.raises(DataError, match="No place of this world allows 'light'"):
        replace(WHOLE, scenes=("plain",)).draw_composed(np.random.default_rng(0), "light")
    with pytest.raises(DataError, match="This world has no 'pair', only none"):
        WHOLE.plainly.draw_composed(np.random.default_rng(0), "pair")
    with pytest.raises(DataError, match=r"World.compositions.*rain"):
        World(compositions=("rain",))


def test_english_tells_both_and_what_each_does():
    words = random.Random(0)
    for spec in drawn("pair", 300):
        caption = write_caption(spec, words)
        for mover in spec.movers:
            nouns = (mover.subject, *SUBJECTS[mover.subject].synonyms)
            assert any(re.search(rf"\b{noun}\b", caption) for noun in nouns), caption
            verbs = [v for verb in MOTIONS[mover.motion] for v in (verb, plural(verb))]
            assert any(re.search(rf"\b{verb}\b", caption) for verb in verbs), caption
        assert re.search(r"\b(and|while)\b", caption)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_the_left_one_is_told_first(language):
    words = random.Random(0)
    for spec in drawn("pair", 200):
        caption = write_caption(spec, words, (language,))
        places = []
        for mover in spec.movers:
            nouns = [noun for noun, _ in russian.NOUNS[mover.subject]]
            if language == "en":
                nouns = [mover.subject, *SUBJECTS[mover.subject].synonyms]
            found = [re.search(rf"\b{noun}\b", caption) for noun in nouns]
            places.append(min(match.start() for match in found if match))
        assert places == sorted(places), caption


@pytest.mark.parametrize("language", ["en", "ru"])
def test_words_of_either_subject_are_marked(language):
    words, shared = random.Random(0), 0
    for spec in drawn("pair", 300):
        parts = tell_caption(spec, words, (language,))
        for side, mover in zip((LEFT, RIGHT), spec.movers, strict=True):
            marked = {text for text, told in parts if told == side}
            noun, verb = marked & nouns_of(mover), marked & verbs_of(mover)
            assert len(noun) == 1 and len(verb) <= 1 and marked == noun | verb
            shared += not verb
        rest = {text for text, told in parts if told == NEITHER}
        assert not any(rest & nouns_of(mover) for mover in spec.movers)
        assert rest & JOINTS
    assert 60 < shared < 240  # of 600: what both do is told once, of neither


@pytest.mark.parametrize("language", ["en", "ru"])
def test_parts_are_the_caption(language):
    for number, spec in enumerate(drawn("pair", 50)):
        parts = tell_caption(spec, random.Random(number), (language,))
        caption = write_caption(spec, random.Random(number), (language,))
        assert " ".join(text for text, _ in parts) == caption


@pytest.mark.parametrize("language", ["en", "ru"])
def test_nothing_is_marked_where_there_is_one_subject(language):
    words = random.Random(0)
    for composition in ("camera", "light"):
        for spec in drawn(composition, 50):
            assert {side for _, side in tell_caption(spec, words, (language,))} == {NEITHER}


def test_plural_verbs():
    for verb, wanted in {
        "flies up": "fly up",
        "goes left": "go left",
        "does not move": "do not move",
        "jumps up and down": "jump up and down",
        "bounces": "bounce",
    }.items():
        assert plural(verb) == wanted
    assert list(russian.VERBS_OF_TWO) == list(MOTIONS)
    for motion, verbs in russian.VERBS_OF_TWO.items():
        assert len(verbs) == len(russian.VERBS[motion])
        assert all(re.search("[аяую]т(ся)?( |$)", verb) for verb in verbs)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_camera_and_light_are_told(language):
    words = random.Random(0)
    phrases = ENGLISH_CAMERA if language == "en" else russian.CAMERA
    for spec in drawn("camera", 100):
        caption = write_caption(spec, words, (language,))
        assert any(phrase in caption for phrase in phrases[spec.camera]), caption
    lights = {
        "en": {"day": ("by day",), "night": SCENES["night"].phrases},
        "ru": {"day": ("днем",), "night": russian.PLACES["night"]},
    }[language]
    for spec in drawn("light", 100):
        caption = write_caption(spec, words, (language,))
        assert any(phrase in caption for phrase in lights[spec.light]), caption


def test_vocabulary_covers_composed_captions_and_names_their_words():
    rng, words = np.random.default_rng(2), random.Random(2)
    for languages in (("en",), ("ru",), ("en", "ru")):
        world = replace(WHOLE, languages=languages)
        known = set(vocabulary(world))
        for _ in range(500):
            caption = write_caption(world.draw(rng), words, languages)
            assert set(caption.split()) <= known, caption
    assert not {"and", "camera"} & set(vocabulary(World(motions=("left",), colours=tuple(COLOURS))))

"""What is said of a clip, in every language that the world speaks.

A caption is drawn from a random source: another noun, verb or order of words each time, so that a
model learns what the words mean rather than where they stand.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from latte_core.data import russian
from latte_core.data.motions import MOTIONS
from latte_core.data.scenes import SCENES
from latte_core.data.sprites import SUBJECTS
from latte_core.data.world import ClipSpec, World

ENGLISH_CAMERA: dict[str, tuple[str, ...]] = {
    "left": ("the camera pans left", "the camera moves left", "camera pans to the left"),
    "right": ("the camera pans right", "the camera moves right", "camera pans to the right"),
}
ENGLISH_LIGHT: dict[str, tuple[str, ...]] = {"night": SCENES["night"].phrases, "day": ("by day",)}
LEFT, RIGHT, NEITHER = -1, 1, 0

Part = tuple[str, int]
"""Some words of a caption, and which of two subjects they tell: LEFT, RIGHT or NEITHER."""


@dataclass(frozen=True)
class Language:
    """How one language tells a clip, and the phrases that it may use for a world.

    `tell` gives a caption in parts; `kinds` are those that say what a clip shows, by kind;
    `others` stand around them.
    """

    tell: Callable[[ClipSpec, random.Random], list[Part]]
    kinds: Callable[[World], dict[str, list[str]]]
    others: Callable[[World], list[str]]

    def words(self, world: World) -> set[str]:
        """Every word that a caption may contain."""
        phrases = [p for kind in self.kinds(world).values() for p in kind] + self.others(world)
        return {word for phrase in phrases for word in phrase.split()}


def write_caption(spec: ClipSpec, rng: random.Random, languages: Sequence[str] = ("en",)) -> str:
    """Tell a clip in one sentence, in one of the languages; the wording is drawn from `rng`."""
    return " ".join(text for text, _ in tell_caption(spec, rng, languages))


def tell_caption(
    spec: ClipSpec, rng: random.Random, languages: Sequence[str] = ("en",)
) -> list[Part]:
    """Like `write_caption`, in parts: which words tell the left subject, and which the right one.

    An article, and a verb that both share, tell neither; so does all that is said of one subject.
    """
    language = languages[0] if len(languages) == 1 else rng.choice(languages)
    return LANGUAGES[language].tell(spec, rng)


def vocabulary(world: World) -> list[str]:
    """All words that captions of this world can contain, sorted."""
    return sorted(
        {word for language in world.languages for word in LANGUAGES[language].words(world)}
    )


def _tell_english(spec: ClipSpec, rng: random.Random) -> list[Part]:
    if spec.partner:
        return _english_pair(spec, rng)
    noun = _english_noun(spec.subject, spec.size, rng)
    verb = rng.choice(MOTIONS[spec.motion])
    place = _english_place(spec, rng)
    order = rng.random()
    if order < 0.6:
        told = f"{noun} {verb} {place}"
    elif order < 0.8:
        told = f"{place} {noun} {verb}"
    elif order < 0.9:
        told = f"{noun} {place} {verb}"
    else:
        told = f"a video of {noun} that {verb} {place}"
    return _with_camera([(told, NEITHER)], spec, rng, ENGLISH_CAMERA, ("", "while ", "and "))


def _english_noun(subject: str, size: str, rng: random.Random) -> str:
    """A subject with its article and size, one time in four by another name."""
    synonyms = SUBJECTS[subject].synonyms
    noun = rng.choice(synonyms) if synonyms and rng.random() < 0.25 else subject
    noun = f"{size} {noun}".strip()
    article = rng.choice(["an" if noun[0] in "aeiou" else "a"] * 2 + ["the", "one"])
    return f"{article} {noun}"


def _english_place(spec: ClipSpec, rng: random.Random) -> str:
    if spec.scene == "plain":
        return f"on a {rng.choice(['', 'plain '])}{spec.colour} background"
    place = rng.choice(SCENES[spec.scene].phrases)
    return _in_light(place, spec, rng, ENGLISH_LIGHT)


def _in_light(
    place: str, spec: ClipSpec, rng: random.Random, phrases: Mapping[str, Sequence[str]]
) -> str:
    """Say before or after a place whether it is day or night there, if that is to be said."""
    return _either_way((place, rng.choice(phrases[spec.light])), rng) if spec.light else place


def _english_pair(spec: ClipSpec, rng: random.Random) -> list[Part]:
    """Two subjects, joined or each with its verb, before or after the place; the left one first.

    Were the order left open, a model could not know which of the two goes where, and would draw
    something of both on either side.
    """
    place = [(_english_place(spec, rng), NEITHER)]
    one = _apart(_english_noun(spec.subject, "", rng), LEFT)
    other = _apart(_english_noun(spec.partner, "", rng), RIGHT)
    verbs = [rng.choice(MOTIONS[mover.motion]) for mover in spec.movers]
    if spec.motion == spec.partner_motion and rng.random() < 0.7:
        told = [*one, ("and", NEITHER), *other, (plural(verbs[0]), NEITHER)]
    else:
        joint = rng.choice(["and", "and", "while"])
        told = [*one, (verbs[0], LEFT), (joint, NEITHER), *other, (verbs[1], RIGHT)]
    return told + place if rng.random() < 0.7 else place + told


def _apart(noun: str, side: int) -> list[Part]:
    """An article, which tells neither subject, and the noun behind it."""
    article, name = noun.split(" ", 1)
    return [(article, NEITHER), (name, side)]


def plural(verb: str) -> str:
    """An English verb phrase as two do it: "flies up" -> "fly up"."""
    first, *rest = verb.split()
    irregular = {"flies": "fly", "goes": "go", "does": "do"}
    return " ".join([irregular.get(first, first.removesuffix("s")), *rest])


def _either_way(both: Sequence[str], rng: random.Random) -> str:
    return " ".join(both if rng.random() < 0.5 else both[::-1])


def _with_camera(
    told: list[Part],
    spec: ClipSpec,
    rng: random.Random,
    phrases: Mapping[str, Sequence[str]],
    joints: Sequence[str],
) -> list[Part]:
    """Say which way the camera pans, before or after what else is told."""
    if not spec.camera:
        return told
    camera = rng.choice(phrases[spec.camera])
    if rng.random() < 0.25:
        return [(camera, NEITHER), *told]
    return [*told, (f"{rng.choice(joints)}{camera}", NEITHER)]


def _english_kinds(world: World) -> dict[str, list[str]]:
    kinds = {
        "subjects": [w for s in world.subjects for w in (s, *SUBJECTS[s].synonyms)],
        "motions": [phrase for motion in world.motions for phrase in MOTIONS[motion]],
        "places": [p for s in world.scenes if s != "plain" for p in SCENES[s].phrases],
        "backgrounds": list(world.colours) if "plain" in world.scenes else [],
    }
    return kinds | _composition_kind(world, "and", ENGLISH_CAMERA, ENGLISH_LIGHT)


def _english_others(world: World) -> list[str]:
    others = [*world.colours, "a an the one small big on a plain background video of that"]
    pairs = ["while", *(plural(p) for m in world.motions for p in MOTIONS[m])]
    return others + _of_compositions(world, pairs, ["while and"], SCENES["night"].phrases)


def _composition_kind(
    world: World,
    joint: str,
    camera: Mapping[str, Sequence[str]],
    light: Mapping[str, Sequence[str]],
) -> dict[str, list[str]]:
    """The words of a world's compositions, as a kind of their own; nothing if it has none."""
    pans = [phrase for phrases in camera.values() for phrase in phrases]
    told = _of_compositions(world, [joint], pans, [phrases[0] for phrases in light.values()])
    return {"compositions": told} if told else {}


def _of_compositions(
    world: World, pair: Sequence[str], camera: Sequence[str], light: Sequence[str]
) -> list[str]:
    """The phrases of those compositions that a world has."""
    phrases = {"pair": pair, "camera": camera, "light": light}
    return [phrase for name in world.compositions for phrase in phrases[name]]


def _tell_russian(spec: ClipSpec, rng: random.Random) -> list[Part]:
    """Subject, verb and place in any order, as Russian allows; adjectives agree with the noun."""
    if spec.partner:
        parts = [_russian_pair(spec, rng)]
    else:
        noun, gender = rng.choice(russian.NOUNS[spec.subject])
        noun = f"{russian.SIZES[spec.size][gender]} {noun}".strip()
        parts = [[(noun, NEITHER)], [(rng.choice(russian.VERBS[spec.motion]), NEITHER)]]
    parts.append([(_russian_place(spec, rng), NEITHER)])
    if rng.random() < 0.5:
        rng.shuffle(parts)
    start = [("видео где", NEITHER)] if rng.random() < 0.1 else []
    told = [*start, *itertools.chain.from_iterable(parts)]
    return _with_camera(told, spec, rng, russian.CAMERA, ("", "а ", "и "))


def _russian_place(spec: ClipSpec, rng: random.Random) -> str:
    if spec.scene == "plain":
        plain = rng.choice(["", "однотонном "])
        return f"на {plain}{rng.choice(russian.GROUNDS[spec.colour])} фоне"
    place = rng.choice(russian.PLACES[spec.scene])
    return _in_light(place, spec, rng, russian.LIGHT)


def _russian_pair(spec: ClipSpec, rng: random.Random) -> list[Part]:
    """The same in Russian, the left one first."""
    left, right = (rng.choice(russian.NOUNS[mover.subject])[0] for mover in spec.movers)
    if spec.motion == spec.partner_motion and rng.random() < 0.7:
        verb = rng.choice(russian.VERBS_OF_TWO[spec.motion])
        both = [(left, LEFT), ("и", NEITHER), (right, RIGHT)]
        return _swapped(both, [(verb, NEITHER)], rng)
    verbs = [rng.choice(russian.VERBS[mover.motion]) for mover in spec.movers]
    one = _swapped([(left, LEFT)], [(verbs[0], LEFT)], rng)
    other = _swapped([(right, RIGHT)], [(verbs[1], RIGHT)], rng)
    return [*one, (rng.choice(["и", "а"]), NEITHER), *other]


def _swapped(subject: list[Part], verb: list[Part], rng: random.Random) -> list[Part]:
    """Subject and verb, one time in four the verb first."""
    return [*verb, *subject] if rng.random() < 0.25 else [*subject, *verb]


def _russian_kinds(world: World) -> dict[str, list[str]]:
    grounds = [f"на {ground} фоне" for c in world.colours for ground in russian.GROUNDS[c]]
    kinds = {
        "subjects": [noun for s in world.subjects for noun, _ in russian.NOUNS[s]],
        "motions": [phrase for motion in world.motions for phrase in russian.VERBS[motion]],
        "places": [p for s in world.scenes if s != "plain" for p in russian.PLACES[s]],
        "backgrounds": grounds if "plain" in world.scenes else [],
    }
    return kinds | _composition_kind(world, "и", russian.CAMERA, russian.LIGHT)


def _russian_others(world: World) -> list[str]:
    sizes = [form for size in russian.SIZES.values() for form in size.values()]
    colours = [ground for c in world.colours for ground in russian.GROUNDS[c]]
    others = [*sizes, *colours, "видео где на однотонном фоне"]
    pairs = ["а", *(p for m in world.motions for p in russian.VERBS_OF_TWO[m])]
    return others + _of_compositions(world, pairs, ["а и"], russian.PLACES["night"])


LANGUAGES: dict[str, Language] = {
    "en": Language(_tell_english, _english_kinds, _english_others),
    "ru": Language(_tell_russian, _russian_kinds, _russian_others),
}

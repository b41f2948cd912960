"""What is said of a clip, in every language that the world speaks.

A caption is drawn from a random source: another noun, verb or order of words each time, so that a
model learns what the words mean rather than where they stand.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latte_core.data import russian
from latte_core.data.scenes import SCENES
from latte_core.data.sprites import SUBJECTS
from latte_core.data.world import MOTIONS, ClipSpec, World


@dataclass(frozen=True)
class Language:
    """How one language tells a clip, and the phrases that it may use for a world.

    `kinds` are those that say what a clip shows, by kind; `others` stand around them.
    """

    write: Callable[[ClipSpec, random.Random], str]
    kinds: Callable[[World], dict[str, list[str]]]
    others: Callable[[World], list[str]]

    def words(self, world: World) -> set[str]:
        """Every word that a caption may contain."""
        phrases = [p for kind in self.kinds(world).values() for p in kind] + self.others(world)
        return {word for phrase in phrases for word in phrase.split()}


def write_caption(spec: ClipSpec, rng: random.Random, languages: Sequence[str] = ("en",)) -> str:
    """Tell a clip in one sentence, in one of the languages; the wording is drawn from `rng`."""
    language = languages[0] if len(languages) == 1 else rng.choice(languages)
    return LANGUAGES[language].write(spec, rng)


def vocabulary(world: World) -> list[str]:
    """All words that captions of this world can contain, sorted."""
    return sorted(
        {word for language in world.languages for word in LANGUAGES[language].words(world)}
    )


def _write_english(spec: ClipSpec, rng: random.Random) -> str:
    synonyms = SUBJECTS[spec.subject].synonyms
    noun = rng.choice(synonyms) if synonyms and rng.random() < 0.25 else spec.subject
    noun = f"{spec.size} {noun}".strip()
    article = rng.choice(["an" if noun[0] in "aeiou" else "a"] * 2 + ["the", "one"])
    verb = rng.choice(MOTIONS[spec.motion])
    if spec.scene == "plain":
        place = f"on a {rng.choice(['', 'plain '])}{spec.colour} background"
    else:
        place = rng.choice(SCENES[spec.scene].phrases)
    order = rng.random()
    if order < 0.6:
        return f"{article} {noun} {verb} {place}"
    if order < 0.8:
        return f"{place} {article} {noun} {verb}"
    if order < 0.9:
        return f"{article} {noun} {place} {verb}"
    return f"a video of {article} {noun} that {verb} {place}"


def _english_kinds(world: World) -> dict[str, list[str]]:
    return {
        "subjects": [w for s in world.subjects for w in (s, *SUBJECTS[s].synonyms)],
        "motions": [phrase for motion in world.motions for phrase in MOTIONS[motion]],
        "places": [p for s in world.scenes if s != "plain" for p in SCENES[s].phrases],
        "backgrounds": list(world.colours) if "plain" in world.scenes else [],
    }


def _english_others(world: World) -> list[str]:
    return [*world.colours, "a an the one small big on a plain background video of that"]


def _write_russian(spec: ClipSpec, rng: random.Random) -> str:
    """Subject, verb and place in any order, as Russian allows; adjectives agree with the noun."""
    noun, gender = rng.choice(russian.NOUNS[spec.subject])
    parts = [f"{russian.SIZES[spec.size][gender]} {noun}".strip()]
    parts.append(rng.choice(russian.VERBS[spec.motion]))
    if spec.scene == "plain":
        plain = rng.choice(["", "однотонном "])
        parts.append(f"на {plain}{rng.choice(russian.GROUNDS[spec.colour])} фоне")
    else:
        parts.append(rng.choice(russian.PLACES[spec.scene]))
    if rng.random() < 0.5:
        rng.shuffle(parts)
    start = "видео где " if rng.random() < 0.1 else ""
    return start + " ".join(parts)


def _russian_kinds(world: World) -> dict[str, list[str]]:
    grounds = [f"на {ground} фоне" for c in world.colours for ground in russian.GROUNDS[c]]
    return {
        "subjects": [noun for s in world.subjects for noun, _ in russian.NOUNS[s]],
        "motions": [phrase for motion in world.motions for phrase in russian.VERBS[motion]],
        "places": [p for s in world.scenes if s != "plain" for p in russian.PLACES[s]],
        "backgrounds": grounds if "plain" in world.scenes else [],
    }


def _russian_others(world: World) -> list[str]:
    sizes = [form for size in russian.SIZES.values() for form in size.values()]
    colours = [ground for c in world.colours for ground in russian.GROUNDS[c]]
    return [*sizes, *colours, "видео где на однотонном фоне"]


LANGUAGES: dict[str, Language] = {
    "en": Language(_write_english, _english_kinds, _english_others),
    "ru": Language(_write_russian, _russian_kinds, _russian_others),
}

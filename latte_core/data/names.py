"""Words that people use for things, and which subject of a world comes nearest to them.

The table `assets/world/names.jsonl` has a line for every picture of an animal, plant, food, place
or object in Unicode CLDR: its code, its group, and its names and keywords in English and Russian.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latte_core.data import russian
from latte_core.data.captions import vocabulary
from latte_core.data.sprites import SUBJECTS
from latte_core.data.world import World

NAMES = Path(__file__).resolve().parents[2] / "assets" / "world" / "names.jsonl"
SHARED_GROUP = 0.5  # of a shared keyword: two mammals are nearer than a mammal and a car
TOO_COMMON = 12  # pictures; a word of more of them ("animal") points at nothing


@dataclass(frozen=True)
class Names:
    """What one picture is called: words by language, and its group ("animal-mammal")."""

    code: str
    group: str
    words: dict[str, tuple[str, ...]]

    def keywords(self) -> set[str]:
        """Its words in all languages."""
        return {word for words in self.words.values() for word in words}


def load_names(path: Path = NAMES) -> list[Names]:
    """Read the table."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [
        Names(row["code"], row["group"], {lang: tuple(row[lang]) for lang in ("en", "ru")})
        for row in rows
    ]


def nearest_subjects(world: World, names: Sequence[Names] | None = None) -> dict[str, str]:
    """For words that this world does not know, the word for its nearest subject.

    {"lion": "cat", "собака": "кот"}: nearness is the number of keywords that two pictures share,
    weighed by how rare they are, plus their group. Words of a language lead to that language.
    """
    table = load_names() if names is None else names
    spread = Counter(word for row in table for word in row.keywords())
    codes = {SUBJECTS[name].code.removesuffix("-fe0f"): name for name in world.subjects}
    own = {codes[row.code]: row for row in table if row.code in codes}
    known = set(vocabulary(world))
    found: dict[str, tuple[float, str]] = {}
    for row in table:
        score, subject = max(
            ((_nearness(row, own[name], spread), name) for name in own), default=(0.0, "")
        )
        if score == 0:
            continue
        for language in world.languages:
            for rank, word in enumerate(row.words[language]):
                closeness = score / (1 + rank)  # the name itself says more than a keyword
                rare = spread[word] <= TOO_COMMON and word not in known
                if rare and closeness > found.get(word, (0.0, ""))[0]:
                    found[word] = (closeness, _said(subject, language))
    return {word: name for word, (_, name) in sorted(found.items())}


def _nearness(one: Names, other: Names, spread: Counter[str]) -> float:
    shared = one.keywords() & other.keywords()
    weight = sum(1 / spread[word] for word in shared)
    return weight + (SHARED_GROUP if one.group == other.group else 0.0)


def _said(subject: str, language: str) -> str:
    """The subject's commonest name."""
    return russian.NOUNS[subject][0][0] if language == "ru" else subject

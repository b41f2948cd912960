"""A closed vocabulary: what to say of a word that a model has never read.

A model that learned a few hundred words should name the others, and the known word that comes
nearest, rather than pass over them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from latte_core.components.prompt_cleaning import fold_letters

SIMILAR = 0.75  # of difflib's ratio: "rokcet" and "rockets" are "rocket", "pocket" is too
SHORT = 4  # letters; so short a word is soon like another: "from" is not "frog"
SIMILAR_SHORT = 0.85  # one letter more or less, none changed: "fall" is "falls"
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Vocabulary:
    """Known words, and for other words (`aliases`) the nearest known one, "" if none is near."""

    words: Sequence[str]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def nearest(self, word: str) -> str | None:
        """The known word nearest to an unknown one: by meaning, else by spelling, else None."""
        if word in self.aliases:
            return self.aliases[word] or None
        alike = SIMILAR if len(word) > SHORT else SIMILAR_SHORT
        if similar := get_close_matches(word, self.words, 1, alike):
            return similar[0]
        if similar := get_close_matches(word, list(self.aliases), 1, alike):
            return self.aliases[similar[0]] or None
        return None

    def suggestions(self, unknown: Sequence[str]) -> dict[str, str]:
        """The nearest known word for each unknown one that has such."""
        found = {word: self.nearest(word) for word in unknown}
        return {word: near for word, near in found.items() if near is not None}


def put_nearest(prompt: str, nearest: Mapping[str, str]) -> str:
    """The prompt as it was typed, but for the words that `nearest` leads to a known one."""
    return WORD.sub(lambda word: nearest.get(fold_letters(word[0]), word[0]), prompt)

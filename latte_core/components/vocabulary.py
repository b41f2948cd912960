"""A closed vocabulary: what to say of a word that a model has never read.

A model that learned a few hundred words should name the others, and the known word that comes
nearest, rather than pass over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

SIMILAR = 0.75  # of difflib's ratio: "rokcet" and "rockets" are "rocket", "pocket" is too


@dataclass(frozen=True)
class Vocabulary:
    """Known words, and for other words of the same world (`aliases`) the nearest known one."""

    words: Sequence[str]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def nearest(self, word: str) -> str | None:
        """The known word nearest to an unknown one: by meaning, else by spelling, else None."""
        if word in self.aliases:
            return self.aliases[word]
        if similar := get_close_matches(word, self.words, 1, SIMILAR):
            return similar[0]
        if similar := get_close_matches(word, list(self.aliases), 1, SIMILAR):
            return self.aliases[similar[0]]
        return None

    def suggestions(self, unknown: Sequence[str]) -> dict[str, str]:
        """The nearest known word for each unknown one that has such."""
        found = {word: self.nearest(word) for word in unknown}
        return {word: near for word, near in found.items() if near is not None}

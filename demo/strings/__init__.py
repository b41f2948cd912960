"""The words of the page: one JSON file per language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
DEFAULT_LANGUAGE = "en"


class Texts:
    """The strings of one language, filled in on call: `texts("run.step", index=3, total=20)`."""

    def __init__(self, table: dict[str, Any], language: str = DEFAULT_LANGUAGE) -> None:
        self._table = table
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        """The sentence named `key` with its placeholders filled."""
        text: str = self._table[key]
        return text.format(**values) if values else text

    def __contains__(self, key: str) -> bool:
        """Whether there is a sentence named `key`."""
        return key in self._table

    def many(self, key: str) -> list[str]:
        """The list of strings named `key`."""
        return list(self._table[key])

    def duration(self, seconds: float) -> str:
        """A length of time as a person says it: `12 s`, `3 min 5 s`."""
        whole = max(1, round(seconds))
        if whole < 60:
            return self("time.seconds", seconds=whole)
        return self("time.minutes", minutes=whole // 60, seconds=whole % 60)


def languages() -> list[str]:
    """The languages that the page speaks."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_texts(language: str = DEFAULT_LANGUAGE) -> Texts:
    """Read the strings of one language. Raises FileNotFoundError for one that is not there."""
    table = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return Texts(table, language)

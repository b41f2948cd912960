"""The few pieces of the page that are plain markup. Every text in them is escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.strings import Texts

if TYPE_CHECKING:
    from latte_core import EngineInfo

LOGO = Path(__file__).parent / "static" / "logo.svg"


def brand(texts: Texts) -> str:
    """The name of the app and its one sentence."""
    return (
        f'<h1 class="ls-name">{LOGO.read_text(encoding="utf-8")}'
        f"<span>{escape(texts('app.title'))}</span></h1>"
        f'<p class="ls-tagline">{escape(texts("app.tagline"))}</p>'
    )


def hint(texts: Texts) -> str:
    """The keys that work everywhere."""
    return f'<p class="ls-hint">{escape(texts("prompt.hint"))}</p>'


def model_line(text: str, state: str) -> str:
    """How the model is, behind a dot of the colour of `state`: loading, ready or failed."""
    return (
        f'<p class="ls-model" data-state="{escape(state)}" role="status">'
        f'<span class="ls-dot" aria-hidden="true"></span>{escape(text)}</p>'
    )


def model_name(info: EngineInfo) -> str:
    """The name on the model's card, else that of its folder."""
    return str(info.card.get("name") or Path(info.model).name)


def about_model(info: EngineInfo, texts: Texts) -> str:
    """What the card says, the words that the model knows, and the memory plan that was chosen."""
    parts = []
    if info.card.get("description"):
        parts.append(f"<p>{escape(str(info.card['description']))}</p>")
    parts.append(f"<p>{escape(texts('model.plan', plan=info.plan))}</p>")
    if info.card.get("vocabulary"):
        words = _words(info.card["vocabulary"], texts)
        summary = escape(texts("model.words"))
        parts.append(f"<details><summary>{summary}</summary>{words}</details>")
    return f'<div class="ls-about">{"".join(parts)}</div>'


def _words(vocabulary: Any, texts: Texts) -> str:
    """A list of words, or lists of words by kind."""
    if isinstance(vocabulary, dict):
        kinds = (
            f"<dt>{escape(str(kind))}</dt><dd>{_words(words, texts)}</dd>"
            for kind, words in vocabulary.items()
        )
        return f"<dl>{''.join(kinds)}</dl>"
    if isinstance(vocabulary, str):
        return escape(vocabulary)
    return escape(texts("list.join").join(str(word) for word in vocabulary))

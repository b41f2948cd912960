"""The few pieces of the page that are plain markup. Every text in them is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.strings import Texts, languages, load_texts

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


def no_prompt(texts: Texts) -> str:
    """What stands in the prompt's place when the model takes none."""
    return f'<p class="ls-unprompted">{escape(texts("prompt.none"))}</p>'


def languages_nav(texts: Texts, current: str) -> str:
    """One link per language, and the button that changes light to dark."""
    links = "".join(
        f'<a href="./?lang={name}" lang="{name}" hreflang="{name}"'
        f"{' aria-current=page' if name == current else ''}>"
        f"{escape(load_texts(name)('app.language.name'))}</a>"
        for name in languages()
    )
    theme = escape(texts("app.theme"))
    return (
        f'<nav class="ls-languages" aria-label="{escape(texts("app.language"))}">{links}</nav>'
        f'<button type="button" class="ls-theme" aria-label="{theme}" title="{theme}"></button>'
    )


def mode_lines(texts: Texts) -> str:
    """What each mode teaches, a line each; the page shows the one that is chosen."""
    return "".join(
        f'<p class="ls-lesson" data-mode="{mode}">'
        f"{escape(texts(f'settings.mode.{mode}.about'))}</p>"
        for mode in ("video", "image", "joint")
    )


def budget_line(texts: Texts, plan: str, share: float) -> str:
    """The step plan that a budget chose; nothing for the full one."""
    if not plan or plan == "full":
        return ""
    said = texts("settings.budget.plan", plan=plan, percent=round(100 * share))
    return f'<p class="ls-lesson ls-budget">{escape(said)}</p>'


def key_list(texts: Texts) -> str:
    """The keys that work on the page."""
    keys = {
        "Ctrl + Enter": "generate",
        "Esc": "stop",
        "R": "dice",
        texts("keys.space"): "play",
        "← →": "frames",
        "↑ ↓": "steps",
    }
    rows = "".join(
        f"<dt><kbd>{escape(key)}</kbd></dt><dd>{escape(texts(f'keys.{what}'))}</dd>"
        for key, what in keys.items()
    )
    summary = escape(texts("keys.title"))
    return f'<details class="ls-keys"><summary>{summary}</summary><dl>{rows}</dl></details>'


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


def card_in(card: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    """A model's card, what it says in the page's language in the place of its English."""
    own = card.get("translations", {}).get(texts.language, {})
    return {**card, **own}


def about_model(info: EngineInfo, texts: Texts) -> str:
    """What the card says, the words that the model knows, and the memory plan that was chosen."""
    parts = []
    card = card_in(info.card, texts)
    if card.get("description"):
        parts.append(f"<p>{escape(str(card['description']))}</p>")
    parts.append(f"<p>{escape(texts('model.plan', plan=plan_of_now(info)))}</p>")
    if card.get("vocabulary"):
        words = _words(card["vocabulary"], texts)
        summary = escape(texts("model.words"))
        parts.append(f"<details><summary>{summary}</summary>{words}</details>")
    return f'<div class="ls-about">{"".join(parts)}</div>'


def plan_of_now(info: EngineInfo) -> str:
    """The memory plan: another than at loading if memory ran short or a visitor chose one."""
    return info.memory.sentence if info.memory else info.plan


def _words(vocabulary: Any, texts: Texts) -> str:
    """A list of words, or lists of words by kind."""
    if isinstance(vocabulary, dict):
        kinds = (
            f"<dt>{escape(_kind(str(kind), texts))}</dt><dd>{_words(words, texts)}</dd>"
            for kind, words in vocabulary.items()
        )
        return f"<dl>{''.join(kinds)}</dl>"
    if isinstance(vocabulary, str):
        return escape(vocabulary)
    return escape(texts("list.join").join(str(word) for word in vocabulary))


def _kind(kind: str, texts: Texts) -> str:
    """A kind of words in the page's language, where it has a name there."""
    key = f"model.words.{kind}"
    return texts(key) if key in texts else kind

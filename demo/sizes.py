"""Sizes of a clip as the page offers them: a few beside the one that the model was trained on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from demo.strings import Texts
from latte_core import GenerationRequest, RequestError

if TYPE_CHECKING:
    from latte_core import EngineInfo

SPELLED = re.compile(r"(\d{1,5})\s*[x×х*]\s*(\d{1,5})")
# Width and height as shares of the trained ones: smaller, wide, high, larger.
SHARES = ((1.0, 1.0), (0.5, 0.5), (0.75, 0.75), (1.5, 1.0), (1.0, 1.5), (1.5, 1.5), (2.0, 2.0))


def size_choices(texts: Texts, info: EngineInfo | None) -> list[tuple[str, str]]:
    """Sizes under their names; "" is the trained one, the first."""
    if info is None:
        return [(texts("settings.size.own"), "")]
    wide, high, multiple = info.defaults.width, info.defaults.height, info.size_multiple
    trained = _name(wide, high)
    choices = [(texts("settings.size.trained", size=trained), "")]
    for share_wide, share_high in SHARES:
        width, height = _near(wide * share_wide, multiple), _near(high * share_high, multiple)
        size = _name(width, height)
        if size != trained and (size, size) not in choices and _allowed(width, height):
            choices.append((size, size))
    return choices


def parse_size(text: Any) -> tuple[int | None, int | None]:
    """(height, width) of a size as the field has it, `96 × 64` being wide; None twice for "".

    Raises RequestError for anything else; whether the model can make it is not checked.
    """
    if text is None or text == "":
        return None, None
    found = SPELLED.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise RequestError(
            "width", f"size is {str(text)[:40]!r}, but must be width × height, such as 96 × 64."
        )
    return int(found[2]), int(found[1])


def longer_than_trained(frames: Any, info: EngineInfo) -> bool:
    """Whether a clip of so many frames is made in windows, at a tempo."""
    return isinstance(frames, int | float) and frames > info.trained_frames


def size_value(recipe: dict[str, Any], info: EngineInfo | None) -> str:
    """What the field holds for a recipe; "" for the trained size, and for another model's size."""
    sides = [recipe.get(side) for side in ("width", "height")]
    if not all(isinstance(side, int) for side in sides):
        return ""
    if info is not None:
        own = [info.defaults.width, info.defaults.height]
        if sides == own or recipe.get("model_hash", info.model_hash) != info.model_hash:
            return ""
    return _name(*sides)


def _near(side: float, multiple: int) -> int:
    return max(1, round(side / multiple)) * multiple


def _name(width: Any, height: Any) -> str:
    return f"{width} × {height}"


def _allowed(width: int, height: int) -> bool:
    try:
        GenerationRequest(width=width, height=height)
    except RequestError:
        return False
    return True

"""The recipe inside a file: every setting that made it, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latte_core.errors import MediaError

MP4_KEY = "comment"
PNG_KEY = "recipe"
TITLE = "AI-generated with Latte Studio"


def dump_recipe(recipe: dict[str, Any]) -> str:
    """A recipe as ASCII JSON. Raises MediaError if a value has no JSON form."""
    try:
        return json.dumps(recipe, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise MediaError(f"The recipe cannot be stored in a file: {error}.") from error


def read_recipe(path: Path | str) -> dict[str, Any]:
    """The recipe of an mp4 or PNG that this project wrote. Raises MediaError if it has none."""
    path = Path(path)
    readers = {".mp4": _mp4_text, ".png": _png_text}
    if path.suffix.lower() not in readers:
        raise MediaError(f"{path.name} is neither mp4 nor PNG, so it holds no recipe.")
    try:
        text = readers[path.suffix.lower()](path)
    except (OSError, ValueError, SyntaxError) as error:  # PIL reports damage as SyntaxError
        raise MediaError(f"{path.name} cannot be read: {error}.") from error
    return parse_recipe(text, path.name)


def parse_recipe(text: str | None, name: str) -> dict[str, Any]:
    """JSON text -> recipe. Raises MediaError if it is anything but one JSON object."""
    try:
        recipe = json.loads(text or "")
    except (ValueError, RecursionError):
        recipe = None
    if not isinstance(recipe, dict):
        raise MediaError(f"{name} holds no recipe: it was made by another program.")
    return recipe


def _mp4_text(path: Path) -> str | None:
    import av

    with av.open(str(path)) as container:
        return container.metadata.get(MP4_KEY)


def _png_text(path: Path) -> str | None:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        image.load()
        return getattr(image, "text", {}).get(PNG_KEY)

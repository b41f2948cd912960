"""Stills as PNG with the recipe in a text chunk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latte_core.errors import MediaError
from latte_core.media.landing import landing
from latte_core.media.recipes import PNG_KEY, TITLE, dump_recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_still(image: NDArray[np.uint8], path: Path | str, recipe: dict[str, Any]) -> Path:
    """Write a uint8 image (H, W, 3) as a PNG that holds `recipe`; returns its path.

    Raises MediaError, leaving nothing behind, if it cannot be written or reads back otherwise.
    """
    from PIL import Image, PngImagePlugin

    path = Path(path)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise MediaError(f"A still is uint8 (H, W, 3), not {image.dtype} {image.shape}.")
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Title", TITLE)
    chunks.add_text(PNG_KEY, dump_recipe(recipe))
    with landing(path, ".png") as partial:
        Image.fromarray(image).save(partial, format="PNG", pnginfo=chunks)
        with Image.open(partial, formats=["PNG"]) as written:
            if not np.array_equal(np.asarray(written), image):
                raise MediaError(f"{path.name} did not read back as written: try again.")
    return path

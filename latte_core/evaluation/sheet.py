"""Contact sheets: clips as rows of frames under their prompts, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

LABEL = 12  # pixels above a row, for the built-in bitmap font
GAP = 2


def contact_sheet(
    clips: Sequence[tuple[str, NDArray[np.uint8]]], shown: int = 8, columns: int = 2
) -> Image.Image:
    """Draw `shown` evenly spaced frames of each (prompt, frames (F, H, W, 3)), row by row."""
    height, width = clips[0][1].shape[1:3]
    cell_w, cell_h = shown * (width + GAP) + 4 * GAP, LABEL + height + 2 * GAP
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (columns * cell_w, rows * cell_h), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (prompt, frames) in enumerate(clips):
        left, top = index // rows * cell_w, index % rows * cell_h
        draw.text((left, top), prompt, fill="black")
        picked = np.linspace(0, len(frames) - 1, shown).round().astype(int)
        for place, k in enumerate(picked):
            sheet.paste(Image.fromarray(frames[k]), (left + place * (width + GAP), top + LABEL))
    return sheet

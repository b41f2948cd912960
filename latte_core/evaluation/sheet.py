"""Contact sheets: clips as rows of frames under their prompts, for people to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LABEL = 12  # pixels above a row
LINES = 3  # of a prompt above a clip of the showcase
GAP = 2
# Fonts with letters beyond Latin, as systems have them; Pillow's own has none.
FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "Arial.ttf")


def label_font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """A font for prompts in any of the world's languages; Pillow's own where none is found."""
    for name in FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def contact_sheet(
    clips: Sequence[tuple[str, NDArray[np.uint8]]], shown: int = 8, columns: int = 2
) -> Image.Image:
    """Draw `shown` evenly spaced frames of each (prompt, frames (F, H, W, 3)), row by row."""
    height, width = clips[0][1].shape[1:3]
    cell_w, cell_h = shown * (width + GAP) + 4 * GAP, LABEL + height + 2 * GAP
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (columns * cell_w, rows * cell_h), "white")
    draw, font = ImageDraw.Draw(sheet), label_font(LABEL - 3)
    for index, (prompt, frames) in enumerate(clips):
        left, top = index // rows * cell_w, index % rows * cell_h
        draw.text((left, top), prompt, fill="black", font=font)
        picked = np.linspace(0, len(frames) - 1, shown).round().astype(int)
        for place, k in enumerate(picked):
            sheet.paste(Image.fromarray(frames[k]), (left + place * (width + GAP), top + LABEL))
    return sheet


def save_showcase(
    clips: Sequence[tuple[str, NDArray[np.uint8]]], path: Path, fps: int, columns: int = 4
) -> None:
    """Write an animated WebP: all clips play side by side, enlarged, each under its prompt."""
    height, width = (2 * side for side in clips[0][1].shape[1:3])
    rows, label = -(-len(clips) // columns), LINES * LABEL
    font = label_font(LABEL - 2)
    pictures = []
    for k in range(len(clips[0][1])):
        picture = Image.new("RGB", (columns * (width + 8), rows * (height + label + 8)), "white")
        draw = ImageDraw.Draw(picture)
        for index, (prompt, frames) in enumerate(clips):
            left, top = index % columns * (width + 8) + 4, index // columns * (height + label + 8)
            words = "\n".join(textwrap.wrap(prompt, 22)[:LINES])
            draw.multiline_text((left, top), words, fill="#3b2a20", font=font, spacing=1)
            frame = Image.fromarray(frames[k]).resize((width, height), Image.Resampling.BICUBIC)
            picture.paste(frame, (left, top + label + 4))
        pictures.append(picture)
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=1000 // fps, loop=0, quality=80
    )

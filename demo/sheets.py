"""An X/Y sheet as pictures and as a table: every cell plays at once, under its values."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.sweeps import Axis, Cell, SweepPlan, table_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELL_SIDES = (
    128,
    320,
)  # pixels of a cell's longer side: small ones are enlarged, large ones shrunk
GAP, HEAD, MARGIN, LETTERS = 6, 26, 120, 15
PAPER, INK = "#1d1611", "#f1e6d6"


def draw_sheet(plan: SweepPlan, cells: list[Cell]) -> NDArray[np.uint8]:
    """All cells side by side, under their values: uint8 (F, H, W, 3) with even H and W.

    Cells that are missing stay dark.
    """
    first = cells[0].generation.frames
    length = max(len(cell.generation.frames) for cell in cells)
    width, height = _cell_size(first.shape[2], first.shape[1])
    left = max(MARGIN, _widest(plan.y) + 2 * GAP) if plan.y.values else GAP
    columns, rows = len(plan.x.values), max(1, len(plan.y.values))
    size = (left + columns * (width + GAP), HEAD + rows * (height + GAP))
    size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    paper = _paper(plan, size, (width, height), left)
    pictures = []
    for index in range(length):
        picture = paper.copy()
        for cell in cells:
            frames = cell.generation.frames
            image = Image.fromarray(frames[min(index, len(frames) - 1)])
            image = image.resize((width, height), Image.Resampling.BICUBIC)
            place = (left + cell.column * (width + GAP), HEAD + cell.row * (height + GAP))
            picture.paste(image, place)
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def sheet_recipe(plan: SweepPlan, cells: list[Cell]) -> dict[str, Any]:
    """The recipe of the first cell, and what the sheet runs over."""
    axes = [{"name": axis.name, "values": list(axis.values)} for axis in (plan.x, plan.y)]
    return {**cells[0].generation.recipe, "sheet": [axis for axis in axes if axis["name"]]}


def write_sheet(plan: SweepPlan, cells: list[Cell], folder: Path) -> tuple[Path, Path, Path]:
    """Write sheet.mp4, sheet.png (its middle frame) and sheet.csv. Raises MediaError."""
    from latte_core import write_clip, write_still

    frames, recipe = draw_sheet(plan, cells), sheet_recipe(plan, cells)
    clip = write_clip(frames, folder / "sheet.mp4", cells[0].generation.fps, recipe)
    still = write_still(frames[len(frames) // 2], folder / "sheet.png", recipe)
    table = folder / "sheet.csv"
    table.write_text(to_csv(table_of(plan, cells)), encoding="utf-8")
    return clip, still, table


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Rows with the same keys as CSV with a head line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _cell_size(width: int, height: int) -> tuple[int, int]:
    """The cell's size on the sheet; small ones are enlarged by a whole number."""
    low, high = CELL_SIDES
    longer = max(width, height)
    scale = float(-(-low // longer)) if longer < low else min(1.0, high / longer)
    return round(width * scale), round(height * scale)


def _widest(axis: Axis) -> int:
    """Pixels of the longest label of an axis."""
    font = ImageFont.load_default(LETTERS)
    return max(math.ceil(font.getlength(axis.label(n))) for n in range(len(axis.values)))


def _paper(plan: SweepPlan, size: tuple[int, int], cell: tuple[int, int], left: int) -> Image.Image:
    """The empty sheet with its labels."""
    paper = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(LETTERS)
    fitting = ImageFont.load_default(LETTERS * min(1, cell[0] / max(1, _widest(plan.x))))
    for column in range(len(plan.x.values)):
        centre = left + column * (cell[0] + GAP) + cell[0] // 2
        pen.text((centre, HEAD // 2), plan.x.label(column), INK, fitting, anchor="mm")
    for row in range(len(plan.y.values)):
        centre = HEAD + row * (cell[1] + GAP) + cell[1] // 2
        pen.text((left - 10, centre), plan.y.label(row), INK, font, anchor="rm")
    return paper

"""Loss curves of a run's stages as one small PNG, drawn with Pillow from the logs.

`python -m latte_core train RECIPE --folder FOLDER --stage curves` draws it, and all stages end
with it.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from latte_core.errors import DataError
from latte_core.training.loop import LOG
from latte_core.training.stage_names import LEARNED

WIDTH, HEIGHT, COLUMNS = 340, 220, 3
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 40  # margins of a panel, in pixels
INK, LINE, GRID, FAINT = "#3b2a20", "#8c3b1b", "#e6dccf", "#d9b48f"
PALETTE = 32  # colours of the file; there are four, and what lies between ink and paper
SMOOTH = 0.06  # of a curve's length, over which the bold line is the mean
# Columns that are drawn, with the axis's text; the first that a log has are its panels.
FIGURES = {"loss": "loss", "psnr": "PSNR in dB", "subject": "subjects told apart"}


@dataclass(frozen=True)
class Curve:
    """One figure of a stage over its steps; `starts` are the steps at which a later log begins."""

    stage: str
    figure: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    minutes: float
    starts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Axis:
    """A range of values and where it lies in pixels; logarithmic if `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """The pixel of a value."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def marks(self) -> list[float]:
        """Round values to write on the axis, two to six of them."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
                found = [s * 10.0**d for d in decades for s in steps]
                found = [value for value in found if self.low <= value <= self.high]
                if len(found) >= 2:
                    return found
            return [self.low, self.high]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 2))
        step *= next(k for k in (1, 2, 5, 10) if (self.high - self.low) / (k * step) <= 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def draw_curves(folder: Path, path: Path) -> None:
    """Write a PNG with a panel for every figure of every stage that a folder has a log of.

    Raises DataError if there is none.
    """
    curves = read_curves(folder)
    if not curves:
        raise DataError(
            f"There is no log in {folder}: give the folder of a run (STAGE/{LOG}) or of its logs "
            "(STAGE.csv)."
        )
    columns = min(COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    sheet = Image.new("RGB", (columns * WIDTH, rows * HEIGHT), "white")
    for number, curve in enumerate(curves):
        place = (number % columns * WIDTH, number // columns * HEIGHT)
        sheet.paste(_panel(curve), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(PALETTE, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)


def read_curves(folder: Path) -> list[Curve]:
    """The curves of a run's folder, or of a folder of logs, in the order of the stages.

    Logs STAGE-1.csv, STAGE-2.csv of one stage follow each other on one axis.
    """
    logs: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"*/{LOG}")):
        logs.setdefault(path.parent.name, []).append(path)
    for path in sorted(folder.glob("*.csv"), key=_numbered):
        logs.setdefault(_numbered(path)[0], []).append(path)
    known = {stage: n for n, stage in enumerate(LEARNED)}
    names = sorted(logs, key=lambda name: (known.get(name, len(LEARNED)), name))
    return [curve for name in names for curve in _stage_curves(name, logs[name])]


def _numbered(path: Path) -> tuple[str, int]:
    """Stage and number of STAGE-NUMBER.csv; the number is 0 where there is none."""
    match = re.fullmatch(r"(.+?)-(\d+)", path.stem)
    return (match[1], int(match[2])) if match else (path.stem, 0)


def _stage_curves(stage: str, paths: Sequence[Path]) -> Iterator[Curve]:
    """One curve a figure, the logs put end to end."""
    for figure in FIGURES:
        steps: list[float] = []
        values: list[float] = []
        starts: list[float] = []
        minutes = 0.0
        for path in paths:
            rows = _rows(path, figure)
            offset = steps[-1] if steps else 0.0
            if rows and steps:
                starts.append(offset)
            steps += [offset + step for step, _, _ in rows]
            values += [value for _, _, value in rows]
            minutes += rows[-1][1] if rows else 0.0
        if steps:
            yield Curve(stage, figure, tuple(steps), tuple(values), minutes, tuple(starts))


def _rows(path: Path, figure: str) -> list[tuple[float, float, float]]:
    """Step, minutes and figure of every whole row that has a finite one."""
    found = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                step, minutes, value = (float(row[n]) for n in ("step", "minutes", figure))
            except (KeyError, TypeError, ValueError):
                continue  # another log's columns, or a row that a kill cut off
            if math.isfinite(step + minutes + value):
                found.append((step, minutes, value))
    return found


def smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value's neighbourhood, SMOOTH of the curve on either side together."""
    reach = max(1, round(len(values) * SMOOTH / 2))
    near = [values[max(0, n - reach) : n + reach + 1] for n in range(len(values))]
    return [math.fsum(part) / len(part) for part in near]


def axes_of(curve: Curve) -> tuple[Axis, Axis]:
    """Steps from left to right; the figure upwards, logarithmic where it falls to a third."""
    low, high = min(curve.values), max(curve.values)
    log = low > 0 and high / low > 3 and curve.figure == "loss"
    if low == high:
        low, high = low - 0.5, high + 0.5
    elif log:
        low, high = low / 1.1, high * 1.1
    else:
        low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    across = Axis(0.0, curve.steps[-1] or 1.0, LEFT, WIDTH - RIGHT)
    return across, Axis(low, high, HEIGHT - BOTTOM, TOP, log)


def _panel(curve: Curve) -> Image.Image:
    """Title, axes with their names and numbers, the log's values and their mean."""
    panel = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(11)
    across, up = axes_of(curve)
    title = f"{curve.stage}: {FIGURES[curve.figure]}, {curve.minutes:.0f} min"
    draw.text((LEFT, 7), title, fill=INK, font=font)
    for mark in across.marks():
        x = across.place(mark)
        draw.line((x, TOP, x, HEIGHT - BOTTOM), fill=GRID)
        draw.text((x, HEIGHT - BOTTOM + 4), f"{mark:g}", fill=INK, font=font, anchor="ma")
    for mark in up.marks():
        y = up.place(mark)
        draw.line((LEFT, y, WIDTH - RIGHT, y), fill=GRID)
        draw.text((LEFT - 4, y), f"{mark:.3g}", fill=INK, font=font, anchor="rm")
    middle = (LEFT + WIDTH - RIGHT) / 2
    draw.text((middle, HEIGHT - 6), "steps", fill=INK, font=font, anchor="ms")
    _write_upwards(panel, FIGURES[curve.figure] + (", log scale" if up.log else ""))
    for start in curve.starts:
        x = across.place(start)
        draw.line((x, TOP, x, HEIGHT - BOTTOM), fill=INK)
    draw.rectangle((LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM), outline=INK)
    for values, colour, width in ((curve.values, FAINT, 1), (smooth(curve.values), LINE, 2)):
        points = [(across.place(s), up.place(v)) for s, v in zip(curve.steps, values, strict=True)]
        draw.line(points, fill=colour, width=width, joint="curve")
        if len(points) == 1:
            x, y = points[0]
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    return panel


def _write_upwards(panel: Image.Image, text: str) -> None:
    """The upward axis's name, turned, at the left edge."""
    font = ImageFont.load_default(11)
    label = Image.new("RGB", (HEIGHT - TOP - BOTTOM, 14), "white")
    place = (label.width / 2, label.height / 2)
    ImageDraw.Draw(label).text(place, text, fill=INK, font=font, anchor="mm")
    panel.paste(label.rotate(90, expand=True), (2, TOP))

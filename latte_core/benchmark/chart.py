"""A small chart of how cost grows: one panel a series, both axes logarithmic, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from latte_core.benchmark.growth import Point, fit, series

WIDTH, HEIGHT, MARGIN = 320, 240, 44
INK, LINE, DOT = "#3b2a20", "#c8a27c", "#8c3b1b"


def draw_chart(points: Sequence[Point], path: Path) -> None:
    """Write a PNG: dots are the points, lines the fitted power laws."""
    panels = list(series(points))
    columns = 3
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * WIDTH, rows * HEIGHT), "white")
    for number, (kind, axis, own) in enumerate(panels):
        panel = _panel(f"{kind}: {_unit(kind)} by {axis}", own)
        sheet.paste(panel, (number % columns * WIDTH, number // columns * HEIGHT))
    sheet.save(path)


def _unit(kind: str) -> str:
    return "CPU seconds" if kind == "measured" else "FLOP"


def _panel(title: str, points: Sequence[Point]) -> Image.Image:
    panel = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(12)
    law = fit(points)
    left, right = math.log(points[0].value), math.log(points[-1].value)
    low, high = math.log(min(p.cost for p in points)), math.log(max(p.cost for p in points))

    def place(value: float, cost: float) -> tuple[float, float]:
        across = (math.log(value) - left) / (right - left)
        up = (math.log(cost) - low) / (high - low)
        return MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    draw.text((MARGIN, 6), title, fill=INK, font=font)
    draw.text((MARGIN, 22), f"exponent {law.exponent:.2f}, r2 {law.r2:.3f}", fill=LINE, font=font)
    draw.rectangle((MARGIN, MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN), outline=LINE)
    ends = [place(p.value, law.factor * p.value**law.exponent) for p in (points[0], points[-1])]
    draw.line(ends, fill=LINE, width=2)
    for point in points:
        x, y = place(point.value, point.cost)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=DOT)
        draw.text((x, HEIGHT - MARGIN + 4), str(point.value), fill=INK, font=font, anchor="ma")
    for point in (points[0], points[-1]):
        y = place(point.value, point.cost)[1]
        draw.text((MARGIN - 3, y), f"{point.cost:.2g}", fill=INK, font=font, anchor="rm")
    return panel

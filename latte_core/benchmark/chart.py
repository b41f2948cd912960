"""A chart of how cost and memory grow: one panel a series, drawn with Pillow.

Cost has logarithmic axes, memory linear ones from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from latte_core.benchmark.growth import Point, fit, fit_memory, series, told, work

WIDTH, HEIGHT, MARGIN = 320, 240, 56
INK, LINE, DOT = "#3b2a20", "#9a6f45", "#8c3b1b"
MIB = 2**20


@dataclass(frozen=True)
class Panel:
    """What one panel shows: dots (value, amount), a fitted law, and how an axis is scaled."""

    title: str
    law_text: str
    dots: Sequence[tuple[float, float]]
    law: Callable[[float], float]
    scale: Callable[[float], float]
    floor: float | None = None


def draw_chart(points: Sequence[Point], path: Path) -> None:
    """Write a PNG: for every kind a row of costs and a row of memory; lines are the fits."""
    rows: dict[tuple[str, str], list[Panel]] = {}
    for kind, axis, own in series(points):
        rows.setdefault((kind, "cost"), []).append(_cost(kind, axis, own))
        rows.setdefault((kind, "memory"), []).append(_memory(kind, axis, own))
    columns = max(map(len, rows.values()))
    sheet = Image.new("RGB", (columns * WIDTH, len(rows) * HEIGHT), "white")
    for row, panels in enumerate(rows.values()):
        for column, panel in enumerate(panels):
            sheet.paste(_draw(panel), (column * WIDTH, row * HEIGHT))
    sheet.save(path)


def _cost(kind: str, axis: str, points: Sequence[Point]) -> Panel:
    law = fit(points)
    unit = "CPU seconds" if kind == "measured" else "FLOP"
    return Panel(
        f"{kind}: {unit} by {axis}",
        f"{told(axis, law)}, r2 {law.r2:.3f}",
        [(p.value, p.cost) for p in points],
        law.cost,
        math.log,
    )


def _memory(kind: str, axis: str, points: Sequence[Point]) -> Panel:
    law = fit_memory(points)
    unit = "pixel" if axis == "size" else axis.removesuffix("s")
    return Panel(
        f"{kind}: MiB by {axis}",
        f"{law.fixed / MIB:.0f} + {law.growing / MIB:.2g} a {unit}, r2 {law.r2:.3f}",
        [(p.value, p.memory_bytes / MIB) for p in points],
        lambda value: (law.fixed + law.growing * work(axis, value)) / MIB,
        float,
        0.0,
    )


def _draw(panel: Panel) -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    values = [value for value, _ in panel.dots]
    amounts = [amount for _, amount in panel.dots]
    left, right = panel.scale(values[0]), panel.scale(values[-1])
    low = panel.scale(min(amounts)) if panel.floor is None else panel.floor
    high = panel.scale(max(amounts))

    def place(value: float, amount: float) -> tuple[float, float]:
        across = (panel.scale(value) - left) / ((right - left) or 1)
        up = (panel.scale(amount) - low) / ((high - low) or 1)
        return MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    draw.text((MARGIN, 14), panel.title, fill=INK, font=font)
    draw.text((MARGIN, 32), panel.law_text, fill=LINE, font=font)
    draw.rectangle((MARGIN, MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN), outline=LINE)
    between = [values[0] + (values[-1] - values[0]) * k / 32 for k in range(33)]
    draw.line([place(value, panel.law(value)) for value in between], fill=LINE, width=2)
    for value, amount in panel.dots:
        x, y = place(value, amount)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=DOT)
        draw.text((x, HEIGHT - MARGIN + 4), f"{value:g}", fill=INK, font=font, anchor="ma")
    for value, amount in dict(map(_shown, (panel.dots[0], panel.dots[-1]))).values():
        draw.text((MARGIN - 5, place(value, amount)[1]), _amount(amount), INK, font, "rm")
    return image


def _shown(dot: tuple[float, float]) -> tuple[str, tuple[float, float]]:
    """A dot under its label, so that two of one label are written once."""
    return _amount(dot[1]), dot


def _amount(amount: float) -> str:
    """Three digits, all of a larger whole number."""
    return f"{amount:.0f}" if 1000 <= amount < 1e5 else f"{amount:.3g}"

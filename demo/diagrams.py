"""The four variants as drawings, from the same `BlockSpec`s that build the network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from demo.strings import Texts

if TYPE_CHECKING:
    from latte_core import BlockSpec

SHOWN_DEPTH = 4  # blocks of a drawing; the networks have more of the same
WIDTH, LEFT = 150, 15
AXIS_HEIGHT, PAD, GAP = 26, 6, 16
BRANCH_GAP = 20  # between the two branches of a sum


def draw_variants(texts: Texts) -> str:
    """All variants side by side, as markup. The first call imports torch."""
    from latte_core import VARIANTS

    figures = [
        f'<figure data-variant="{number}">{draw_blocks(make(SHOWN_DEPTH), texts)}'
        f"<figcaption><b>{escape(texts('inside.variant', number=number))}</b> "
        f"{escape(texts(f'inside.variant.{number}'))}</figcaption></figure>"
        for number, make in VARIANTS.items()
    ]
    return f'<div class="li-variants">{"".join(figures)}</div>'


def draw_blocks(blocks: Sequence[BlockSpec], texts: Texts) -> str:
    """A column of blocks, tokens entering below, as an SVG.

    Axes that follow each other are drawn one above the other, axes that are summed side by side.
    """
    total = sum(_height(block) + GAP for block in blocks) + GAP
    parts, bottom = [_arrow(total, total - GAP)], float(total - GAP)
    for block in blocks:
        top = bottom - _height(block)
        parts.append(_block(block, top, texts))
        parts.append(_arrow(top, top - GAP))
        bottom = top - GAP
    label = escape("; ".join(_say(block, texts) for block in blocks), quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH + 2 * LEFT} {total}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _say(block: BlockSpec, texts: Texts) -> str:
    joined = " + " if block.join == "sum" else " → "
    return joined.join(texts(f"inside.{axis}") for axis in block.axes)


def _height(block: BlockSpec) -> int:
    rows = 1 if block.join == "sum" else len(block.axes)
    return rows * AXIS_HEIGHT + (rows + 1) * PAD


def _block(block: BlockSpec, top: float, texts: Texts) -> str:
    frame = (
        f'<rect class="li-block" x="{LEFT}" y="{top}" width="{WIDTH}" '
        f'height="{_height(block)}" rx="8"/>'
    )
    inner = WIDTH - 2 * PAD
    parts = [frame]
    if block.join == "sum":
        width = (inner - BRANCH_GAP * (len(block.axes) - 1)) / len(block.axes)
        for index, axis in enumerate(block.axes):
            x = LEFT + PAD + index * (width + BRANCH_GAP)
            parts.append(_axis(axis, x, top + PAD, width, texts))
        x, y = LEFT + WIDTH / 2, top + PAD + AXIS_HEIGHT / 2
        parts.append(f'<text class="li-plus" x="{x}" y="{y}">+</text>')
    else:  # the first axis is the lowest
        for index, axis in enumerate(reversed(block.axes)):
            y = top + PAD + index * (AXIS_HEIGHT + PAD)
            parts.append(_axis(axis, LEFT + PAD, y, inner, texts))
    return f'<g class="li-one">{"".join(parts)}</g>'


def _axis(axis: str, x: float, y: float, width: float, texts: Texts) -> str:
    middle, centre = y + AXIS_HEIGHT / 2, x + width / 2
    return (
        f'<rect class="li-{axis}" x="{x}" y="{y}" width="{width}" height="{AXIS_HEIGHT}" rx="5"/>'
        f'<text x="{centre}" y="{middle}">{escape(texts(f"inside.{axis}"))}</text>'
    )


def _arrow(start: float, end: float) -> str:
    x = LEFT + WIDTH / 2
    return f'<path class="li-arrow" d="M{x} {start - 2}V{end + 4}m-4 5l4 -5l4 5"/>'

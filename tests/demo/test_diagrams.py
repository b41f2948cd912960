"""The drawings of the variants, read back from their SVG and compared with the specs."""

import re
import xml.etree.ElementTree as ET

import pytest

from demo.diagrams import SHOWN_DEPTH, draw_blocks, draw_variants
from demo.strings import load_texts
from latte_core import VARIANTS, BlockSpec

TEXTS = load_texts()


def read(svg):
    """Blocks from the bottom up: the axes of each with where they are drawn, (axis, x, y)."""
    blocks = []
    for group in ET.fromstring(svg).iter("g"):
        rects = [rect for rect in group.iter("rect") if rect.get("class") != "li-block"]
        blocks.append([(r.get("class")[3:], float(r.get("x")), float(r.get("y"))) for r in rects])
    return blocks


def spec_of(block):
    """What a drawn block says: axes in the order of the flow, and how they are joined."""
    summed = len({y for _, _, y in block}) < len(block)
    ordered = sorted(block, key=lambda part: (-part[2], part[1]))  # the flow goes up
    return BlockSpec(tuple(axis for axis, _, _ in ordered), "sum" if summed else "chain")


@pytest.mark.parametrize("variant", VARIANTS)
def test_drawing_says_what_the_specs_say(variant):
    blocks = VARIANTS[variant](SHOWN_DEPTH)
    assert tuple(spec_of(block) for block in read(draw_blocks(blocks, TEXTS))) == blocks


def test_drawing_follows_any_specs():
    blocks = (
        BlockSpec(("time", "space")),
        BlockSpec(("time",)),
        BlockSpec(("space", "time"), join="sum"),
    )
    drawn = read(draw_blocks(blocks, TEXTS))
    assert tuple(map(spec_of, drawn)) == blocks
    tops = [min(y for _, _, y in block) for block in drawn]
    assert tops == sorted(tops, reverse=True)  # the first block is the lowest


def test_parts_of_a_drawing_lie_inside_it_and_do_not_overlap():
    for make in VARIANTS.values():
        root = ET.fromstring(draw_blocks(make(SHOWN_DEPTH), TEXTS))
        _, _, width, height = map(float, root.get("viewBox").split())
        boxes = []
        for rect in root.iter("rect"):
            x, y, w, h = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
            assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
            if rect.get("class") != "li-block":
                assert all(
                    x >= a + c or a >= x + w or y >= b + d or b >= y + h for a, b, c, d in boxes
                )
                boxes.append((x, y, w, h))


def test_all_variants_are_drawn_with_their_words():
    markup = draw_variants(TEXTS)
    assert re.findall(r'data-variant="(\d)"', markup) == ["1", "2", "3", "4"]
    assert markup.count("<svg") == 4 and "space → time" in markup and "space + time" in markup

"""Contact sheets: prompts in every language that the world speaks can be read on them."""

from __future__ import annotations

import numpy as np
import pytest

from latte_core.evaluation import sheet


def test_letters_of_both_languages_are_told_apart():
    font = sheet.label_font(11)
    if not isinstance(getattr(font, "path", None), str):  # Pillow's own comes from memory
        pytest.skip("this machine has none of the fonts that are looked for")
    drawn = {letter: bytes(font.getmask(letter)) for letter in "abжшяё"}
    assert len(set(drawn.values())) == len(drawn)


def test_machine_without_fonts_still_makes_sheets(monkeypatch):
    monkeypatch.setattr(sheet, "FONTS", ("no-such-font.ttf",))
    clip = np.full((4, 8, 8, 3), 120, np.uint8)
    picture = sheet.contact_sheet([("a star", clip), ("звезда", clip)], shown=4)
    assert picture.height == sheet.LABEL + 8 + 2 * sheet.GAP
    assert len(picture.getcolors()) > 2

"""Text can be read: contrasts by the formula of WCAG 2.1, relative luminance."""

import pytest

from demo.theme import CARAMEL, COFFEE, latte_theme

HUES = {"neutral": COFFEE, "primary": CARAMEL}
PAIRS = [  # text, and what it stands on
    ("body_text_color", "body_background_fill"),
    ("body_text_color_subdued", "body_background_fill"),
    ("block_info_text_color", "body_background_fill"),
    ("block_title_text_color", "body_background_fill"),
    ("input_placeholder_color", "input_background_fill"),
    ("button_primary_text_color", "button_primary_background_fill"),
    ("button_secondary_text_color", "button_secondary_background_fill"),
    ("button_cancel_text_color", "button_cancel_background_fill"),
    ("checkbox_label_text_color_selected", "checkbox_label_background_fill_selected"),
]


def colour(theme, name):
    value = getattr(theme, name)
    if not value.startswith("*"):
        return value
    hue, _, shade = value[1:].partition("_")
    return getattr(HUES[hue], f"c{shade}")


def luminance(colour):
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_accent_can_be_read_in_light():
    theme = latte_theme()
    assert contrast(colour(theme, "color_accent"), colour(theme, "body_background_fill")) >= 4.5


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WCAG's own example


@pytest.mark.parametrize("scheme", ["", "_dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_theme_has_the_contrast_of_level_aa(text, ground, scheme):
    theme = latte_theme()
    assert contrast(colour(theme, text + scheme), colour(theme, ground + scheme)) >= 4.5

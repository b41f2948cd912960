"""The look of the page: coffee and milk, in light and dark."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.themes.utils import fonts

# Roasted browns for text and surfaces, caramel for what can be pressed. Text on its surface and
# white on caramel 600 have a contrast of at least 4.5 (WCAG AA).
COFFEE = gr.themes.Color(
    c50="#faf6f0", c100="#f4ece1", c200="#e8dccb", c300="#d6c5af", c400="#b29c85", c500="#8a7562",
    c600="#6b5848", c700="#4d3f34", c800="#342a23", c900="#241d18", c950="#191411",
    name="coffee",
)  # fmt: skip
CARAMEL = gr.themes.Color(
    c50="#fdf5ec", c100="#fae6d0", c200="#f3cba1", c300="#eaae70", c400="#dd9149", c500="#c4732c",
    c600="#a65a1e", c700="#86471a", c800="#6b3a19", c900="#573117", c950="#2f1809",
    name="caramel",
)  # fmt: skip
# Latin and Cyrillic letters come with Gradio, Chinese ones with the visitor's system, so that no
# other host is asked for them.
BODY = (
    fonts.LocalFont("Source Sans Pro", weights=(400, 700)),
    "system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif",
)  # fmt: skip


def latte_theme() -> gr.themes.Base:
    """The theme."""
    theme = gr.themes.Base(
        primary_hue=CARAMEL,
        secondary_hue=CARAMEL,
        neutral_hue=COFFEE,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
        font=BODY,
        font_mono=("ui-monospace", "monospace"),
    )
    return theme.set(**_colours(), **_shapes())


def _colours() -> dict[str, Any]:
    pairs = {
        "body_background_fill": ("*neutral_50", "*neutral_950"),
        "body_text_color": ("*neutral_900", "*neutral_100"),
        "body_text_color_subdued": ("*neutral_600", "*neutral_400"),
        "background_fill_primary": ("#fffdfa", "*neutral_900"),
        "background_fill_secondary": ("*neutral_100", "*neutral_800"),
        "block_background_fill": ("#fffdfa", "*neutral_900"),
        "block_border_color": ("*neutral_200", "*neutral_800"),
        "border_color_primary": ("*neutral_200", "*neutral_800"),
        "block_label_text_color": ("*neutral_600", "*neutral_300"),
        "block_title_text_color": ("*neutral_700", "*neutral_200"),
        "block_info_text_color": ("*neutral_600", "*neutral_400"),
        "input_background_fill": ("#ffffff", "*neutral_950"),
        "input_border_color": ("*neutral_300", "*neutral_700"),
        "input_border_color_focus": ("*primary_500", "*primary_400"),
        "input_placeholder_color": ("*neutral_600", "*neutral_400"),
        "button_primary_background_fill": ("*primary_600", "*primary_400"),
        "button_primary_background_fill_hover": ("*primary_700", "*primary_300"),
        "button_primary_text_color": ("#ffffff", "*neutral_950"),
        "button_secondary_background_fill": ("*neutral_100", "*neutral_800"),
        "button_secondary_background_fill_hover": ("*neutral_200", "*neutral_700"),
        "button_secondary_text_color": ("*neutral_800", "*neutral_100"),
        "button_cancel_background_fill": ("*neutral_800", "*neutral_200"),
        "button_cancel_background_fill_hover": ("*neutral_900", "*neutral_100"),
        "button_cancel_text_color": ("*neutral_50", "*neutral_900"),
        "slider_color": ("*primary_600", "*primary_400"),
        "checkbox_label_background_fill_selected": ("*primary_100", "*primary_900"),
        "checkbox_label_border_color_selected": ("*primary_500", "*primary_500"),
        "checkbox_label_text_color_selected": ("*neutral_900", "*neutral_50"),
        "panel_background_fill": ("transparent", "transparent"),
    }
    both = {key: light for key, (light, _) in pairs.items()}
    return both | {f"{key}_dark": dark for key, (_, dark) in pairs.items()}


def _shapes() -> dict[str, Any]:
    return {
        "color_accent": "*primary_600",  # in dark: page.css
        "block_shadow": "none",
        "block_border_width": "0px",
        "button_primary_shadow": "none",
        "button_secondary_shadow": "none",
        "input_border_width": "1px",
        "input_shadow": "none",
        "input_shadow_focus": "0 0 0 3px color-mix(in srgb, *primary_400 35%, transparent)",
        "layout_gap": "20px",
    }

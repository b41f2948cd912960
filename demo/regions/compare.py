"""The Compare tab: two films in step, and the X/Y sheet."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import gradio as gr

from demo.regions.script import build_script
from demo.regions.studio import Studio
from demo.strings import Texts
from demo.sweeps import AXES

COMPARE_WORDS = (
    *("lead", "hint", "swap", "wipe", "frame", "column", "canvas", "slice", "flicker"),
    *("play", "pause", "side", "wiped", "mp4", "png", "csv"),
)
SHEET_WORDS = ("progress", "grid")
FIRST_VALUES = {"steps": "2, 5, 10, 20", "guidance": "1, 2, 4, 7", "seed": "1, 2, 3, 4"}


@dataclass(frozen=True)
class Compare:
    """The components of the tab; the values of `films` and `sheet` are JSON strings."""

    films: gr.HTML
    x: gr.Dropdown
    x_values: gr.Textbox
    y: gr.Dropdown
    y_values: gr.Textbox
    make: gr.Button
    stop: gr.Button
    sheet: gr.HTML


def build_compare(studio: Studio) -> Compare:
    """Lay the tab out."""
    texts = studio.texts
    films = build_script(studio, "compare", COMPARE_WORDS, "[]")
    with gr.Column(elem_id="sheet-part"):
        gr.HTML(_title(texts), elem_id="sheet-title", apply_default_css=False)
        with gr.Row(elem_id="sheet-axes"):
            x, x_values = _axis(texts, "x", "steps")
            y, y_values = _axis(texts, "y", "guidance")
        make = gr.Button(texts("sheet.make"), variant="primary", elem_id="sheet-make")
        stop = gr.Button(texts("sheet.stop"), variant="stop", elem_id="sheet-stop")
        sheet = build_script(studio, "sheet", SHEET_WORDS, "{}")
    return Compare(films, x, x_values, y, y_values, make, stop, sheet)


def _title(texts: Texts) -> str:
    return (
        f'<h2 class="lx-title">{escape(texts("sheet.title"))}</h2>'
        f'<p class="lx-lead">{escape(texts("sheet.lead"))}</p>'
    )


def _axis(texts: Texts, which: str, start: str) -> tuple[gr.Dropdown, gr.Textbox]:
    choices = [(texts(f"sheet.axis.{name}"), name) for name in AXES]
    if which == "y":
        choices = [(texts("sheet.axis.none"), ""), *choices]
    name = gr.Dropdown(
        choices, value=start, label=texts(f"sheet.{which}"), elem_id=f"sheet-{which}", min_width=140
    )
    values = gr.Textbox(
        value=FIRST_VALUES[start],
        label=texts("sheet.values"),
        max_lines=1,
        elem_id=f"sheet-{which}-values",
        min_width=160,
    )
    return name, values

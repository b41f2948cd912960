"""The tab that looks inside: the four variants, and the attention of a film's every block."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from demo.regions.script import build_script
from demo.regions.studio import Studio
from demo.studies import draw_studies, read_studies

WORDS = (
    *("lead", "film", "step", "look", "empty", "block", "space", "time", "choose"),
    *("frames", "matrix", "space_hint", "time_hint", "scale"),
)


@dataclass(frozen=True)
class Inside:
    """The tab and its components; `viewer`'s value is a JSON string, see looking.py."""

    tab: gr.Tab
    variants: gr.HTML
    viewer: gr.HTML


def build_inside(studio: Studio, tab: gr.Tab) -> Inside:
    """Lay the tab out."""
    texts = studio.texts
    gr.HTML(f"<h2>{texts('inside.variants')}</h2>", elem_classes="li-head", apply_default_css=False)
    variants = gr.HTML("", elem_id="variants", apply_default_css=False)
    gr.HTML(f"<h2>{texts('inside.title')}</h2>", elem_classes="li-head", apply_default_css=False)
    viewer = build_script(studio, "inside", WORDS, "{}")
    if charts := draw_studies(read_studies(), texts):
        gr.HTML(charts, elem_id="studies", apply_default_css=False, padding=False)
    return Inside(tab, variants, viewer)

"""The top line: name, tagline, how the model is, languages, light or dark."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from demo.markup import brand, languages_nav, model_line
from demo.regions.studio import Studio


@dataclass(frozen=True)
class Masthead:
    """The components of the top line."""

    model: gr.HTML


def build_masthead(studio: Studio) -> Masthead:
    """Lay it out."""
    with gr.Row(elem_id="top"):
        gr.HTML(brand(studio.texts), elem_id="brand", apply_default_css=False)
        model = gr.HTML(
            model_line(studio.texts("model.starting"), "loading"),
            elem_id="model",
            apply_default_css=False,
        )
        gr.HTML(
            languages_nav(studio.texts, studio.language),
            elem_id="languages",
            apply_default_css=False,
        )
    return Masthead(model)

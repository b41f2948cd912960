"""A component with a script of its own: `static/<name>.html`, `.js`, and words for both."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from demo.regions.studio import Studio

STATIC = Path(__file__).parent.parent / "static"


def build_script(studio: Studio, name: str, words: tuple[str, ...], value: str) -> gr.HTML:
    """The component `name`; its value is a JSON string, its words are the strings `name.*`."""
    return gr.HTML(
        value=value,
        html_template=(STATIC / f"{name}.html").read_text(encoding="utf-8"),
        js_on_load=(STATIC / f"{name}.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=name,
        texts={word: studio.texts(f"{name}.{word}") for word in words},
    )

"""The fold under the settings: what most films do not need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape

import gradio as gr

from demo.regions.script import STATIC
from demo.regions.studio import Studio
from demo.sizes import size_choices
from demo.strings import Texts

PICTURE_WORDS = (
    *("title", "hint", "pick", "change", "remove", "alt", "reading", "offline", "taken"),
)


@dataclass(frozen=True)
class Advanced:
    """The fields; the value of `picture` is a data URL, "" for none."""

    picture: gr.HTML
    size: gr.Dropdown
    tempo: gr.Radio
    negative_prompt: gr.Textbox
    scheduler: gr.Dropdown


def build_advanced(studio: Studio) -> Advanced:
    """Lay them out. Size and tempo stay hidden until a model that has them is there."""
    texts = studio.texts
    with gr.Accordion(texts("settings.more"), open=False, elem_id="more"):
        picture = _picture(texts)
        size = gr.Dropdown(
            size_choices(texts, None),
            value="",
            label=texts("settings.size"),
            allow_custom_value=True,
            visible=False,
            elem_id="size",
        )
        tempo = gr.Radio(
            tempo_choices(texts, ("stretch", "steady")),
            value="stretch",
            label=texts("settings.tempo"),
            info=texts("settings.tempo.info"),
            visible=False,
            elem_id="tempo",
        )
        negative = gr.Textbox(
            label=texts("settings.negative"),
            placeholder=texts("settings.negative.placeholder"),
            lines=2,
            elem_id="negative",
        )
        scheduler = gr.Dropdown(
            scheduler_choices(texts, ()),
            value="",
            label=texts("settings.scheduler"),
            elem_id="scheduler",
        )
    return Advanced(picture, size, tempo, negative, scheduler)


def scheduler_choices(texts: Texts, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """The samplers, the model's own first."""
    return [(texts("settings.scheduler.default"), ""), *((name, name) for name in names)]


def tempo_choices(texts: Texts, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """The ways to make a longer clip, under their names."""
    return [(texts(f"settings.tempo.{name}"), name) for name in names]


def _picture(texts: Texts) -> gr.HTML:
    """The start picture: chosen, shown and taken away by its own script."""
    words = escape(json.dumps({word: texts(f"picture.{word}") for word in PICTURE_WORDS}))
    markup = (STATIC / "picture.html").read_text(encoding="utf-8")
    return gr.HTML(
        value="",
        html_template=markup.replace("@texts", words),
        js_on_load=(STATIC / "picture.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="picture",
        label=texts("picture.title"),
    )

"""What a film is asked for with: prompt or class, Generate and Stop, and the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from demo.markup import card_in, hint, no_prompt
from demo.regions.studio import Studio
from demo.strings import Texts


@dataclass(frozen=True)
class Ask:
    """The components with which a film is asked for."""

    prompt: gr.Textbox
    class_label: gr.Dropdown
    unprompted: gr.HTML
    generate: gr.Button
    stop: gr.Button
    chips: list[gr.Button]


def build_ask(studio: Studio) -> Ask:
    """Lay them out."""
    texts = studio.texts
    examples = pick_examples(texts, studio.start.card)
    with gr.Row(elem_id="ask"):
        prompt = gr.Textbox(
            label=texts("prompt.label"),
            placeholder=examples[0],
            lines=2,
            max_lines=4,
            elem_id="prompt",
        )
        class_label = gr.Dropdown(
            [],
            label=texts("prompt.class"),
            visible=False,
            filterable=True,
            elem_id="class",
        )
        unprompted = gr.HTML(
            no_prompt(texts), visible=False, elem_id="unprompted", apply_default_css=False
        )
        with gr.Column(elem_id="go", min_width=150, scale=0):
            generate = gr.Button(texts("prompt.generate"), variant="primary", elem_id="generate")
            stop = gr.Button(texts("prompt.stop"), variant="stop", elem_id="stop")
            gr.HTML(hint(texts), elem_id="hint", apply_default_css=False)
    with gr.Row(elem_id="chips"):
        chips = [gr.Button(text, size="sm", elem_classes="chip") for text in examples]
    return Ask(prompt, class_label, unprompted, generate, stop, chips)


def class_choices(texts: Texts, classes: Sequence[str]) -> list[tuple[str, int]]:
    """The classes under their names; one that has only a number is called by it."""
    return [
        (texts("prompt.class.number", number=name) if name.isdigit() else name, label)
        for label, name in enumerate(classes)
    ]


def pick_examples(texts: Texts, card: Mapping[str, Any]) -> list[str]:
    """Always the same number: the model's own in the page's language, then ours."""
    ours = texts.many("examples")
    own = [str(text) for text in card_in(card, texts).get("examples", ())]
    return [*own, *(text for text in ours if text not in own)][: len(ours)]

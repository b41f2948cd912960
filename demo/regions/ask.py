"""The prompt, Generate and Stop, and the examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from demo.markup import hint
from demo.regions.studio import Studio
from demo.strings import Texts


@dataclass(frozen=True)
class Ask:
    """The components with which a film is asked for."""

    prompt: gr.Textbox
    generate: gr.Button
    stop: gr.Button
    chips: list[gr.Button]


def build_ask(studio: Studio) -> Ask:
    """Lay them out."""
    texts = studio.texts
    with gr.Row(elem_id="ask"):
        prompt = gr.Textbox(
            label=texts("prompt.label"),
            placeholder=texts("prompt.placeholder"),
            lines=2,
            max_lines=4,
            autofocus=True,
            elem_id="prompt",
        )
        with gr.Column(elem_id="go", min_width=150, scale=0):
            generate = gr.Button(texts("prompt.generate"), variant="primary", elem_id="generate")
            stop = gr.Button(texts("prompt.stop"), variant="stop", elem_id="stop")
            gr.HTML(hint(texts), elem_id="hint", apply_default_css=False)
    with gr.Row(elem_id="chips"):
        examples = pick_examples(texts, studio.start.examples)
        chips = [gr.Button(text, size="sm", elem_classes="chip") for text in examples]
    return Ask(prompt, generate, stop, chips)


def pick_examples(texts: Texts, own: Sequence[str]) -> list[str]:
    """Always the same number: the model's own, then ours."""
    ours = texts.many("examples")
    return [*map(str, own), *(text for text in ours if text not in own)][: len(ours)]

"""The settings beside the stage."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from demo.markup import mode_lines
from demo.regions.advanced import Advanced, build_advanced
from demo.regions.studio import Start, Studio
from demo.strings import Texts

MODES = ("video", "image", "joint")
MAX_STILLS = 8


@dataclass(frozen=True)
class Controls:
    """The fields."""

    mode: gr.Radio
    num_images: gr.Slider
    image_prompts: gr.Textbox
    image_classes: gr.Textbox
    seed: gr.Textbox
    dice: gr.Button
    num_frames: gr.Slider
    turbo: gr.Checkbox
    steps: gr.Slider
    guidance: gr.Slider
    budget: gr.Slider
    budget_said: gr.HTML
    advanced: Advanced


def build_controls(studio: Studio) -> Controls:
    """Lay them out."""
    texts = studio.texts
    mode, num_images = _mode(texts)
    own_prompts, own_classes = (_own(texts, what) for what in ("prompts", "classes"))
    seed, dice = _seed(texts)
    num_frames, turbo = _length(texts), _turbo(texts)
    steps, guidance = _amounts(texts, studio.start)
    budget, budget_said = _budget(texts)
    advanced = build_advanced(studio)
    return Controls(
        mode,
        num_images,
        own_prompts,
        own_classes,
        seed,
        dice,
        num_frames,
        turbo,
        steps,
        guidance,
        budget,
        budget_said,
        advanced,
    )


def mode_choices(texts: Texts, modes: tuple[str, ...]) -> list[tuple[str, str]]:
    """The modes under their names."""
    return [(texts(f"settings.mode.{mode}"), mode) for mode in MODES if mode in modes]


def _mode(texts: Texts) -> tuple[gr.Radio, gr.Slider]:
    mode = gr.Radio(
        mode_choices(texts, MODES),
        value="video",
        label=texts("settings.mode"),
        elem_id="mode",
    )
    gr.HTML(mode_lines(texts), elem_id="lessons", apply_default_css=False)
    num_images = gr.Slider(
        1,
        MAX_STILLS,
        value=4,
        step=1,
        label=texts("settings.images"),
        info=texts("settings.images.info"),
        elem_id="num-images",
    )
    return mode, num_images


def _own(texts: Texts, what: str) -> gr.Textbox:
    """A line for each still; classes take the place of prompts in a model of classes."""
    return gr.Textbox(
        label=texts(f"settings.own.{what}"),
        placeholder=texts(f"settings.own.{what}.placeholder"),
        lines=2,
        max_lines=MAX_STILLS,
        visible=what == "prompts",
        elem_id=f"image-{what}",
    )


def _seed(texts: Texts) -> tuple[gr.Textbox, gr.Button]:
    with gr.Row(elem_id="seed-row"):
        seed = gr.Textbox(
            label=texts("settings.seed"),
            placeholder=texts("settings.seed.placeholder"),
            max_lines=1,
            elem_id="seed",
            min_width=120,
        )
        dice = gr.Button(texts("settings.dice"), elem_id="dice", min_width=44, scale=0)
    return seed, dice


def _length(texts: Texts) -> gr.Slider:
    """Frames of the clip, for a model that can make more than one number of them."""
    return gr.Slider(
        1,
        64,
        value=16,
        step=1,
        label=texts("settings.frames"),
        info=texts("settings.frames.info"),
        visible=False,
        elem_id="num-frames",
    )


def _turbo(texts: Texts) -> gr.Checkbox:
    """The few-step transformer, for a model that has one."""
    return gr.Checkbox(
        value=False,
        label=texts("settings.turbo"),
        info=texts("settings.turbo.info"),
        visible=False,
        elem_id="turbo",
    )


def _budget(texts: Texts) -> tuple[gr.Slider, gr.HTML]:
    """Which part of the work is done; it can be set once the model says what can be left out."""
    budget = gr.Slider(
        15,
        100,
        value=100,
        step=1,
        label=texts("settings.budget"),
        info=texts("settings.budget.info"),
        interactive=False,
        elem_id="budget",
    )
    return budget, gr.HTML("", elem_id="budget-said", apply_default_css=False)


def _amounts(texts: Texts, start: Start) -> tuple[gr.Slider, gr.Slider]:
    steps = gr.Slider(
        1,
        100,
        value=start.steps,
        step=1,
        label=texts("settings.steps"),
        info=texts("settings.steps.info"),
        elem_id="steps",
    )
    guidance = gr.Slider(
        1,
        15,
        value=start.guidance,
        step=0.1,
        label=texts("settings.guidance"),
        info=texts("settings.guidance.info"),
        elem_id="guidance",
    )
    return steps, guidance

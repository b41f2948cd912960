"""Which event of the page does what: running a film, and following the model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from demo.markup import about_model, model_line, model_name
from demo.regions.ask import Ask, pick_examples
from demo.regions.controls import Controls, mode_choices, scheduler_choices
from demo.regions.masthead import Masthead
from demo.regions.studio import QUIET, UNCHECKED, Start, Studio
from demo.story import say_loading
from demo.strings import Texts

if TYPE_CHECKING:
    from demo.executors import Readiness

DICE_JS = "() => String(crypto.getRandomValues(new Uint32Array(1))[0])"
BUSY_JS = "(...values) => { document.body.classList.add('ls-busy'); return values; }"


@dataclass(frozen=True)
class Widgets:
    """The regions of the Studio tab."""

    masthead: Masthead
    ask: Ask
    controls: Controls
    stage: gr.HTML
    about: gr.HTML

    def request_fields(self) -> dict[str, Any]:
        """The fields of a request that the page offers, by the request's names."""
        controls = self.controls
        return {
            "prompt": self.ask.prompt,
            "negative_prompt": controls.negative_prompt,
            "mode": controls.mode,
            "num_images": controls.num_images,
            "seed": controls.seed,
            "num_inference_steps": controls.steps,
            "guidance_scale": controls.guidance,
            "scheduler": controls.scheduler,
        }


def wire_run(page: gr.Blocks, studio: Studio, widgets: Widgets) -> None:
    """Generate, Stop, examples, dice, and the closed tab."""
    handlers, ask, controls = studio.handlers, widgets.ask, widgets.controls
    fields = widgets.request_fields()

    def play(values: dict[Any, Any], page: gr.Request) -> Iterator[str]:
        asked = {name: values[field] for name, field in fields.items()}
        yield from handlers.generate(asked, page.session_hash or "")

    ask.generate.click(
        play,
        set(fields.values()),
        widgets.stage,
        js=BUSY_JS,
        trigger_mode="multiple",
        **UNCHECKED,
        **QUIET,
    )
    ask.stop.click(handlers.stop, **QUIET)
    page.unload(handlers.stop)
    for chip in ask.chips:
        chip.click(None, chip, ask.prompt, js="(text) => text", **QUIET)
    controls.dice.click(None, None, controls.seed, js=DICE_JS, **QUIET)
    widgets.stage.reuse(handlers.keep_seed, None, controls.seed, **QUIET)
    controls.mode.change(
        lambda mode: gr.update(visible=mode != "video"),
        controls.mode,
        controls.num_images,
        **QUIET,
    )


def follow_model(page: gr.Blocks, studio: Studio, widgets: Widgets) -> None:
    """Show every visitor how the model gets on, then what it can do."""

    async def watch() -> AsyncIterator[list[Any]]:
        async for readiness in studio.handlers.watch_model():
            yield show_model(readiness, studio.texts, studio.start)

    controls = widgets.controls
    fields = [controls.mode, controls.steps, controls.guidance, controls.scheduler]
    outputs = [widgets.masthead.model, widgets.about, *fields, *widgets.ask.chips]
    page.load(watch, None, outputs, **QUIET)


def show_model(readiness: Readiness, texts: Texts, start: Start) -> list[Any]:
    """Updates of the model line, what is said about it, the fields and the chips."""
    info = readiness.info
    chips = len(texts.many("examples"))
    if info is None:
        text = say_loading(texts, readiness.loading)
        if readiness.failure:
            text = texts("model.failed", message=readiness.failure)
        line = model_line(text, "failed" if readiness.failure else "loading")
        return [line, *[gr.skip()] * (5 + chips)]
    ready = texts("model.ready", name=model_name(info), device=info.device)
    steps, guidance = info.defaults.num_inference_steps, info.defaults.guidance_scale
    examples = pick_examples(texts, info.card.get("examples", ()))
    return [
        model_line(ready, "ready"),
        about_model(info, texts),
        gr.update(choices=mode_choices(texts, info.modes)),
        # What the visitor has set meanwhile stays, where the start values were right.
        gr.skip() if steps == start.steps else gr.update(value=steps),
        gr.skip() if guidance == start.guidance else gr.update(value=guidance),
        gr.update(choices=scheduler_choices(texts, info.schedulers)),
        *(gr.update(value=text) for text in examples),
    ]
